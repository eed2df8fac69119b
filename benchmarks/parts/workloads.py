"""Models with random weights and the real XLM-R tokenizer, and real queries with real passages, to be timed."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TypeAlias

__all__ = ["LAYERS", "SHAPES", "Requests", "checkpoint", "requests", "token_count"]

Requests: TypeAlias = list[tuple[str, list[str]]]

LAYERS = 12
SHAPES = {"12x384": 384, "12x768": 768}
"""Hidden width of each shape. 12 x 768 is bge-reranker-base; 12 x 384 is a small multilingual cross-encoder."""


def checkpoint(folder: Path, shape: str, data: Path) -> Path:
    """The checkpoint of a shape, written once: 12 layers, 12 heads, and the 250,002 tokens of XLM-R."""
    directory = folder / shape
    if (directory / "model.safetensors").exists():
        return directory
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    width = SHAPES[shape]
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data / "tokenizers" / "xlm-roberta" / "tokenizer.json", directory / "tokenizer.json")
    roles = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    settings = {"tokenizer_class": "XLMRobertaTokenizerFast", "model_max_length": 512}
    settings.update({f"{role}_token": token for role, token in roles.items()})
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=250_002, num_hidden_layers=LAYERS, hidden_size=width, num_attention_heads=12,
        intermediate_size=4 * width, max_position_embeddings=514, type_vocab_size=1, num_labels=1,
        initializer_range=0.05,  # large enough for scores to differ
    )  # fmt: skip
    XLMRobertaForSequenceClassification(config).save_pretrained(str(directory))
    return directory


def requests(workload: str, data: Path) -> Requests:
    """Queries with their documents.

    ``dl19``: one query and its BM25 top 100; ``dl19-1`` and ``dl19-10``: its top 1 and 10. ``dl19-20x50``: twenty
    queries with fifty each. ``t2rank``: one query of T2Rank100 with its own documents and others of the set, 100 in
    all, a fifth of them over 512 tokens; ``t2rank-sample``: 40 of those.
    """
    if workload.startswith("dl19"):
        file = data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json"
        entries = json.loads(file.read_text(encoding="utf-8"))
        sizes = {"dl19": (1, 100), "dl19-1": (1, 1), "dl19-10": (1, 10), "dl19-20x50": (20, 50)}
        queries, depth = sizes[workload]
        return [(e["query"], [hit["content"] for hit in e["hits"][:depth]]) for e in entries[:queries]]
    lines = (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    documents = [text for entry in entries for text in (*entry["pos"], *entry["neg"])]
    draw = random.Random(2026)
    sample = draw.sample(documents, 100)
    return [(entries[0]["query"], sample[: 100 if workload == "t2rank" else 40])]


def token_count(directory: Path, texts: Requests) -> int:
    """Number of tokens of the rows, without padding: texts cut at 512, with the four special tokens of a pair."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    total = 0
    for query, docs in texts:
        first, *others = (len(each.ids) for each in tokenizer.encode_batch([query, *docs], add_special_tokens=False))
        total += sum(min(512, first + other + 4) for other in others)
    return total
