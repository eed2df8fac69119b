"""``rerank rank``: read documents from files or stdin and print them ranked for a query."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rerank_core.cli.combining import (
    CombineBy,
    FirstStageField,
    FirstStageShare,
    LowerIsBetter,
    MissingScore,
    Normalize,
    RrfK,
    combine_of,
    first_stage_scores,
)
from rerank_core.cli.exit_codes import refuse_process_exit
from rerank_core.cli.options import (
    AsJson,
    Device,
    Dtype,
    Encoding,
    LongDocs,
    MaxLength,
    ModelOptions,
    Threads,
    TokenBudget,
    load_options,
)
from rerank_core.cli.output import emit_json, logged_warnings, note
from rerank_core.cli.show_ranking import show_ranking
from rerank_core.errors import InputError
from rerank_core.loading import load
from rerank_core.plugins.isolation import stdout_to_stderr
from rerank_core.records.document_options import DocumentFields, DocumentFormat
from rerank_core.types import query_of

__all__ = ["rank"]


def rank(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The text to rank the documents for.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILES", help="Files of documents; without any, or for '-', stdin.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="The model: a name from `rerank models`, a hub id, a directory or a .gguf file."
        ),
    ] = "mini",
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, help="Show at most this many hits; by default all.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Show only hits with at least this score; by default all.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Late interaction only: store document embeddings in this folder, and reuse those of texts that "
            "are stored there already.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show the best passage of each hit and, for late interaction, which words of it matched the query.",
        ),
    ] = False,
    combine: CombineBy = None,
    first_stage_field: FirstStageField = None,
    first_stage_share: FirstStageShare = None,
    normalize: Normalize = None,
    rrf_k: RrfK = None,
    lower_is_better: LowerIsBetter = False,
    missing_score: MissingScore = None,
    as_json: AsJson = False,
    form: Annotated[
        DocumentFormat, typer.Option("--format", help="How files are split into documents; see Formats above.")
    ] = DocumentFormat.auto,
    text_field: Annotated[str, typer.Option(help="JSON key or table column that holds a document's text.")] = "text",
    id_field: Annotated[str, typer.Option(help="JSON key or table column that holds a document's id.")] = "id",
    encoding: Encoding = None,
    longdoc: LongDocs = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Tokens that neighbouring passages share; by default a quarter of a passage, but at most 80."
        ),
    ] = None,
    compat: Annotated[
        str | None,
        typer.Option(
            help="Cut texts exactly as another framework does, instead of by --longdoc and --overlap: flagembedding, "
            "rag-retrieval, bcembedding or model-card."
        ),
    ] = None,
    max_length: MaxLength = None,
    max_query_length: Annotated[
        int | None, typer.Option(help="Cut longer queries to this many tokens; by default queries are never cut.")
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="Function applied to the displayed scores: default (the one of the model's authors, or probability "
            "with --calibration), none (raw scores), sigmoid, or probability (calibrated)."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Show probabilities of relevance by this file of `rerank eval --calibrate`; --min-score is one then.",
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    token_budget: TokenBudget = None,
    threads: Threads = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Use the weights of this directory, hub id or .gguf file instead of the model's own."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Hub commit, branch or tag; by default the one that the model is pinned to.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only cached files; never contact the hub.")] = False,
    option: ModelOptions = None,
) -> None:
    """Rank documents for a query.

    \b
    Examples:
      rerank rank "what is a panda?" notes/*.txt
      rerank rank "what is a panda?" docs.jsonl --top-k 5 --explain
      grep -h panda *.md | rerank rank "what is a panda?" -k 3
      rerank rank "what is a panda?" docs.jsonl --json | jq '.hits[0].id'
      rerank rank "what is a panda?" hits.jsonl --combine weighted --first-stage-share 0.3

    \b
    Formats:
      jsonl    on each line a JSON object with "text" (and "id"; other keys become metadata), or a
               JSON string
      json     one array of such objects or strings, or such objects over several lines each
      csv      a header with a column "text" (and "id"); commas, semicolons or tabs separate columns
      parquet  a column "text" (and "id"); needs pyarrow: pip install 'rerank-core[parquet]'
      lines    each line is a document; its id is FILE:LINE
      text     the whole file is one document; its id is the file name
      auto     by file name: .jsonl, .ndjson, .json, .csv, .tsv and .parquet; any other file is text.
               For stdin and pipes, by their first characters, and otherwise lines
    Files may be compressed: .gz, .zst (needs pyarrow), .bz2, .xz. UTF-8, UTF-16 and GB18030 (where
    it is unambiguous) are detected; name any other encoding with --encoding. Blank lines of jsonl
    and lines are skipped, but count in FILE:LINE.
    """
    query_of(query)
    combination = combine_of(
        combine,
        share=first_stage_share,
        normalize=normalize,
        k=rrf_k,
        field=first_stage_field,
        lower_is_better=lower_is_better,
        missing=missing_score,
    )
    flags = {
        "longdoc": longdoc,
        "overlap": overlap,
        "compat": compat,
        "max_length": max_length,
        "max_query_length": max_query_length,
        "activation": activation,
        "calibration": calibration,
        "device": device,
        "dtype": dtype,
        "token_budget": token_budget,
        "threads": threads,
        "checkpoint": checkpoint,
        "revision": revision,
        "offline": offline or None,
    }
    options = load_options(flags, option or [])
    if not files or "-" in files:
        if sys.stdin is None:
            raise InputError("stdin is closed, so no documents can be read from it; name their files after the query")
        if sys.stdin.isatty():
            note("reading documents from the terminal, one per line; Ctrl-D ends them")
    # Imported here because the other commands do not need it.
    from rerank_core.records.documents import read_documents

    documents = read_documents(files or [], form, DocumentFields(text_field, id_field), encoding)
    first_stage = first_stage_scores(documents, combination)
    # Text that a plugin prints goes to stderr, so that stdout holds only the ranking.
    with (
        stdout_to_stderr(),
        logged_warnings(),
        refuse_process_exit(model),
        load(model, **options) as reranker,
    ):
        candidates = documents if index is None else reranker.index(documents, index, progress=True)
        with_matches = explain and reranker.explains
        ranking = reranker.rerank(
            query,
            candidates,
            first_stage=first_stage,
            combine=combination,
            top_k=top_k,
            min_score=min_score,
            explain=with_matches,
            progress=True,
        )
    if as_json:
        emit_json(ranking.to_dict())
    else:
        show_ranking(ranking, explain=explain)
