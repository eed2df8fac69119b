"""``rerank train label --vectors``: a teacher's vector of every text of rows, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.cli.shared import emit_json, note, progress_over, show, table
from rerank_core.loading import load
from rerank_trainers.cli.common import model_settings
from rerank_trainers.data.row_store import RowStore

__all__ = ["copy_vectors", "write_vectors"]


def write_vectors(
    rows: RowStore, model: str, out: Path, options: dict[str, Any], *, resume: bool, overwrite: bool, as_json: bool
) -> None:
    """Encode every query and document of rows with an embedding model.

    Raises:
        InputError: the model is no embedding model, or the file exists.
    """
    from rerank_trainers.data.vector_writer import VectorWriter
    from rerank_trainers.teachers.scores import follows_instructions
    from rerank_trainers.teachers.vectors import TOGETHER, Texts, encode

    texts = Texts.of(rows)
    with load(model, **options) as reranker:
        facts = {name: str(value) for name, value in sorted(model_settings(reranker, options).items())}
        writer = VectorWriter(
            out, texts.keys, _numbers(len(texts)), len(texts), facts, TOGETHER, resume=resume, overwrite=overwrite
        )
        blocks = encode(texts, reranker, follows=follows_instructions(reranker), start=writer.done)
        writer.write(progress_over(blocks, "blocks", writer.done // TOGETHER, -(-len(texts) // TOGETHER)))
    _report(out, model, {"queries": texts.queries, "documents": texts.documents}, writer.done, as_json=as_json)


def copy_vectors(rows: RowStore, raw: Path, out: Path, *, overwrite: bool, as_json: bool) -> None:
    """Write the vectors of a raw float32 file, one per row of rows that are texts alone, in their order.

    Raises:
        InputError: rows with documents, a file of another size, or the file exists.
    """
    from rerank_trainers.data.vector_writer import VectorWriter, read_raw, row_aligned

    keys, numbers = row_aligned(rows)
    writer = VectorWriter(out, keys, numbers, len(rows), {"made_from": raw.name}, overwrite=overwrite)
    writer.write(read_raw(raw, len(rows)))
    _report(out, raw.name, {"texts": len(rows)}, 0, as_json=as_json)


def _numbers(count: int) -> Any:
    import numpy

    return numpy.arange(count, dtype=numpy.int64)


def _report(out: Path, teacher: str, counts: dict[str, int], resumed: int, *, as_json: bool) -> None:
    from rerank_trainers.data.teacher_vectors import VectorFile

    written = VectorFile(out)
    if as_json:
        emit_json({"schema_version": 1, "out": str(out), "resumed": resumed, "width": written.width, **counts})
        return
    lines = [
        ("teacher", teacher),
        ("width", str(written.width)),
        *((name, str(count)) for name, count in counts.items()),
    ]
    show(table(("encoded", ""), lines))
    note(f"train on them: --set data.teacher_vectors={out}")
