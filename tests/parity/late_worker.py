"""Runs inside an environment of PyLate, sentence-transformers or FlagEmbedding: makes late-interaction checkpoints and
scores with them, one document at a time, so that no document is padded. Nothing of rerank-core is imported here."""

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
def pylate(directory: str) -> Any:
    from pylate import models

    return models.ColBERT(directory, device="cpu")


@functools.cache
def sentence_transformers(directory: str) -> Any:
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(directory, device="cpu")


@functools.cache
def bge_m3(directory: str) -> Any:
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(directory, use_fp16=False, devices="cpu")


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Have the framework save a folder, from an encoder or from another's folder."""
    import torch

    torch.manual_seed(0)
    if request["framework"] == "pylate":
        from pylate import models

        models.ColBERT(request["base"], device="cpu", **request["settings"]).save(request["directory"])
        return {}
    from sentence_transformers import MultiVectorEncoder

    model: Any = MultiVectorEncoder(request["base"], device="cpu")
    settings = request["settings"]
    for name in ("query_expansion", "document_length", "query_length"):
        if name in settings:
            setattr(model[0], name, settings[name])
    for module in model:
        for name in ("skiplist_words", "skiplist_tasks"):
            if name in settings and hasattr(module, name):
                setattr(module, name, settings[name])
    model.prompts = settings.get("prompts", model.prompts)
    if "similarity" in settings:
        model.similarity_fn_name = settings["similarity"]
    model.save(request["directory"])
    return {}


def score(request: dict[str, Any]) -> dict[str, Any]:
    directory, query, docs = request["directory"], request["query"], request["docs"]
    if request["framework"] == "pylate":
        from pylate import rank

        model = pylate(directory)
        prompts = ("query", "document") if request.get("prompts") else (None, None)
        asked = model.encode([query], is_query=True, prompt_name=prompts[0], show_progress_bar=False)
        encoded = [model.encode([doc], is_query=False, prompt_name=prompts[1], show_progress_bar=False) for doc in docs]
        return {"scores": [float(rank.rerank([[0]], asked, [own])[0][0]["score"]) for own in encoded]}
    if request["framework"] == "sentence-transformers":
        model = sentence_transformers(directory)
        asked = model.encode_query([query], show_progress_bar=False)
        encoded = [model.encode_document([doc], show_progress_bar=False) for doc in docs]
        return {"scores": [float(model.similarity(asked, own)[0][0]) for own in encoded]}
    length = request["max_length"]
    found: dict[str, list[float]] = {}
    for doc in docs:
        answer = bge_m3(directory).compute_score(
            [[query, doc]], max_query_length=length, max_passage_length=length,
            weights_for_different_modes=request.get("weights"),
        )  # fmt: skip
        for name, values in answer.items():
            found.setdefault(name, []).append(float(values[0]))
    return found


def main() -> None:
    # The frameworks print; answers go to the pipe that was stdout, their words to stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = make(request) if request["entry"] == "make" else score(request)
        except Exception as error:  # noqa: BLE001 -- what they raise is part of what is compared
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
