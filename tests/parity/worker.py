"""Runs inside the environment of the originals: reads one JSON request a line, answers with their scores.

Nothing of rerank-core is imported here, and nothing of the frameworks is changed.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import warnings
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")


@functools.cache
def flagembedding(directory: str, max_length: int) -> Any:
    from FlagEmbedding import FlagReranker

    return FlagReranker(directory, use_fp16=False, devices="cpu", max_length=max_length)


@functools.cache
def rag_retrieval(directory: str, max_length: int) -> Any:
    from rag_retrieval import Reranker

    return Reranker(directory, model_type="cross-encoder", device="cpu", verbose=0)


@functools.cache
def bcembedding(directory: str, max_length: int) -> Any:
    from BCEmbedding import RerankerModel

    return RerankerModel(directory, device="cpu", max_length=max_length)


@functools.cache
def decoder(kind: str, directory: str, max_length: int) -> Any:
    from FlagEmbedding import FlagLLMReranker, LayerWiseFlagLLMReranker, LightWeightFlagLLMReranker

    classes = {
        "plain": FlagLLMReranker,
        "layerwise": LayerWiseFlagLLMReranker,
        "lightweight": LightWeightFlagLLMReranker,
    }
    return classes[kind](directory, devices="cpu", max_length=max_length)


@functools.cache
def rag_decoder(directory: str) -> Any:
    from rag_retrieval import Reranker

    return Reranker(directory, model_type="llm", device="cpu", verbose=0)


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Write a random checkpoint of one of FlagEmbedding's own architectures, and say what its tensors are called."""
    import torch
    from FlagEmbedding.inference.reranker.decoder_only.models.configuration_minicpm_reranker import (
        LayerWiseMiniCPMConfig,
    )
    from FlagEmbedding.inference.reranker.decoder_only.models.gemma_config import CostWiseGemmaConfig
    from FlagEmbedding.inference.reranker.decoder_only.models.gemma_model import CostWiseGemmaForCausalLM
    from FlagEmbedding.inference.reranker.decoder_only.models.modeling_minicpm_reranker import (
        LayerWiseMiniCPMForCausalLM,
    )

    kinds = {
        "layerwise": (LayerWiseMiniCPMConfig, LayerWiseMiniCPMForCausalLM),
        "lightweight": (CostWiseGemmaConfig, CostWiseGemmaForCausalLM),
    }
    config, model = kinds[request["kind"]]
    torch.manual_seed(0)
    made = model(config(**request["config"]))
    made.save_pretrained(request["directory"])
    return {"tensors": {name: list(tensor.shape) for name, tensor in made.state_dict().items()}}


def causal(request: dict[str, Any]) -> dict[str, Any]:
    pairs = [[request["query"], doc] for doc in request["docs"]]
    length, more = request["max_length"], request.get("more", {})
    if request["framework"] == "rag-retrieval":
        model = rag_decoder(request["directory"])
        return {"scores": many(model.compute_score(pairs, max_length=length, enable_tqdm=False, **more))}
    scores = decoder(request["kind"], request["directory"], length).compute_score(pairs, **more)
    return {"scores": scores}


def many(scores: Any) -> list[float]:
    """Two of the frameworks give a bare number for a single pair."""
    return [float(scores)] if isinstance(scores, float) else [float(score) for score in scores]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["entry"] == "make":
        return make(request)
    if request["entry"] == "causal":
        return causal(request)
    framework, entry = request["framework"], request["entry"]
    directory, length = request["directory"], request["max_length"]
    query, docs = request["query"], request["docs"]
    pairs = [[query, doc] for doc in docs]
    if framework == "flagembedding":
        return {"scores": many(flagembedding(directory, length).compute_score(pairs))}
    if framework == "rag-retrieval":
        model = rag_retrieval(directory, length)
        if entry == "compute_score":
            return {"scores": many(model.compute_score(pairs, max_length=length, enable_tqdm=False))}
        ranked = model.rerank(query, docs, max_length=length)
        if isinstance(ranked, dict):
            return {"order": [], "scores": []}
        return {
            "order": [result.doc_id for result in ranked.results],
            "scores": [float(result.score) for result in ranked.results],
        }
    model = bcembedding(directory, length)
    if entry == "compute_score":
        return {"scores": many(model.compute_score(pairs, max_length=length, enable_tqdm=False))}
    ranked = model.rerank(query, docs)
    return {"order": ranked.get("rerank_ids", []), "scores": [float(score) for score in ranked["rerank_scores"]]}


def main() -> None:
    # The frameworks print; answers go to the pipe that was stdout, their words to stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 -- what they raise is part of what is compared
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
