"""`plain_scores` and `plain_use`: each kind of head has a `Plain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from rerank_core import ModelSpec
from rerank_trainers.publish.other_libraries.cross_encoders import CrossEncoders
from rerank_trainers.publish.other_libraries.embeddings import Embeddings
from rerank_trainers.publish.other_libraries.late_interaction import LateInteraction
from rerank_trainers.publish.other_libraries.pieces import Pieces
from rerank_trainers.publish.other_libraries.plain import Plain
from rerank_trainers.publish.probes import Pair

__all__ = ["plain_scores", "plain_use"]

Scores: TypeAlias = list[float | None]

# By the kind of head and whether its template is the tokenizer's layout of a pair.
_PLAIN: dict[tuple[str, bool], Plain] = {
    ("classifier", True): CrossEncoders(),
    ("classifier", False): Pieces(),
    ("last_token", False): Pieces(),
    ("cosine", False): Embeddings(),
    ("maxsim", False): LateInteraction(),
}


def plain_scores(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> dict[str, Scores]:
    """Raw scores by library, of those that are installed and read such models; None for pairs that they lay out
    differently.

    These are pairs that do not fit a row (other libraries cut them) and texts that spell special tokens (other
    libraries parse them).

    Raises:
        RuntimeError: a library failed; names it.
    """
    plain = _plain_of(spec)
    ways = {} if plain is None else plain.ways(folder)
    if plain is None or not ways:
        return {}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    chosen = [at for at, pair in enumerate(pairs) if plain.fits(tokenizer, spec, pair)]
    by_library: dict[str, Scores] = {}
    for library, score in ways.items():
        try:
            scores = score(folder, spec, [pairs[at] for at in chosen]) if chosen else []
        except Exception as error:  # any error of a library in the folder
            raise RuntimeError(f"{library} cannot score with it: {type(error).__name__}: {error}") from error
        by_library[library] = [None] * len(pairs)
        for at, value in zip(chosen, scores, strict=True):
            by_library[library][at] = value
    return by_library


def plain_use(spec: ModelSpec, folder: Path | None = None) -> list[str]:
    """Lines of a card: how other libraries score with the folder, by the code that `plain_scores` runs.

    Args:
        folder: the published folder; with it, a late-interaction model's card says which libraries read it and how
            their scores differ.
    """
    plain = _plain_of(spec)
    if plain is None:
        return [
            "Scoring needs rerank-core: transformers reads the weights, but has no head or row layout of this kind."
        ]
    return plain.card(spec, folder)


def _plain_of(spec: ModelSpec) -> Plain | None:
    if spec.scorer is not None or spec.head is None:
        return None
    return _PLAIN.get((spec.head.kind, spec.template.wrap == "pair"))
