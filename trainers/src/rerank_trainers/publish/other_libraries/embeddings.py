"""Embedding models: `SentenceTransformer` of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import ModelSpec
from rerank_trainers.publish.other_libraries.plain import Plain, Score, release_of
from rerank_trainers.publish.other_libraries.separate_rows import cut_note, fits_separately
from rerank_trainers.publish.probes import Pair

__all__ = ["Embeddings"]


class Embeddings(Plain):
    """The cosine, or product, of the vectors of a query and a document."""

    def ways(self, folder: Path) -> Mapping[str, Score]:
        """sentence-transformers from release 6 on; earlier ones strip texts, and 4 has no `encode_query`."""
        reads = release_of("sentence-transformers") >= 6 and (folder / "modules.json").is_file()
        return {"sentence-transformers": _similarities} if reads else {}

    def fits(self, tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
        """See `Plain.fits`."""
        return fits_separately(tokenizer, spec, pair)

    def card(self, spec: ModelSpec, folder: Path | None) -> list[str]:
        """See `Plain.card`."""
        code = [
            "from sentence_transformers import SentenceTransformer",
            "",
            'folder, query, doc = "path/to/this/folder", "what is a panda?", "a bear"',
            "model = SentenceTransformer(folder)",
            "score = model.similarity(model.encode_query(query), model.encode_document(doc)).item()",
        ]
        return [
            "In sentence-transformers the raw score of one document, from the vectors of both texts, is:\n",
            *(f"    {line}".rstrip() for line in code),
            "",
            cut_note(spec),
        ]


def _similarities(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    queries, docs = map(list, zip(*pairs, strict=True))
    vectors = [
        encode(texts, show_progress_bar=False, convert_to_tensor=True)
        for encode, texts in ((model.encode_query, queries), (model.encode_document, docs))
    ]
    scores: list[float] = model.similarity_pairwise(*vectors).tolist()
    return scores
