"""``rerank train mine``: hard negatives for rows with positives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_core.cli.shared import (
    AsJson,
    Device,
    Dtype,
    Encoding,
    ModelOptions,
    TokenBudget,
    emit_json,
    load_options,
    note,
    progress_over,
    show,
    table,
    warn,
)
from rerank_core.errors import InputError
from rerank_core.loading import load
from rerank_core.records.training_row import TrainingRow
from rerank_core.reranker import Reranker
from rerank_trainers.cli.common import keep_partial, model_settings
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.row_writer import RowWriter

# The mining package imports numpy, which `--help` does not need.
if TYPE_CHECKING:
    from rerank_trainers.mining import Corpus, MiningRules, MiningStatistics, Retriever

__all__ = ["mine"]


def mine(
    files: Annotated[
        list[str], typer.Argument(metavar="FILES", help="Files of rows, in any format that training reads.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Output file: JSON Lines.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Files of texts to take negatives from: documents as `rerank rank` reads them, or plain text with "
            "one text per line; can be repeated. By default the documents of all rows."
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Key or column of the text in a corpus.")] = "text",
    encoding: Encoding = None,
    negatives: Annotated[int, typer.Option("--negatives", "-n", help="Maximal number of negatives mined per row.")] = 8,
    rescore: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Rescore the candidates of BM25 with this model.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Search with this late-interaction model instead of BM25."),
    ] = None,
    index_folder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder for the embeddings of --index, reused by later runs.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Number of candidates per row.")] = 100,
    from_rank: Annotated[int, typer.Option(help="Best rank to use; 1 is the best.")] = 1,
    to_rank: Annotated[int | None, typer.Option(help="Worst rank to use.")] = None,
    absolute_margin: Annotated[
        float | None, typer.Option(help="Drop candidates that score above the positive's score minus this.")
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option(help="Drop candidates that score above this share below the positive's score (0.05: above 95 %)."),
    ] = None,
    anchor: Annotated[
        str, typer.Option(help="Positive that margins refer to: the worst or the best of the row.")
    ] = "worst",
    activation: Annotated[
        str | None,
        typer.Option(
            help="Activation of scores before margins apply: sigmoid (default if --rescore gives logits) or none."
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="top: the best-ranked candidates; random: a random choice of those that pass the rules.")
    ] = "top",
    seed: Annotated[int, typer.Option(help="Seed of random choices.")] = 42,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the negatives that the rows have; by default they are kept.")
    ] = False,
    fill: Annotated[
        str, typer.Option(help="random: fill rows with too few negatives with random texts; none: leave them.")
    ] = "none",
    lowest: Annotated[float, typer.Option(help="Label of a negative; higher labels are positives.")] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the output of an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    as_json: AsJson = False,
    device: Device = None,
    dtype: Dtype = None,
    token_budget: TokenBudget = None,
    option: ModelOptions = None,
) -> None:
    """Add hard negatives: texts that a search finds for the query of a row and that are not its positives.

    \b
    Examples:
      rerank train mine train.jsonl --out mined.jsonl
      rerank train mine train.jsonl --corpus passages.jsonl --from-rank 10 --strategy random --out mined.jsonl
      rerank train mine train.jsonl --rescore bge-reranker-v2-m3 --relative-margin 0.05 --out mined.jsonl

    The best candidates are often unlabelled positives: skip the best ranks, or filter them by a good model with
    --rescore and a margin. Rows with too few negatives are counted; --fill random adds random texts.
    """
    from rerank_trainers.mining import MiningRules, MiningStatistics
    from rerank_trainers.mining import mine as mined

    if rescore is not None and index is not None:
        raise InputError("--rescore needs the candidates of BM25 and --index replaces BM25; give one of them")
    if index_folder is not None and index is None:
        raise InputError(f"--index-folder {index_folder!r} keeps the embeddings of --index; give that too")
    # Typer has strings; MiningRules says which ones are valid.
    said: dict[str, Any] = {"anchor": anchor, "strategy": strategy, "fill": fill}
    rules = MiningRules(
        negatives=negatives,
        depth=depth,
        from_rank=from_rank,
        to_rank=to_rank,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        seed=seed,
        keep_own_negatives=not replace,
        negative_label=lowest,
        **said,
    )
    options = load_options({"device": device, "dtype": dtype, "token_budget": token_budget}, option or [])
    if options and not (rescore or index):
        raise InputError(
            f"{', '.join(options)}: options of a model, and BM25 alone has none; give --rescore or --index"
        )
    rows = open_rows(files, encoding=encoding)
    texts = _corpus(rows, corpus or [], text_field, encoding, rules)
    figures = MiningStatistics()
    settings: dict[str, object] = {
        "files": rows.fingerprint(),
        "encoding": encoding,
        "corpus": texts.fingerprint(),
        "rules": asdict(rules),
        "activation": activation,
        "rescore": rescore,
        "index": index,
    }
    with ExitStack() as stack:
        name = rescore or index
        model = stack.enter_context(load(name, **options)) if name else None
        if model is not None:
            settings.update(model_settings(model, options))
        writer = RowWriter(out, settings=settings, rows=rows, resume=resume, overwrite=overwrite)
        retriever = _retriever(texts.texts, model if index else None, index_folder)
        again = model if rescore else None
        with keep_partial(writer):
            result = mined(
                rows,
                texts,
                retriever,
                rules,
                rescore=again,
                activation=activation,
                start=writer.done,
                statistics=figures,
            )
            for row in progress_over(result, "rows", writer.done, len(rows)):
                writer.write(row)
    if as_json:
        size = {"texts": texts.minable, "repeated": texts.repeated, "blank": texts.blank}
        resumed = {"out": str(out), "resumed": writer.done}
        emit_json({"schema_version": 1, **resumed, "corpus": size, **figures.to_dict()})
    else:
        _show(figures, texts, writer)


def _corpus(
    rows: Sequence[TrainingRow], files: Sequence[str], text_field: str, encoding: str | None, rules: MiningRules
) -> Corpus:
    from rerank_trainers.mining import Corpus, positives_of
    from rerank_trainers.retrieval.corpus_files import corpus_texts

    if not files:
        return Corpus.of_rows(rows)
    corpus = Corpus.of(corpus_texts(files, text_field=text_field, encoding=encoding))
    if rules.uses_margins:
        corpus.add_unmined(positives_of(rows, rules.negative_label))
    return corpus


def _retriever(texts: Sequence[str], model: Reranker | None, folder: str | None) -> Retriever:
    from rerank_trainers.mining import BM25, LateInteractionRetriever

    return BM25(texts) if model is None else LateInteractionRetriever(model, texts, folder, progress=True)


def _show(figures: MiningStatistics, corpus: Corpus, writer: RowWriter) -> None:
    lines = [
        ("texts in the corpus", corpus.minable),
        ("  equal to an earlier one", corpus.repeated),
        ("  blank", corpus.blank),
        ("rows", figures.rows),
        ("  without a positive", figures.without_positive),
        ("  with fewer negatives than wanted", figures.short),
        ("  with none", figures.empty),
        ("candidates", figures.candidates),
        *((f"  dropped: {rule}", count) for rule, count in sorted(figures.dropped.items())),
        ("negatives mined", figures.negatives),
        *((f"  rows with {count}", rows) for count, rows in sorted(figures.mined_per_row.items())),
        ("random texts added", figures.filled),
        ("own negatives left out", figures.own_negatives_left_out),
        ("rows whose scores were left out", figures.scores_left_out),
    ]
    show(table(("mined", ""), [(what, str(count)) for what, count in lines], right=("",)))
    if figures.short:
        warn(
            f"{figures.short} rows have fewer than {figures.wanted} mined negatives; a larger corpus or depth, a wider "
            "window of ranks or smaller margins give more, --fill random adds random texts"
        )
    if figures.without_positive:
        warn(f"{figures.without_positive} rows have no positive and are written as they were")
    if writer.done:
        note(f"these are of this run; {writer.done} rows were there already")
    note(f"{writer.written} rows in {writer.out}")
