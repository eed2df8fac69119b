"""``rerank train label``: a teacher's scores for the documents of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rerank_core import InputError
from rerank_core.cli.shared import (
    AsJson,
    Device,
    Dtype,
    Encoding,
    LongDocs,
    MaxLength,
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
from rerank_core.loading import load
from rerank_trainers.cli.common import keep_partial, model_settings
from rerank_trainers.cli.label_vectors import copy_vectors, write_vectors
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.row_writer import RowWriter
from rerank_trainers.teachers.label import LabellingStatistics
from rerank_trainers.teachers.label import label as labelled

__all__ = ["label"]


def label(
    files: Annotated[
        list[str], typer.Argument(metavar="FILES", help="Files of rows, in any format that training reads.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Output file: JSON Lines; of vectors, safetensors.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The teacher: a name from `rerank models`, a hub id or a directory."),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Write the teacher's vector of every text instead of scores.")
    ] = False,
    vectors_from: Annotated[
        Path | None,
        typer.Option(
            "--vectors-from", metavar="RAW", help="Write the vectors of a raw float32 file, one per row of FILES."
        ),
    ] = None,
    activation: Annotated[
        str,
        typer.Option(help="Activation of the scores: none (raw), sigmoid, or default (that of the model's authors)."),
    ] = "none",
    encoding: Encoding = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the output of an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    as_json: AsJson = False,
    longdoc: LongDocs = None,
    max_length: MaxLength = None,
    seed: Annotated[int, typer.Option(help="Seed of the order in which a listwise model sees the documents.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    token_budget: TokenBudget = None,
    option: ModelOptions = None,
) -> None:
    """Score every document of every row with a teacher model.

    \b
    Examples:
      rerank train label train.jsonl -m bge-reranker-v2-m3 --out scored.jsonl
      rerank train label train.jsonl -m qwen3-reranker-0.6b --activation sigmoid --out scored.jsonl
      rerank train label train.jsonl -m llm:Qwen/Qwen2.5-7B-Instruct --out preferred.jsonl
      rerank train label train.jsonl -m llm-listwise -o checkpoint=Qwen/Qwen2.5-7B-Instruct --out order.jsonl
      rerank train reranker --train order.jsonl -m bge-reranker-base --objective ranknet \
-s objective.options.target=teacher
      rerank train label train.jsonl -m qwen3-embedding-0.6b --vectors --out vectors.safetensors
      rerank train label texts.jsonl --vectors-from texts.mmap --out vectors.safetensors

    The teacher is any model that `rerank rank` loads. It gets the instruction of a row if it takes one. A listwise
    model orders documents and gives no scores: its score is minus the rank, which only objectives of order (ranknet,
    lambda, listnet) with the option target=teacher can use. It sees the documents in a random order, and malformed
    answers are counted.

    --vectors writes the vectors of an embedding model for data.teacher_vectors, from which other embedding models are
    distilled. --vectors-from reads those of RAG-Retrieval: rows {"query": TEXT}, and numpy's memmap beside them.
    """
    common = {"longdoc": longdoc, "max_length": max_length, "device": device, "dtype": dtype}
    options = load_options({**common, "token_budget": token_budget}, option or [])
    if vectors or vectors_from is not None:
        if activation != "none":
            raise InputError(f"--activation is {activation!r}, and vectors have no activation; leave it out")
        if vectors_from is not None:
            if model is not None or vectors or resume:
                raise InputError("--vectors-from copies vectors: leave out --model, --vectors and --resume")
            whole = open_rows(files, encoding=encoding, group=False)
            copy_vectors(whole, vectors_from, out, overwrite=overwrite, as_json=as_json)
            return
        rows = open_rows(files, encoding=encoding)
        write_vectors(rows, _named(model), out, options, resume=resume, overwrite=overwrite, as_json=as_json)
        return
    rows, model = open_rows(files, encoding=encoding), _named(model)
    figures = LabellingStatistics()
    with load(model, **options) as reranker:
        read = {"files": rows.fingerprint(), "encoding": encoding}
        settings = {**read, "activation": activation, **model_settings(reranker, options)}
        settings["seed"] = seed
        writer = RowWriter(out, settings=settings, rows=rows, resume=resume, overwrite=overwrite)
        with keep_partial(writer):
            scored = labelled(rows, reranker, activation=activation, start=writer.done, seed=seed, statistics=figures)
            for row in progress_over(scored, "rows", writer.done, len(rows)):
                writer.write(row)
    if figures.malformed_answers:
        warn(figures.malformed_warning)
    if as_json:
        emit_json({"schema_version": 1, "out": str(out), "resumed": writer.done, **figures.to_dict()})
    else:
        _show(figures, writer)


def _named(model: str | None) -> str:
    """The teacher's name.

    Raises:
        InputError: it is missing.
    """
    if model is None:
        raise InputError("there is no teacher; name one with --model, or copy vectors with --vectors-from")
    return model


def _show(figures: LabellingStatistics, writer: RowWriter) -> None:
    if figures.score_space == "rank":
        warn(f"{figures.model!r} orders lists: the scores are minus the rank, and their differences mean nothing")
    if figures.instructions_ignored:
        warn(f"{figures.instructions_ignored} rows have an instruction, and {figures.model!r} follows none")
    if figures.truncated_documents or figures.truncated_queries:
        warn(
            f"{figures.model!r} did not read all of {figures.truncated_documents} documents and "
            f"{figures.truncated_queries} queries"
        )
    lines = [
        ("rows", str(figures.rows)),
        ("documents", str(figures.documents)),
        ("rows that had scores", str(figures.replaced)),
        ("teacher", f"{figures.model} ({figures.score_space})"),
    ]
    if figures.malformed_share is not None:
        lines.append(("answers", str(figures.answers)))
        lines.append(("malformed answers", f"{figures.malformed_answers} ({figures.malformed_share:.1%})"))
        lines.append(("that named no document", str(figures.unread_answers)))
        lines.append(("answers with a thought", str(figures.thoughts)))
    if figures.lowest is not None and figures.highest is not None:
        lines.append(("scores", f"{figures.lowest:.4g} to {figures.highest:.4g}, mean {figures.mean:.4g}"))
    show(table(("labelled", ""), lines))
    if writer.done:
        note(f"these are of this run; {writer.done} rows were there already")
    note(f"{writer.written} rows in {writer.out}")
