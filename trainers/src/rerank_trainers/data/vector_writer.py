"""Writes a file of vectors (`teacher_vectors`): to ``OUT.partial`` block by block, renamed to ``OUT`` when complete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash, text_hash
from rerank_trainers.data.teacher_vectors import header_of

__all__ = ["VectorWriter", "read_raw", "row_aligned"]

Vectors: TypeAlias = npt.NDArray[np.float32]
_Keys: TypeAlias = npt.NDArray[np.int64]

_BLOCK = 4096  # vectors copied at once


@dataclass
class VectorWriter:
    """Writes vectors under the hashes of their texts, and can continue an interrupted run.

    Attributes:
        keys: hash of each text; two keys may name one vector.
        rows: the number of the vector of each key.
        texts: number of vectors.
        facts: everything that the vectors depend on; only equal facts and keys continue a partial file.
        block: a resumed run starts at a multiple of this number.
        done: vectors that an interrupted run had written, after `begin`.

    Raises:
        InputError: the file exists, or a partial one.
    """

    out: Path
    keys: _Keys
    rows: _Keys
    texts: int
    facts: Mapping[str, str]
    block: int = 1
    resume: bool = False
    overwrite: bool = False
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise InputError("resume continues the existing file and overwrite replaces it; give one of them")
        if self.out.exists() and not self.overwrite:
            raise InputError(f"{str(self.out)!r} exists already; name another file, or overwrite it")
        if self.partial.exists() and not (self.resume or self.overwrite):
            raise InputError(
                f"{str(self.partial)!r} exists from an interrupted run; resume continues it, overwrite starts again"
            )
        if self.resume and self.partial.exists():
            self.done = self._count_done()

    @property
    def partial(self) -> Path:
        """The file as long as it is not complete."""
        return self.out.with_name(self.out.name + ".partial")

    def write(self, blocks: Iterable[Vectors]) -> None:
        """Write the vectors from number ``done`` on, ``[texts, width]`` in each block, and rename the file.

        Raises:
            InputError: a full disk, values that are not finite, or another number or width of vectors.
        """
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            with self.partial.open("ab" if self.done else "wb") as file:
                self._write(file, blocks)
                file.flush()
                os.fsync(file.fileno())
            self.partial.replace(self.out)
        except OSError as error:
            raise InputError(
                f"{str(self.partial)!r} cannot be written: {error.strerror}. What is there is kept; free space, and "
                "repeat the command with --resume"
            ) from error

    def _write(self, file: IO[bytes], blocks: Iterable[Vectors]) -> None:
        width, written = None, self.done
        for block in blocks:
            if width is None:
                width = block.shape[1]
                if not self.done:
                    file.write(self._prefix(width))
            if block.ndim != 2 or block.shape[1] != width:
                raise InputError(f"vectors of the shape {block.shape}; all must have the width {width}")
            if not np.isfinite(block).all():
                at = written + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                raise InputError(f"vector {at} has values that are NaN or infinite; the teacher cannot be learnt from")
            file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
            file.flush()
            written += len(block)
        if written != self.texts:
            raise InputError(f"{written} vectors were given for {self.texts} texts")

    def _prefix(self, width: int) -> bytes:
        header = header_of(len(self.keys), self.texts, width, self.facts)
        return header + self.keys.astype("<i8").tobytes() + self.rows.astype("<i8").tobytes()

    def _count_done(self) -> int:
        """Vectors in the partial file, after comparing all that comes before them; a part of a block is removed."""
        if not self.partial.stat().st_size:
            return 0
        fault = f"{str(self.partial)!r} was made from other texts, or with other settings; overwrite it"
        with self.partial.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                width = int(json.loads(file.read(min(length, 1 << 20)))["vectors"]["shape"][1])
                expected = self._prefix(width)
            except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
                raise InputError(fault) from error
            file.seek(0)
            if width < 1 or file.read(len(expected)) != expected:
                raise InputError(fault)
        done = (self.partial.stat().st_size - len(expected)) // (4 * width)
        done -= done % self.block
        os.truncate(self.partial, len(expected) + 4 * width * done)
        return done


def row_aligned(rows: Sequence[TrainingRow]) -> tuple[_Keys, _Keys]:
    """The keys of texts that stand alone in their rows (the format ``text``), and their vectors: that of row ``i`` is
    vector ``i``, for the text as query and as document. The first of equal texts counts.

    Raises:
        InputError: a row with documents of its own.
    """
    vectors: dict[int, int] = {}
    for number, row in enumerate(rows):
        if row.docs != (row.query,):
            raise InputError(
                f"the row {row.id or number} has documents, and a file of vectors beside it has one vector per row: "
                'give rows of the form {"query": TEXT}'
            )
        vectors.setdefault(query_hash(row.query, row.instruction), number)
        vectors.setdefault(text_hash(row.texts[0]), number)
    return np.fromiter(vectors, dtype=np.int64), np.fromiter(vectors.values(), dtype=np.int64)


def read_raw(path: Path, texts: int) -> Iterator[Vectors]:
    """The vectors of a file without a header (`numpy.memmap`, float32), in blocks.

    Raises:
        InputError: the file cannot be read, or its size is no number of whole float32 vectors.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    width, rest = divmod(size, 4 * texts)
    if rest or not width:
        raise InputError(
            f"{str(path)!r} has {size} bytes, which are not {texts} float32 vectors of one width; give the rows that "
            "it was made from, in their order"
        )
    raw = np.memmap(path, dtype="<f4", mode="r", shape=(texts, width))
    for start in range(0, texts, _BLOCK):
        yield np.asarray(raw[start : start + _BLOCK], dtype=np.float32)
