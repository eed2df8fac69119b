"""From texts to planned rows: tokenize once, cut windows, know every row's length before any row exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rerank_core.errors import InputError, short
from rerank_core.planning import batching
from rerank_core.planning.longdoc import LongDoc, checked_windows, covers_all, default_overlap, longest_first
from rerank_core.scorer import Batch, Output, QueryRow, Row, Scorer, Tokens
from rerank_core.types import Document

__all__ = ["Job", "Plan", "QueryRows", "RowPlan", "Rules", "Window"]


@dataclass(frozen=True)
class Rules:
    """How texts become rows, settled before the call. ``overlap`` None is the strategy's default.

    ``longest_first``, ``stacked`` and ``max_chars`` are ways of other frameworks; see `manners.CompatRules`. Where
    ``max_piece`` is set, the literal text around a query or document counts to its limit, which for a document it is.
    """

    longdoc: LongDoc
    max_length: int
    max_query_length: int | None = None
    overlap: int | None = None
    token_budget: int | None = None
    longest_first: bool = False
    stacked: bool = False
    max_chars: int | None = None
    max_piece: int | None = None


@dataclass(frozen=True)
class Job:
    """One query and its documents, checked; ``number`` is its position in the caller's list."""

    query: str
    documents: Sequence[Document]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A row that is planned but not assembled: which tokens of which document, and how long the row will be.

    ``query_tokens`` is how many tokens of the query it reads; None for all.
    """

    query: int
    doc: int
    number: int
    start: int
    stop: int
    length: int
    query_tokens: int | None = None


class Plan(Protocol):
    """What the pipeline needs to know of the rows of a call, however they come about."""

    @property
    def windows(self) -> Sequence[Window]: ...
    @property
    def query_rows(self) -> Mapping[int, QueryRow]: ...
    @property
    def query_truncated(self) -> Sequence[bool]: ...
    @property
    def duplicates(self) -> Mapping[int, int]: ...
    def batches(self) -> list[list[int]]: ...
    def forward(self, positions: Sequence[int]) -> Output: ...
    def chars(self, window: Window) -> tuple[int, int]: ...
    def truncated(self, query: int, doc: int) -> bool: ...


class QueryRows:
    """The queries of a call: tokenized once, cut only by ``max_query_length``, and that is remembered."""

    def __init__(self, scorer: Scorer, jobs: Sequence[Job], rules: Rules) -> None:
        limit = rules.max_query_length
        texts = list(dict.fromkeys(job.query for job in jobs))
        tokens = dict(zip(texts, scorer.tokenize(texts, "query"), strict=True))
        self.jobs = jobs
        self.tokens = [tokens[job.query] for job in jobs]
        self.truncated = [False] * len(jobs)
        for query, whole in enumerate(self.tokens if limit is not None else ()):
            kept = max(1, (limit or 0) - (0 if rules.max_piece is None else len(whole.lead)))
            if len(whole) > kept:
                self.tokens[query], self.truncated[query] = whole.first(kept), True
        rows = [scorer.query_row(tokens) for tokens in self.tokens]
        self.rows = {query: row for query, row in enumerate(rows) if row is not None}

    def room(self, scorer: Scorer, query: int, doc: Tokens, max_length: int) -> tuple[int, int]:
        """Tokens of a row beside the document's, and tokens left for this document's.

        Raises:
            InputError: nothing is left.
        """
        overhead = scorer.overhead(self.tokens[query], doc)
        shared = len(self.rows[query].ids) if query in self.rows else 0
        room = max_length - overhead - (shared if scorer.layout == "prefix" else 0)
        if room < 1 or (scorer.layout == "separate" and shared > (scorer.max_positions or max_length)):
            raise InputError(
                f"query {self.jobs[query].number} ({short(self.jobs[query].query)}) has {len(self.tokens[query])} "
                f"tokens; with "
                f"max_length={max_length} that leaves no room. Shorten it, cut it with max_query_length=, "
                "or raise max_length where the model allows"
            )
        return overhead, room


class RowPlan:
    """The windows of texts, and their rows when a batch asks for them.

    Attributes:
        duplicates: windows that are another one over again (same query, text and place), and which one; they are in no
            batch.
    """

    def __init__(self, scorer: Scorer, jobs: Sequence[Job], rules: Rules, *, deduplicate: bool = True) -> None:
        self._scorer = scorer
        self._jobs = jobs
        self._budget = rules.token_budget or scorer.token_budget
        self._queries = QueryRows(scorer, jobs, rules)
        self.query_rows: Mapping[int, QueryRow] = self._queries.rows
        self.query_truncated: Sequence[bool] = self._queries.truncated
        self._chars = rules.max_chars
        texts = list(dict.fromkeys(document.text for job in jobs for document in job.documents))
        self._docs = dict(zip(texts, scorer.tokenize([text[: self._chars] for text in texts], "doc"), strict=True))
        self._whole: dict[tuple[int, int], bool] = {}
        self.windows: Sequence[Window] = list(self._cut(rules))
        self.duplicates: Mapping[int, int] = self._duplicates() if deduplicate else {}

    def _cut(self, rules: Rules) -> Iterator[Window]:
        for query, job in enumerate(self._jobs):
            for doc in range(len(job.documents)):
                tokens = self._tokens(query, doc)
                if rules.longest_first:
                    yield self._cut_longest_first(query, doc, tokens, rules.max_length)
                    continue
                overhead, room = self._queries.room(self._scorer, query, tokens, rules.max_length)
                if rules.max_piece is not None:
                    room = max(1, min(room, rules.max_piece - len(tokens.lead)))
                overlap = default_overlap(room) if rules.overlap is None else rules.overlap
                spans = checked_windows(rules.longdoc, len(tokens), room, overlap)
                self._whole[query, doc] = covers_all(spans, len(tokens)) and not self._clipped(query, doc)
                self._check_any(query, doc, overhead + len(tokens))
                for number, (start, stop) in enumerate(spans):
                    yield Window(query, doc, number, start, stop, overhead + stop - start)

    def _check_any(self, query: int, doc: int, length: int) -> None:
        """Refuse a row of no tokens that nothing stands before: there is nothing to read a score of."""
        row = self.query_rows.get(query)
        if length == 0 and self._scorer.layout != "separate" and (row is None or not row.ids):
            raise InputError(
                f"query {self._jobs[query].number} ({short(self._jobs[query].query)}) and document {doc} "
                f"({short(self._jobs[query].documents[doc].text)}) are no tokens for this model's tokenizer, and its "
                "template adds none; give a query that it can spell"
            )

    def _cut_longest_first(self, query: int, doc: int, tokens: Tokens, max_length: int) -> Window:
        asked = self._queries.tokens[query]
        own = self._scorer.overhead(asked, tokens) - len(asked)
        if max_length <= own:
            raise InputError(f"max_length={max_length} leaves no token beside the {own} of the template")
        kept, read = longest_first(len(asked), len(tokens), max_length - own)
        if kept < len(asked):
            self._queries.truncated[query] = True
        self._whole[query, doc] = read == len(tokens) and not self._clipped(query, doc)
        return Window(query, doc, 0, 0, read, own + kept + read, query_tokens=kept)

    def _clipped(self, query: int, doc: int) -> bool:
        return self._chars is not None and len(self._jobs[query].documents[doc].text) > self._chars

    def _duplicates(self) -> dict[int, int]:
        first: dict[tuple[str, str, int, int], int] = {}
        found = {}
        for position, window in enumerate(self.windows):
            job = self._jobs[window.query]
            key = (job.query, job.documents[window.doc].text, window.start, window.stop)
            if first.setdefault(key, position) != position:
                found[position] = first[key]
        return found

    def _tokens(self, query: int, doc: int) -> Tokens:
        return self._docs[self._jobs[query].documents[doc].text]

    def query_tokens(self, query: int) -> Tokens:
        """The tokens of a query that its rows read."""
        return self._queries.tokens[query]

    def tokens(self, window: Window) -> Tokens:
        """All tokens of a window's document."""
        return self._tokens(window.query, window.doc)

    def row(self, window: Window) -> Row:
        query = self._queries.tokens[window.query]
        return self._scorer.row(
            query if window.query_tokens is None else query.first(window.query_tokens),
            self._tokens(window.query, window.doc),
            window.start,
            window.stop,
            (window.query, window.doc, window.number),
        )

    def batches(self) -> list[list[int]]:
        own = [position for position in range(len(self.windows)) if position not in self.duplicates]
        planned = batching.batches(
            [self.windows[position].length for position in own],
            [self.windows[position].query for position in own],
            {query: len(row.ids) for query, row in self.query_rows.items()},
            budget=self._budget,
            packed=self._scorer.packed,
        )
        return [[own[place] for place in batch] for batch in planned]

    def forward(self, positions: Sequence[int]) -> Output:
        rows = [self.row(self.windows[position]) for position in positions]
        queries = {row.query: self.query_rows[row.query] for row in rows if row.query in self.query_rows}
        return self._scorer.forward(Batch(queries, rows))

    def chars(self, window: Window) -> tuple[int, int]:
        """Character offsets of a window in the caller's text. A window owns what stands between its last token and
        the next one (white space, characters that make no token), the first one also what stands before it."""
        tokens = self._tokens(window.query, window.doc)
        text = self._jobs[window.query].documents[window.doc].text
        start = 0 if window.start == 0 else tokens.starts[window.start]
        stop = len(text[: self._chars]) if window.stop == len(tokens) else tokens.starts[window.stop]
        # Several tokens may spell one character and share its place; then the last one ends after the next begins.
        return start, max(stop, tokens.stops[window.stop - 1] if window.stop else 0)

    def truncated(self, query: int, doc: int) -> bool:
        return not self._whole[query, doc]
