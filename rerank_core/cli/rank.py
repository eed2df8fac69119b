"""``rerank rank``: documents in, a ranking out."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from rerank_core.cli.exit_codes import staying
from rerank_core.cli.output import AsJson, Encoding, emit_json, note
from rerank_core.cli.show_ranking import show_ranking
from rerank_core.errors import InputError
from rerank_core.loading import load
from rerank_core.plugins.isolation import output_aside
from rerank_core.records.document_options import Fields, Format
from rerank_core.types import query_of

__all__ = ["rank"]


def rank(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the documents are ranked for.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILES", help="Files of documents; none or '-' is stdin.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A name from `rerank models`, a hub id or a directory.")
    ] = "mini",
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Show at most this many hits.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Show only hits with at least this score.")] = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Late interaction: keep documents' embeddings here; texts seen before are not encoded again.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show the passage that won under each hit, and for late interaction which words matched."
        ),
    ] = False,
    as_json: AsJson = False,
    form: Annotated[
        Format, typer.Option("--format", help="How files are cut into documents; see above.")
    ] = Format.auto,
    text_field: Annotated[str, typer.Option(help="The key or column of the text.")] = "text",
    id_field: Annotated[str, typer.Option(help="The key or column of the id.")] = "id",
    encoding: Encoding = None,
    longdoc: Annotated[str | None, typer.Option(help="Long documents: firstp, maxp, meanp, kmaxp or kmaxp:K.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Tokens that neighbouring passages share.")] = None,
    compat: Annotated[
        str | None,
        typer.Option(
            help="Cut texts as another framework does: flagembedding, rag-retrieval, bcembedding or model-card."
        ),
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of one passage, template included.")] = None,
    max_query_length: Annotated[
        int | None, typer.Option(help="Cut longer queries to this many tokens; by default none is cut.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Of the scores: default (as its authors ship the model), none, sigmoid.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or its number 1, mps; by default the best.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 (default), float16, bfloat16, or int8 (CPU).")] = None,
    token_budget: Annotated[int | None, typer.Option(help="Tokens computed in one forward pass.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A directory or hub id whose weights replace the model's.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Hub commit, branch or tag.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the hub, use what is cached.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="KEY=VALUE",
            help="Any other option of the model, as often as needed; VALUE is JSON, or else a string. "
            "`rerank models NAME` lists them.",
        ),
    ] = None,
) -> None:
    """Rank documents for a query.

    \b
    Examples:
      rerank rank "what is a panda?" notes/*.txt
      rerank rank "what is a panda?" docs.jsonl --top-k 5 --explain
      grep -h panda *.md | rerank rank "what is a panda?" -k 3
      rerank rank "what is a panda?" docs.jsonl --json | jq '.hits[0].id'

    \b
    Formats:
      jsonl    a JSON object with "text" (and "id"; other keys are kept as metadata) or a JSON string
               on each line
      json     one array of what jsonl has on a line, or such objects over several lines each
      csv      a header with a column "text" (and "id"), separated by commas, semicolons or tabs
      parquet  a column "text" (and "id"); needs pyarrow: pip install 'rerank-core[parquet]'
      lines    a document on each line; its id is FILE:LINE
      text     the whole file is one document; its id is the file name
      auto     by name: .jsonl, .ndjson, .json, .csv, .tsv and .parquet are what they say, anything
               else is text; stdin and pipes by what they begin with, and else lines
    Any of them may be compressed: .gz, .zst (needs pyarrow), .bz2, .xz. Text is UTF-8, UTF-16, or
    GB18030 where that is certain; --encoding says anything else. Blank lines of jsonl and lines
    are no documents; they count in FILE:LINE.
    """
    query_of(query)
    given = {
        "longdoc": longdoc,
        "overlap": overlap,
        "compat": compat,
        "max_length": max_length,
        "max_query_length": max_query_length,
        "activation": activation,
        "device": device,
        "dtype": dtype,
        "token_budget": token_budget,
        "checkpoint": checkpoint,
        "revision": revision,
        "offline": offline or None,
    }
    options = _merged({name: value for name, value in given.items() if value is not None}, option or [])
    if not files or "-" in files:
        if sys.stdin is None:
            raise InputError("stdin is closed, so no documents can be read from it; name their files after the query")
        if sys.stdin.isatty():
            note("reading documents from the terminal, one per line; Ctrl-D ends them")
    # The other commands start without it.
    from rerank_core.records.documents import read_documents

    documents = read_documents(files or [], form, Fields(text_field, id_field), encoding)
    # Whatever a plugin prints, stdout is the ranking.
    with output_aside(), staying(model), load(model, **options) as reranker:
        asked = documents if index is None else reranker.index(documents, index, progress=True)
        explained = explain and reranker.explains
        ranking = reranker.rerank(query, asked, top_k=top_k, min_score=min_score, explain=explained, progress=True)
    if as_json:
        emit_json(ranking.to_dict())
    else:
        show_ranking(ranking, explain=explain)


def _merged(options: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """The options of ``load``: those with a flag of their own, and ``KEY=VALUE`` ones."""
    merged = dict(options)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{assignment!r} is not KEY=VALUE", param_hint="'--option' / '-o'")
        if key in merged:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="'--option' / '-o'")
        merged[key] = _value(key, value)
    return merged


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError as error:
        raise typer.BadParameter(
            f"the value of {key!r} is nested too deeply", param_hint="'--option' / '-o'"
        ) from error
