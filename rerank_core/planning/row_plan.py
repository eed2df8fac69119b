"""`RowPlan`: tokenizes texts once, cuts documents into windows and computes each row's length before assembling it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rerank_core.errors import InputError, short
from rerank_core.planning import batching
from rerank_core.planning.longdoc import LongDoc, checked_windows, covers_all, default_overlap, longest_first
from rerank_core.planning.parallel import token_budget, worker_count
from rerank_core.planning.shared_tokens import Tokenize
from rerank_core.scorer import Batch, Output, QueryRow, Row, Scorer, Tokens
from rerank_core.types import Document

__all__ = ["Job", "Plan", "QueryRows", "RowPlan", "Rules", "Window"]


@dataclass(frozen=True)
class Rules:
    """How texts become rows in a call.

    Attributes:
        max_length: the maximum tokens of one row, template included.
        max_query_length: longer queries are cut to this many tokens; None to leave queries whole.
        overlap: tokens that neighbouring windows share; None for `default_overlap`.
        token_budget: tokens computed at the same time on one device; None for the scorer's.
        longest_first, stacked, max_chars: rules of other frameworks; see `rerank_core.spec.compat.CompatRules`.
        max_piece: caps a document piece, literal template text included; where it is set, literal text also counts in
            ``max_query_length``.
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
    """One query and its checked documents.

    Attributes:
        number: the query's position in the caller's list.
        first_stage: the retriever's scores as given, one per document, None where a document has none; None where
            they are not used.
    """

    query: str
    documents: Sequence[Document]
    number: int = 0
    first_stage: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A planned row: tokens ``start:stop`` of a document, and the length of the row in tokens.

    Attributes:
        query: position of the job in the plan.
        doc: position in the job's documents.
        number: which window of the document, from 0.
        query_tokens: the number of the query's tokens in the row; None for all.
    """

    query: int
    doc: int
    number: int
    start: int
    stop: int
    length: int
    query_tokens: int | None = None


class Plan(Protocol):
    """The rows of a call, as the pipeline uses them: planned from texts (`RowPlan`) or taken from an index.

    See `RowPlan` for the members. ``query_truncated`` says per job whether its query was cut.
    """

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
    """The tokenized queries of a call, cut to ``max_query_length``.

    Attributes:
        tokens, truncated: per job, the query's tokens and whether it was cut, here or later by ``longest_first``.
        rows: the query rows of the jobs that have one, by position.
    """

    def __init__(self, scorer: Scorer, jobs: Sequence[Job], rules: Rules, tokenize: Tokenize | None = None) -> None:
        limit = rules.max_query_length
        texts = list(dict.fromkeys(job.query for job in jobs))
        tokens = dict(zip(texts, (tokenize or scorer.tokenize)(texts, "query"), strict=True))
        self.jobs = jobs
        self.tokens = [tokens[job.query] for job in jobs]
        self.truncated = [False] * len(jobs)
        for position, query in enumerate(self.tokens if limit is not None else ()):
            allowed = max(1, (limit or 0) - (0 if rules.max_piece is None else len(query.lead)))
            if len(query) > allowed:
                self.tokens[position], self.truncated[position] = query.first(allowed), True
        rows = [scorer.query_row(query) for query in self.tokens]
        self.rows = {query: row for query, row in enumerate(rows) if row is not None}

    def room(self, scorer: Scorer, query: int, doc: Tokens, max_length: int) -> tuple[int, int]:
        """The tokens of a row that are not the document's, and the tokens left for the document.

        Raises:
            InputError: no token is left for the document.
        """
        overhead = scorer.overhead(self.tokens[query], doc)
        shared = len(self.rows[query].ids) if query in self.rows else 0
        room = max_length - overhead - (shared if scorer.layout == "prefix" else 0)
        if room < 1 or (scorer.layout == "separate" and shared > (scorer.max_positions or max_length)):
            raise self._no_room(query, max_length, overhead if scorer.layout == "separate" else 0)
        return overhead, room

    def _no_room(self, query: int, max_length: int, around: int) -> InputError:
        """The error for a row without room; ``around`` is the text around a document that is encoded on its own."""
        if around >= max_length:
            return InputError(
                f"the text around a document, such as its prompt, takes {around} tokens; with max_length={max_length} "
                "that leaves no room for the document. Shorten it, or raise max_length where the model allows"
            )
        own, row = len(self.tokens[query]), self.rows.get(query)
        more = f", and {len(row.ids)} with its prompt and expansion" if row is not None and len(row.ids) > own else ""
        return InputError(
            f"query {self.jobs[query].number} ({short(self.jobs[query].query)}) has {own} tokens{more}; with "
            f"max_length={max_length} that leaves no room. Shorten it, cut it with max_query_length=, "
            "or raise max_length where the model allows"
        )


class RowPlan:
    """The windows of the documents of all jobs. A row is assembled when its batch is computed.

    Args:
        tokenize: used in place of ``scorer.tokenize``, to whose tokens its own must be equal.

    Attributes:
        duplicates: positions of windows that repeat an earlier one (same query, text and tokens), and the position of
            that earlier one. They are in no batch.
    """

    def __init__(
        self,
        scorer: Scorer,
        jobs: Sequence[Job],
        rules: Rules,
        *,
        deduplicate: bool = True,
        tokenize: Tokenize | None = None,
    ) -> None:
        self._scorer = scorer
        self._jobs = jobs
        self._budget = token_budget(scorer, rules.token_budget)
        self._queries = QueryRows(scorer, jobs, rules, tokenize)
        self.query_rows: Mapping[int, QueryRow] = self._queries.rows
        self.query_truncated: Sequence[bool] = self._queries.truncated
        self._max_chars = rules.max_chars
        texts = list(dict.fromkeys(document.text for job in jobs for document in job.documents))
        read = [text[: self._max_chars] for text in texts]
        self._docs = dict(zip(texts, (tokenize or scorer.tokenize)(read, "doc"), strict=True))
        self._complete: dict[tuple[int, int], bool] = {}
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
                self._complete[query, doc] = covers_all(spans, len(tokens)) and not self._clipped(query, doc)
                self._check_not_empty(query, doc, overhead + len(tokens))
                for number, (start, stop) in enumerate(spans):
                    yield Window(query, doc, number, start, stop, tokens.row_length(overhead, start, stop))

    def _check_not_empty(self, query: int, doc: int, length: int) -> None:
        """Refuse a row without any token, which has no position to read a score at."""
        row = self.query_rows.get(query)
        if length == 0 and self._scorer.layout != "separate" and (row is None or not row.ids):
            raise InputError(
                f"query {self._jobs[query].number} ({short(self._jobs[query].query)}) and document {doc} "
                f"({short(self._jobs[query].documents[doc].text)}) have no tokens for this model's tokenizer, and "
                "its template adds none; give a query with characters that the tokenizer knows"
            )

    def _cut_longest_first(self, query: int, doc: int, tokens: Tokens, max_length: int) -> Window:
        query_tokens = self._queries.tokens[query]
        template = self._scorer.overhead(query_tokens, tokens) - len(query_tokens)
        if max_length <= template:
            raise InputError(
                f"max_length={max_length} leaves no token beside the {template} of the template; raise max_length"
            )
        query_count, doc_count = longest_first(len(query_tokens), len(tokens), max_length - template)
        if query_count < len(query_tokens):
            self._queries.truncated[query] = True
        self._complete[query, doc] = doc_count == len(tokens) and not self._clipped(query, doc)
        length = tokens.row_length(template + query_count, 0, doc_count)
        return Window(query, doc, 0, 0, doc_count, length, query_tokens=query_count)

    def _clipped(self, query: int, doc: int) -> bool:
        """Whether ``max_chars`` cut the document's text."""
        return self._max_chars is not None and len(self._jobs[query].documents[doc].text) > self._max_chars

    def _duplicates(self) -> dict[int, int]:
        first: dict[tuple[str, str, int, int], int] = {}
        duplicates = {}
        for position, window in enumerate(self.windows):
            job = self._jobs[window.query]
            key = (job.query, job.documents[window.doc].text, window.start, window.stop)
            if first.setdefault(key, position) != position:
                duplicates[position] = first[key]
        return duplicates

    def _tokens(self, query: int, doc: int) -> Tokens:
        return self._docs[self._jobs[query].documents[doc].text]

    def query_tokens(self, query: int) -> Tokens:
        """The tokens of a query, cut by ``max_query_length``."""
        return self._queries.tokens[query]

    def tokens(self, window: Window) -> Tokens:
        """All tokens of a window's document."""
        return self._tokens(window.query, window.doc)

    def row(self, window: Window) -> Row:
        """The assembled row of a window."""
        query = self._queries.tokens[window.query]
        return self._scorer.row(
            query if window.query_tokens is None else query.first(window.query_tokens),
            self._tokens(window.query, window.doc),
            window.start,
            window.stop,
            (window.query, window.doc, window.number),
        )

    def batches(self) -> list[list[int]]:
        """The positions of the windows of each batch, duplicates left out."""
        distinct = [position for position in range(len(self.windows)) if position not in self.duplicates]
        batches = batching.batches(
            [self.windows[position].length for position in distinct],
            [self.windows[position].query for position in distinct],
            {query: len(row.ids) for query, row in self.query_rows.items()},
            budget=self._budget,
            packed=self._scorer.packed,
            workers=worker_count(self._scorer),
        )
        return [[distinct[row] for row in batch] for batch in batches]

    def forward(self, positions: Sequence[int]) -> Output:
        """The scorer's output for the windows of a batch."""
        rows = [self.row(self.windows[position]) for position in positions]
        queries = {row.query: self.query_rows[row.query] for row in rows if row.query in self.query_rows}
        return self._scorer.forward(Batch(queries, rows))

    def chars(self, window: Window) -> tuple[int, int]:
        """Character offsets of a window in the caller's text. A window includes the characters between its last token
        and the next one (white space, characters without a token); the first window includes those before it."""
        tokens = self._tokens(window.query, window.doc)
        text = self._jobs[window.query].documents[window.doc].text
        start = 0 if window.start == 0 else tokens.starts[window.start]
        stop = len(text[: self._max_chars]) if window.stop == len(tokens) else tokens.starts[window.stop]
        # Several tokens may share one character; then the last token ends after the next one begins.
        return start, max(stop, tokens.stops[window.stop - 1] if window.stop else 0)

    def truncated(self, query: int, doc: int) -> bool:
        """Whether some of the document is in no window."""
        return not self._complete[query, doc]
