"""Causal rerankers, each in the environment of what it times: ``llm_engines.py NAME DIRECTORY``, then as engines.py.

The directory's ``bench.json`` says which template it stands for: Qwen3-Reranker's, or BGE's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import engines
from engines import Score, pairs

LENGTH = 1024
PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def settings(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(directory) / "bench.json").read_text(encoding="utf-8"))
    return found


def ours(directory: str) -> Score:
    import rerank_core

    options = {"compat": "flagembedding"} if settings(directory)["template"] == "bge" else {"longdoc": "firstp"}
    name = {"qwen3": "qwen3-reranker-0.6b", "bge": "bge-llm-gemma"}[settings(directory)["template"]]
    model = rerank_core.load(name, checkpoint=directory, device="cpu", max_length=LENGTH, activation="none", **options)
    return lambda asked: [score for ranking in model.rerank_many(asked) for score in ranking.scores()]


def sentence_transformers(directory: str) -> Score:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(directory, device="cpu", max_length=LENGTH, model_kwargs={"dtype": torch.float32})
    plain = torch.nn.Identity()
    return lambda asked: model.predict(pairs(asked), activation_fn=plain, show_progress_bar=False).tolist()


def flagembedding(directory: str) -> Score:
    from FlagEmbedding import FlagLLMReranker

    model = FlagLLMReranker(directory, use_fp16=False, devices="cpu", max_length=LENGTH)
    return lambda asked: model.compute_score(pairs(asked))


def transformers(directory: str) -> Score:
    """Plain Hugging Face with care: last-token logits, length-sorted batches of 32, no cache."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    given = settings(directory)

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def row(query: str, doc: str) -> list[int]:
        if given["template"] == "qwen3":
            body = given["body"].replace("{query}", query).replace("{doc}", doc)
            return [*ids(given["before"]), *ids(body), *ids(given["after"])]
        end = [*ids("\n"), *ids(PROMPT)]
        return [1, *ids("A: " + query), *ids("\n"), *ids("B: " + doc), *end]

    positive, negative = ("yes", "no") if given["template"] == "qwen3" else ("Yes", None)

    @torch.inference_mode()
    def score(asked: list[tuple[str, list[str]]]) -> list[float]:
        rows = [row(query, doc) for query, doc in pairs(asked)]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            width = len(rows[chosen[0]])
            batch = torch.zeros(len(chosen), width, dtype=torch.long)
            mask = torch.zeros(len(chosen), width, dtype=torch.long)
            for number, place in enumerate(chosen):
                batch[number, width - len(rows[place]) :] = torch.tensor(rows[place])
                mask[number, width - len(rows[place]) :] = 1
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = model(
                input_ids=batch, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
            ).logits[:, -1]
            values = logits[:, ids(positive)[0]]
            if negative is not None:
                values = values - logits[:, ids(negative)[0]]
            for place, value in zip(chosen, values.tolist(), strict=True):
                found[place] = value
        return found

    return score


engines.ENGINES = {
    "ours": ours, "sentence-transformers": sentence_transformers, "flagembedding": flagembedding,
    "transformers": transformers,
}  # fmt: skip

if __name__ == "__main__":
    engines.main(*sys.argv[1:])
