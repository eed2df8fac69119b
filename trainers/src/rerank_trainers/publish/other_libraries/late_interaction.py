"""Late-interaction models: `MultiVectorEncoder` of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import ModelSpec
from rerank_trainers.publish.folders.colbert import Layout, Layouts, layouts_of
from rerank_trainers.publish.other_libraries.plain import Plain, Score, release_of
from rerank_trainers.publish.other_libraries.separate_rows import cut_note, fits_separately
from rerank_trainers.publish.other_libraries.template_text import written
from rerank_trainers.publish.probes import Pair

__all__ = ["LateInteraction"]


class LateInteraction(Plain):
    """MaxSim over the token vectors of a query and a document."""

    def ways(self, folder: Path) -> Mapping[str, Score]:
        """sentence-transformers from release 6 on, if the folder has its files."""
        reads = release_of("sentence-transformers") >= 6 and (folder / "modules.json").is_file()
        return {"sentence-transformers": _similarities} if reads else {}

    def fits(self, tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
        """See `Plain.fits`; a query that fills a row has no place for more tokens, and PyLate's layout cuts it. A text
        without any token, as a tokenizer without special tokens gives it, has the score -1e9 in other libraries."""
        vectors = None if spec.head is None else spec.head.vectors
        if not all(tokenizer(text)["input_ids"] for text in written(spec, pair)):
            return False
        return fits_separately(tokenizer, spec, pair, most=None if vectors is None else vectors.expand_to)

    def card(self, spec: ModelSpec, folder: Path | None) -> list[str]:
        """See `Plain.card`; with what `write_colbert` left out, and how scores of other libraries differ."""
        notes: list[str] = []
        if folder is not None:
            layouts = layouts_of(folder, spec)
            if "sentence-transformers" not in layouts.written:
                (reason,) = layouts.notes["sentence-transformers"]
                return [f"Scoring needs rerank-core; sentence-transformers cannot express the model: {reason}."]
            notes = _layout_notes(layouts)
        code = [
            "from sentence_transformers import MultiVectorEncoder",
            "",
            'folder, query, doc = "path/to/this/folder", "what is a panda?", "a bear"',
            "model = MultiVectorEncoder(folder)",
            "score = model.similarity(model.encode_query(query), model.encode_document(doc)).item()",
        ]
        return [
            "In sentence-transformers, from release 6 on, the raw score of one document is:\n",
            *(f"    {line}".rstrip() for line in code),
            "",
            cut_note(spec),
            *notes,
        ]


def _layout_notes(layouts: Layouts) -> list[str]:
    """Lines about PyLate, and about BGE-M3's readers if the folder has their file."""
    lines = []
    uses: dict[Layout, str] = {"pylate": "`pylate.models.ColBERT(folder)` reads it", "bge-m3": "It has BGE-M3's file"}
    for layout, use in uses.items():
        notes = "; ".join(layouts.notes[layout])
        if layout in layouts.written:
            lines.append(f"{use}{f': {notes}' if notes else ''}.")
        elif layout == "pylate":
            lines.append(f"PyLate cannot express the model: {notes}.")
    return lines


def _similarities(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    queries, docs = map(list, zip(*pairs, strict=True))
    scores: list[float] = model.similarity_pairwise(
        model.encode_query(queries, show_progress_bar=False), model.encode_document(docs, show_progress_bar=False)
    ).tolist()
    return scores
