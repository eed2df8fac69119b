"""Causal rerankers, each in the environment of its library: run as ``llm_engines.py NAME DIRECTORY``; worker.py
defines requests and answers.

The directory's ``bench.json`` names the template: Qwen3-Reranker's or BGE's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engines.cross_encoder_engines import Requests, Score, main, pairs

LENGTH = 1024
PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def prompt_of(directory: str) -> dict[str, Any]:
    """``bench.json`` of a checkpoint: the template's name, and its texts where the library needs them."""
    prompt: dict[str, Any] = json.loads((Path(directory) / "bench.json").read_text(encoding="utf-8"))
    return prompt


def ours(directory: str) -> Score:
    import rerank_core

    template = prompt_of(directory)["template"]
    options = {"compat": "flagembedding"} if template == "bge" else {"longdoc": "firstp"}
    name = {"qwen3": "qwen3-reranker-0.6b", "bge": "bge-llm-gemma"}[template]
    model = rerank_core.load(name, checkpoint=directory, device="cpu", max_length=LENGTH, activation="none", **options)
    return lambda requests: [score for ranking in model.rerank_many(requests) for score in ranking.scores()]


def sentence_transformers(directory: str) -> Score:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(directory, device="cpu", max_length=LENGTH, model_kwargs={"dtype": torch.float32})
    plain = torch.nn.Identity()
    return lambda requests: model.predict(pairs(requests), activation_fn=plain, show_progress_bar=False).tolist()


def flagembedding(directory: str) -> Score:
    from FlagEmbedding import FlagLLMReranker

    model = FlagLLMReranker(directory, use_fp16=False, devices="cpu", max_length=LENGTH)
    return lambda requests: model.compute_score(pairs(requests))


def transformers(directory: str) -> Score:
    """Hugging Face code as an expert would write it: last-token logits, length-sorted batches of 32, no cache."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    prompt = prompt_of(directory)

    def ids(text: str) -> list[int]:
        token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return token_ids

    def row(query: str, doc: str) -> list[int]:
        if prompt["template"] == "qwen3":
            body = prompt["body"].replace("{query}", query).replace("{doc}", doc)
            return [*ids(prompt["before"]), *ids(body), *ids(prompt["after"])]
        end = [*ids("\n"), *ids(PROMPT)]
        return [1, *ids("A: " + query), *ids("\n"), *ids("B: " + doc), *end]

    positive, negative = ("yes", "no") if prompt["template"] == "qwen3" else ("Yes", None)

    @torch.inference_mode()
    def score(requests: Requests) -> list[float]:
        rows = [row(query, doc) for query, doc in pairs(requests)]
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            width = len(rows[chosen[0]])
            batch = torch.zeros(len(chosen), width, dtype=torch.long)
            mask = torch.zeros(len(chosen), width, dtype=torch.long)
            for number, index in enumerate(chosen):
                batch[number, width - len(rows[index]) :] = torch.tensor(rows[index])
                mask[number, width - len(rows[index]) :] = 1
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = model(
                input_ids=batch, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
            ).logits[:, -1]
            values = logits[:, ids(positive)[0]]
            if negative is not None:
                values = values - logits[:, ids(negative)[0]]
            for index, value in zip(chosen, values.tolist(), strict=True):
                scores[index] = value
        return scores

    return score


ENGINES = {
    "ours": ours, "sentence-transformers": sentence_transformers, "flagembedding": flagembedding,
    "transformers": transformers,
}  # fmt: skip

if __name__ == "__main__":
    main(*sys.argv[1:], engines=ENGINES)
