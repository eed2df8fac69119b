"""Prints a ranking: as a table, or with ``--explain`` with the best passage of each hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_core.cli.output import note, printable, show, table, terminal_width, warn
from rerank_core.types import Hit, Match, Ranking

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["show_ranking"]

_SNIPPET = 100
"""Characters of a text in the table if stdout is not a terminal."""
_PASSAGE = 1500
"""Most characters shown of a passage."""
_PAIRS = 8
"""Most pairs of matched words in the line below a passage."""


def show_ranking(ranking: Ranking, *, explain: bool = False) -> None:
    """Print the hits on stdout, and a summary with warnings about truncated texts on stderr."""
    if explain:
        for hit in ranking:
            show(_explained(hit, ranking.query))
    elif ranking.hits:
        show(_table(ranking))
    note(_summary(ranking))
    for warning in _warnings(ranking):
        warn(warning)


def _name(hit: Hit) -> str:
    """The document's id, or its position in the input."""
    return f"#{hit.index}" if hit.document.id is None else str(hit.document.id)


def _table(ranking: Ranking) -> Table:
    from rich.cells import cell_len

    names = [printable(_name(hit)) for hit in ranking]
    scores = [f"{hit.score:.4f}" for hit in ranking]
    rows = [
        (str(hit.rank), score, name, _snippet(hit.document.text))
        for hit, score, name in zip(ranking, scores, names, strict=True)
    ]
    shown = table(("rank", "score", "id", "text"), rows, right=("rank", "score"), wrap=("id",))
    ids, texts = shown.columns[2:]
    texts.overflow = "ellipsis"
    texts.max_width = _SNIPPET
    width = terminal_width()
    if width is not None:
        # Ids are shown whole and wrap if needed; the text gets the remaining width of one line.
        ids.width = max(2, min(max(map(cell_len, names)), width // 2))
        texts.max_width = max(10, width - ids.width - max(5, *map(len, scores)) - len("rank") - 8)
    return shown


def _snippet(text: str) -> str:
    """The beginning of a text, on one line."""
    return " ".join(printable(text.lstrip()[:1000]).split())


def _explained(hit: Hit, query: str) -> RenderableType:
    from rich.console import Group
    from rich.constrain import Constrain
    from rich.padding import Padding
    from rich.text import Text

    heading = Text.assemble((f"{hit.rank:>4}  {hit.score:.4f}  ", "bold"), (printable(_name(hit)), "bold cyan"))
    summary = Padding(Text(_passage_summary(hit), "dim"), (0, 0, 0, 6))
    passage = hit.best_passage
    if passage is None:
        return Group(heading, summary)
    text = hit.document.text[passage.start : passage.stop]
    start = passage.start + len(text) - len(text.lstrip())
    stop = passage.start + len(text.rstrip())
    body = _marked(hit, start, min(stop, start + _PASSAGE))
    if stop - start > _PASSAGE:
        body.append(f" … and {stop - start - _PASSAGE:,} more characters", "dim")
    parts: list[RenderableType] = [heading, summary, Constrain(Padding(body, (0, 0, 0, 6)), _SNIPPET + 6)]
    if hit.matches:
        parts.append(Constrain(Padding(Text(_pairs(hit, query), "dim"), (0, 0, 0, 6)), _SNIPPET + 6))
    return Group(*parts, Text())


def _passage_summary(hit: Hit) -> str:
    """Position, raw score and rank of the best passage of a hit."""
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
        warnings.append(f"{count} not read to the end: {named}; --longdoc maxp reads whole documents")
    if ranking.query_truncated:
        warnings.append("the query was cut; raise --max-query-length to read all of it")
    return warnings


def _marked(hit: Hit, start: int, stop: int) -> Text:
    """``text[start:stop]`` of the hit's document: words that match the query in bold, the strongest underlined."""
    from rich.text import Text

    text = hit.document.text
    body = Text()
    position = start
    strongest = max((match.weight for match in hit.matches if match.query), default=0.0)
    spans: dict[tuple[int, int], float] = {}
    for match in hit.matches:
        if match.query and match.document and start <= match.document[0] and match.document[1] <= stop:
            spans[match.document] = max(match.weight, spans.get(match.document, match.weight))
    for (first, last), weight in sorted(spans.items()):
        if first < position:
            continue
        body.append(printable(text[position:first]), "green")
        body.append(
            printable(text[first:last]), "bold green underline" if weight >= strongest / 2 > 0 else "bold green"
        )
        position = last
    body.append(printable(text[position:stop]), "green")
    return body


def _pairs(hit: Hit, query: str) -> str:
    """The words of the query, each with the word that it matched and the weight, strongest first."""
    matches = sorted((match for match in hit.matches if match.query), key=lambda match: -match.weight)
    shown = [
        f"{_word(query, match.query, match.query_token)} → {_matched_word(hit, match)}" for match in matches[:_PAIRS]
    ]
    more = len(matches) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _matched_word(hit: Hit, match: Match) -> str:
    return f"{_word(hit.document.text, match.document, match.document_token)} {match.weight:.3f}"


def _word(text: str, span: tuple[int, int] | None, token: str) -> str:
    return printable(token if span is None else text[span[0] : span[1]]).strip() or token
