"""A ranking for people: a table, or with ``--explain`` the passage that won under each hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_core.cli.output import console, note, plain, table, warn
from rerank_core.types import Hit, Ranking

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_ranking"]

_SNIPPET = 100
"""Characters of a text on one line where no terminal sets the width."""
_PASSAGE = 1500
"""Characters shown of a passage."""


def show_ranking(ranking: Ranking, *, explain: bool = False) -> None:
    """Hits on stdout; what they cost, and what was cut, on stderr."""
    screen = console()
    if explain:
        for hit in ranking:
            _explain(screen, hit)
    elif ranking.hits:
        _table(screen, ranking)
    note(_summary(ranking))
    for warning in _warnings(ranking):
        warn(warning)


def _name(hit: Hit) -> str:
    """The document's id, or its position in the input."""
    return f"#{hit.index}" if hit.document.id is None else str(hit.document.id)


def _table(screen: Console, ranking: Ranking) -> None:
    from rich.cells import cell_len

    names = [plain(_name(hit)) for hit in ranking]
    scores = [f"{hit.score:.4f}" for hit in ranking]
    rows = [
        (str(hit.rank), score, name, _snippet(hit.document.text))
        for hit, score, name in zip(ranking, scores, names, strict=True)
    ]
    shown = table(("rank", "score", "id", "text"), rows, right=("rank", "score"))
    id_column, text_column = shown.columns[2:]
    widest = max(map(cell_len, names))
    if screen.is_terminal:
        # The id is shown whole, on several lines if it must be; the text takes what is left of one line.
        id_column.width = max(2, min(widest, screen.width // 2))
        taken = len("rank") + max(5, *map(len, scores)) + id_column.width + 6
        text_column.max_width = max(10, screen.width - taken - 1)
    else:
        id_column.width = max(2, widest)
        text_column.max_width = _SNIPPET
    text_column.no_wrap, text_column.overflow = True, "ellipsis"
    screen.print(shown)


def _snippet(text: str) -> str:
    """The beginning of a text on one line."""
    return " ".join(plain(text.lstrip()[:1000]).split())


def _explain(screen: Console, hit: Hit) -> None:
    from rich.padding import Padding
    from rich.text import Text

    heading = Text.assemble((f"{hit.rank:>4}  {hit.score:.4f}  ", "bold"), (plain(_name(hit)), "bold cyan"))
    screen.print(heading, soft_wrap=True)
    screen.print(Text(f"      {_reading(hit)}", "dim"), soft_wrap=True)
    passage = hit.best_passage
    if passage is not None:
        text = hit.document.text[passage.start : passage.stop].strip()
        rest = len(text) - _PASSAGE
        body = Text(plain(text[:_PASSAGE]), "green")
        if rest > 0:
            body.append(f" … and {rest:,} more characters", "dim")
        width = min(screen.width, 106)
        screen.print(Padding(body, (0, 0, 1, 6), expand=False), width=width)


def _reading(hit: Hit) -> str:
    """Which passage won, and among how many."""
    passage = hit.best_passage
    if passage is None:
        return "no passage was read"
    length = len(hit.document.text)
    count = len(hit.passages)
    among = "the only passage" if count == 1 else f"the best of {count} passages"
    parts = [f"characters {passage.start:,}-{passage.stop:,} of {length:,}", f"raw score {passage.score:.4f}", among]
    if len(hit.scores) > 1:
        parts.append(", ".join(f"{name} {score:.4f}" for name, score in hit.scores.items()))
    return " · ".join(parts)


def _summary(ranking: Ranking) -> str:
    documents = len(ranking.scores())
    usage = ranking.usage
    counted = "1 document" if documents == 1 else f"{documents:,} documents"
    parts = [
        ranking.model,
        counted if len(ranking) == documents else f"{len(ranking):,} of {counted}",
        f"{ranking.score_space} scores",
        f"{usage.passages:,} passages" if usage.tokens is None else f"{usage.tokens:,} tokens",
        f"{usage.seconds:.2f} s",
    ]
    return " · ".join(parts)


def _warnings(ranking: Ranking) -> list[str]:
    warnings = []
    cut = [_name(hit) for hit in ranking if hit.truncated]
    if cut:
        named = ", ".join(cut[:5]) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")
        count = "1 document was" if len(cut) == 1 else f"{len(cut)} documents were"
        warnings.append(f"{count} not read to the end: {named}; --longdoc maxp reads all of a document")
    if ranking.query_truncated:
        warnings.append("the query was cut; raise --max-query-length to have all of it read")
    return warnings
