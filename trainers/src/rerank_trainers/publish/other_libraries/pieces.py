"""Models whose row is made of separately tokenized pieces, classifiers and language models: transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import ModelSpec
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.decoder.heads import label_ids
from rerank_trainers.publish.other_libraries.plain import Plain, Score, spells_specials
from rerank_trainers.publish.other_libraries.template_text import NOTE, as_code, marked, pieces, written
from rerank_trainers.publish.probes import Pair

__all__ = ["Pieces"]


class Pieces(Plain):
    """The logit of a classifier for a row; of a language model that of the positive label after it, minus that of the
    negative label."""

    def ways(self, folder: Path) -> Mapping[str, Score]:
        """Only transformers."""
        return {"transformers": _by_pieces}

    def fits(self, tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
        """See `Plain.fits`."""
        if spells_specials(tokenizer, pair):
            return False
        query_length = len(tokenizer(written(spec, pair)[0], add_special_tokens=False)["input_ids"])
        length = len(_row(tokenizer, spec, pair))
        return length <= spec.max_length and query_length <= (spec.max_query_length or length)

    def card(self, spec: ModelSpec, folder: Path | None) -> list[str]:
        """See `Plain.card`."""
        classifies = spec.head is not None and spec.head.kind == "classifier"
        kind = "AutoModelForSequenceClassification" if classifies else "AutoModelForCausalLM"
        texts = pieces(spec, marked("tokenizer.bos_token or str()"), (marked("query"), marked("doc")))
        code = [
            f"from transformers import {kind}, AutoTokenizer",
            "import torch",
            "",
            'folder, query, doc = "path/to/this/folder", "what is a panda?", "a bear"',
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            f"model = {kind}.from_pretrained(folder, dtype=torch.float32)",
            f"pieces = [{', '.join(map(as_code, texts))}]  # each is tokenized on its own",
            "ids = [id for piece in pieces for id in tokenizer.encode(piece, add_special_tokens=False)]",
            *(["score = model(torch.tensor([ids])).logits.item()"] if classifies else _label_code(spec)),
        ]
        return [
            "In plain transformers the raw score of one document is:\n",
            *(f"    {line}".rstrip() for line in code),
            "",
            NOTE,
        ]


def _label_code(spec: ModelSpec) -> list[str]:
    """The score of a language model from its logits, as Python code."""
    assert spec.head is not None
    labels = [label for label in (spec.head.positive, spec.head.negative) if label is not None]
    ids = [
        f"logits[{label}]"
        if isinstance(label, int)
        else f"logits[tokenizer.encode({label!r}, add_special_tokens=False)[0]]"
        for label in labels
    ]
    return ["logits = model(torch.tensor([ids])).logits[0, -1]", f"score = ({' - '.join(ids)}).item()"]


def _row(tokenizer: Any, spec: ModelSpec, pair: Pair) -> list[int]:
    row = pieces(spec, tokenizer.bos_token, pair)
    return [token for piece in row for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def _by_pieces(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    assert spec.head is not None
    classifies = spec.head.kind == "classifier"
    auto = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    module = auto.from_pretrained(str(folder), dtype=torch.float32).eval()
    words = [0] if classifies else label_ids(spec.head, TextTokenizer.from_directory(folder), spec.name)
    scores = []
    for pair in pairs:
        with torch.no_grad():
            output = module(input_ids=torch.tensor([_row(tokenizer, spec, pair)])).logits[0]
        logits = output if classifies else output[-1]
        scores.append(float(logits[words[0]] - (logits[words[1]] if len(words) == 2 else 0.0)))
    return scores
