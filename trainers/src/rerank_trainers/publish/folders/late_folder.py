"""`LateFolder`: the facts of a folder with a late-interaction model that the layouts of other libraries depend on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core import Head, InputError, ModelSpec, TokenVectors
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_trainers.publish.folders.json_files import read_object
from rerank_trainers.publish.folders.prompts import Prompts, prompts_of

__all__ = ["LateFolder"]


@dataclass(frozen=True)
class LateFolder:
    """A folder and its spec, whose head is `Head.maxsim`.

    Attributes:
        head, vectors: of the spec.
        prompts: the text before a query and before a document.
    """

    folder: Path
    spec: ModelSpec
    head: Head
    vectors: TokenVectors
    prompts: Prompts

    @classmethod
    def of(cls, folder: Path, spec: ModelSpec) -> LateFolder:
        """Read a folder that has the encoder, the tokenizer and the layers that the head names.

        Raises:
            InputError: another head, or a template that prompts cannot express.
        """
        head = spec.head
        if head is None or head.vectors is None:
            raise InputError(f"model {spec.name!r} is no late-interaction model: its head is {head!r}")
        return cls(folder, spec, head, head.vectors, prompts_of(spec))

    @property
    def markers(self) -> Prompts:
        """The marker of queries and of documents; empty for none."""
        return Prompts(self.spec.template.query_marker, self.spec.template.doc_marker)

    @functools.cached_property
    def tokenizer(self) -> TextTokenizer:
        """The folder's tokenizer."""
        return TextTokenizer.from_directory(self.folder)

    @functools.cached_property
    def frame(self) -> tuple[list[str], list[str]]:
        """The tokens that the tokenizer puts before and behind a text."""
        encoding = self.tokenizer.raw.encode("a")
        own = [position for position, number in enumerate(encoding.sequence_ids) if number is not None]
        return encoding.tokens[: own[0]], encoding.tokens[own[-1] + 1 :]

    @functools.cached_property
    def dense(self) -> dict[str, dict[str, Any]] | None:
        """The settings of the layers after the encoder by folder; None if one of them is no folder of Dense."""
        settings = {name: read_object(self.folder / name / "config.json") for name in self.vectors.projection}
        return settings if all("in_features" in config for config in settings.values()) else None

    @functools.cached_property
    def skipped(self) -> list[str]:
        """The words of the skip-list that are tokens; rerank-core ignores others, and PyLate would skip the unknown
        token for them."""
        return [word for word in self.vectors.skip if self.tokenizer.raw.token_to_id(word) is not None]

    @functools.cached_property
    def query_limit(self) -> int | None:
        """The longest row of a query: the spec's limit for queries, prompt, marker and special tokens included."""
        if self.spec.max_query_length is None:
            return None
        lead = len(self.tokenizer.encode(["a"], before=self.prompts.query)[0].lead)
        return sum(map(len, self.frame)) + bool(self.markers.query) + lead + self.spec.max_query_length

    def fault(self) -> str | None:
        """Why neither sentence-transformers nor PyLate can express the model; None if they can."""
        if self.dense is None:
            return f"the projection {self.vectors.projection!r} is not in Dense folders"
        raw = self.tokenizer.raw
        added = {token.content for token in raw.get_added_tokens_decoder().values()}
        for marker in filter(None, self.markers):
            if marker not in added and len(raw.encode(marker, add_special_tokens=False).ids) == 1:
                return f"the marker {marker!r} is an ordinary word, which would be read as the marker in every text"
        return None
