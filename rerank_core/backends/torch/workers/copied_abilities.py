"""The optional protocols of scorers, for copies of a model; `copies_of` gives a scorer those that its copies have."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import torch

from rerank_core.backends.torch.workers.copies import CopyState, ScorerCopies, Turns
from rerank_core.backends.torch.workers.devices import devices_of
from rerank_core.errors import InputError
from rerank_core.index.protocols import EmbeddingStore, EncodesTexts, Explains, Indexable, Storable
from rerank_core.scorer import (
    AnyScorer,
    ComparableTokens,
    Configurable,
    Identified,
    Output,
    QueryRow,
    Resumable,
    Row,
    Scorer,
    Stackable,
    Templated,
)

__all__ = ["build_copies", "copies_of"]


def build_copies(build: Callable[[str, bool], AnyScorer], devices: str, model: str) -> AnyScorer:
    """A copy of a model on each device, as one scorer; for a single device the scorer itself.

    Args:
        build: makes the scorer for a device; the flag says to use downloaded files only, so that all copies have the
            same weights.
        devices: the option ``device``, see `devices_of`.
        model: its name, for messages.

    Raises:
        InputError: a device that cannot be used, or a scorer of whole texts.
    """
    names = devices_of(devices)
    copies: list[Any] = []
    try:
        for name in names:
            copies.append(build(name, bool(copies)))
            if not isinstance(copies[0], Scorer):
                raise InputError(
                    f"device is {devices!r}, and {model!r} scores whole texts one after the other; name one device, or "
                    "leave it out where the model runs elsewhere"
                )
    except BaseException:
        for copy in copies:
            getattr(copy, "close", lambda: None)()
        raise
    scorer: AnyScorer = copies[0] if len(copies) == 1 else copies_of(copies, names)
    return scorer


def copies_of(copies: Sequence[Any], devices: Sequence[str], turns: Turns | None = None) -> Any:
    """The copies as one scorer, which implements the optional protocols that they implement."""
    abilities = tuple(kind for protocol, kind in _ABILITIES if isinstance(copies[0], protocol))
    kind = type("ScorerCopies", (*abilities, ScorerCopies), {})
    return kind(copies, devices, turns)


class _Copies(ScorerCopies):
    """A base whose copies have the methods of the protocol in question."""

    copies: tuple[Any, ...]

    def _others(self, copies: Sequence[Any]) -> Any:
        """The same models with other settings."""
        return copies_of(copies, self.devices, self.turns)


class _Resumes(_Copies):
    @property
    def keep(self) -> Sequence[int]:
        keep: Sequence[int] = self.copies[0].keep
        return keep

    def resume(self, state: CopyState, rows: Sequence[int]) -> Output:
        with self.turns.take(state.copy) as number:
            return self.with_copy(number, self.copies[number].resume(state.state, rows))


class _Configures(_Copies):
    def configured(self, options: Mapping[str, Any]) -> Any:
        return self._others([copy.configured(options) for copy in self.copies])


class _Stacks(_Copies):
    def stacked(self) -> Any:
        return self._others([copy.stacked() for copy in self.copies])


class _HasParts(_Copies):
    @property
    def parts(self) -> Mapping[str, int]:
        parts: Mapping[str, int] = self.copies[0].parts
        return parts


class _Compares(_Copies):
    def token_key(self, side: Literal["query", "doc"]) -> Hashable:
        return type(self.copies[0]).tokenize, self.copies[0].token_key(side)


class _Identifies(_Copies):
    def identity(self) -> Mapping[str, Any]:
        identity: Mapping[str, Any] = self.copies[0].identity()
        return identity


class _Indexes(_Copies):
    """Any copy encodes. Embeddings are brought to the first copy's device, which stores and compares them."""

    def encode(self, rows: Sequence[Row]) -> list[Any]:
        with self.turns.take() as number:
            return self._at_first(number, self.copies[number].encode(rows))

    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Any]]) -> Output:
        with self.turns.take(0):
            output: Output = self.copies[0].match(queries, items)
            return output

    def _at_first(self, number: int, embeddings: list[Any]) -> list[Any]:
        if self.devices[number] == self.devices[0]:
            return embeddings
        return moved(embeddings, torch.device(self.devices[0]))


class _EncodesTexts(_Indexes):
    def encode_queries(self, queries: Sequence[QueryRow]) -> list[Any]:
        with self.turns.take() as number:
            return self._at_first(number, self.copies[number].encode_queries(queries))

    def arrays(self, embeddings: Sequence[Any]) -> Any:
        return self.copies[0].arrays(embeddings)


class _Stores(_Copies):
    def store(self, directory: str | None, precision: str | None, identity: Mapping[str, Any]) -> EmbeddingStore:
        store: EmbeddingStore = self.copies[0].store(directory, precision, identity)
        return store


class _Explains(_Copies):
    def explain(self, query: QueryRow, row: Row, embedding: Any) -> Sequence[tuple[int, int, float]]:
        matches: Sequence[tuple[int, int, float]] = self.copies[0].explain(query, row, embedding)
        return matches

    def token_text(self, token: int) -> str:
        return str(self.copies[0].token_text(token))


_ABILITIES: tuple[tuple[Any, type[_Copies]], ...] = (
    (Resumable, _Resumes),
    (Configurable, _Configures),
    (Stackable, _Stacks),
    (Templated, _HasParts),
    (ComparableTokens, _Compares),
    (Identified, _Identifies),
    (EncodesTexts, _EncodesTexts),
    (Indexable, _Indexes),
    (Storable, _Stores),
    (Explains, _Explains),
)


def moved(embeddings: Sequence[Mapping[str, torch.Tensor]], device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Embeddings on another device, each part of all rows in one transfer."""
    found: list[dict[str, torch.Tensor]] = [{} for _ in embeddings]
    for name in embeddings[0] if embeddings else ():
        parts = [embedding[name] for embedding in embeddings]
        there = torch.split(torch.cat(parts).to(device), [len(part) for part in parts])
        for own, part in zip(found, there, strict=True):
            own[name] = part
    return found
