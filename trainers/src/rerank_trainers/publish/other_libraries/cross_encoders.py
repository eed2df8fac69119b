"""Cross-encoders in the tokenizer's layout of a pair: transformers, and `CrossEncoder` of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import ModelSpec
from rerank_trainers.publish.other_libraries.plain import Plain, Score, release_of, spells_specials
from rerank_trainers.publish.other_libraries.template_text import NOTE, as_code, marked, written
from rerank_trainers.publish.probes import Pair

__all__ = ["CrossEncoders"]


class CrossEncoders(Plain):
    """The logit of a classifier with one label."""

    def ways(self, folder: Path) -> Mapping[str, Score]:
        """transformers, and sentence-transformers from release 4 on, which takes a dtype and reads an activation."""
        found: dict[str, Score] = {"transformers": _classified}
        if release_of("sentence-transformers") >= 4:
            found["sentence-transformers"] = _crossed
        return found

    def fits(self, tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
        """See `Plain.fits`."""
        if spells_specials(tokenizer, pair):
            return False
        query, doc = written(spec, pair)
        query_length = len(tokenizer(query, add_special_tokens=False)["input_ids"])
        length = len(tokenizer(query, doc)["input_ids"])
        return length <= spec.max_length and query_length <= (spec.max_query_length or length)

    def card(self, spec: ModelSpec, folder: Path | None) -> list[str]:
        """See `Plain.card`."""
        given = marked("query"), marked("doc")
        texts = written(spec, given)
        code = [
            "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
            "import torch",
            "",
            'folder, query, doc = "path/to/this/folder", "what is a panda?", "a bear"',
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            "model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)",
            f'inputs = tokenizer({", ".join(map(as_code, texts))}, truncation=True, return_tensors="pt")',
            "score = model(**inputs).logits.item()",
        ]
        remark = "" if texts == given else ", with query and document written as in that call"
        return [
            "In plain transformers the raw score of one document is:\n",
            *(f"    {line}".rstrip() for line in code),
            "",
            f"sentence-transformers loads it as a `CrossEncoder`{remark}. {NOTE}",
        ]


def _classified(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    """All pairs in one padded batch, as users run them."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    module = AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32).eval()
    queries, docs = map(list, zip(*(written(spec, pair) for pair in pairs), strict=True))
    inputs = tokenizer(queries, docs, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        scores: list[float] = module(**inputs).logits[:, 0].tolist()
    return scores


def _crossed(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    """`CrossEncoder.predict`; checks that its activation is the one that the folder names."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    applied = type(model.activation_fn).__name__.lower().replace("identity", "none")
    if applied != spec.activation:
        raise ValueError(f"it applies {applied!r} to the score, and the folder names {spec.activation!r}")
    texts = [written(spec, pair) for pair in pairs]
    scores: list[float] = model.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()
    return scores
