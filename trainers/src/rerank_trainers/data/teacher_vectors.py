"""A teacher's vectors on disk, looked up by the hash of a text: nothing is loaded whole.

A file is safetensors with three tensors: ``keys`` (int64 ``[keys]``, hashes of texts), ``rows`` (int64 ``[keys]``, the
row of each key in ``vectors``) and ``vectors`` (float32 ``[texts, width]``). `rerank train label --vectors` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_core.errors import InputError, short
from rerank_core.progress import Progress
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash, text_hash

__all__ = ["TeacherVectors", "VectorFile", "header_of", "open_vectors"]

Vectors = npt.NDArray[np.float32]

_MOST_HEADER = 1 << 20  # bytes; a header of three tensors has some hundred
_DTYPES: Mapping[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "F32": np.dtype("<f4")}
_ADVICE = "`rerank train label FILES --model MODEL --vectors --out OUT` writes a teacher's vectors"


def header_of(keys: int, texts: int, width: int, facts: Mapping[str, str]) -> bytes:
    """The beginning of a file of vectors: safetensors' length and header, padded to 8 bytes."""
    ends = np.cumsum([8 * keys, 8 * keys, 4 * texts * width]).tolist()
    header = {
        "__metadata__": {"format": "rerank-vectors", **facts},
        "keys": {"dtype": "I64", "shape": [keys], "data_offsets": [0, ends[0]]},
        "rows": {"dtype": "I64", "shape": [keys], "data_offsets": ends[:2]},
        "vectors": {"dtype": "F32", "shape": [texts, width], "data_offsets": ends[1:]},
    }
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class VectorFile:
    """One file of vectors, memory-mapped; its keys, 16 bytes per text, are in memory.

    Attributes:
        width: values of a vector.
        facts: what its writer recorded, such as the name of the teacher.

    Raises:
        InputError: the file cannot be read or is not such a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if 0 < length <= _MOST_HEADER else None
            size = self.path.stat().st_size
        except OSError as error:
            raise InputError(f"the vectors {str(path)!r} cannot be read: {error.strerror}. {_ADVICE}") from error
        except (ValueError, RecursionError) as error:
            raise self._unfit("its header is not that of safetensors") from error
        if not isinstance(header, dict):
            raise self._unfit("its header is not that of safetensors")
        self.facts: dict[str, Any] = dict(header.get("__metadata__") or {})
        self._places = {
            name: self._place(header, name, dims, 8 + length, size)
            for name, dims in (("keys", 1), ("rows", 1), ("vectors", 2))
        }
        keys, rows = self._mapped("keys"), self._mapped("rows")
        self._vectors: npt.NDArray[np.float32] | None = None
        texts, self.width = self._places["vectors"][1]
        if len(keys) != len(rows) or (len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < texts):
            raise self._unfit("its rows name vectors that it does not have")
        order = np.argsort(keys, kind="stable")
        self._keys, self._rows = np.ascontiguousarray(keys[order]), np.ascontiguousarray(rows[order])

    def _place(
        self, header: Mapping[str, Any], name: str, dims: int, start: int, size: int
    ) -> tuple[int, tuple[int, ...], str]:
        """The offset, shape and dtype of a tensor, within the file."""
        told = header.get(name)
        told = told if isinstance(told, Mapping) else {}
        shape, offsets = _naturals(told.get("shape"), dims), _naturals(told.get("data_offsets"), 2)
        dtype = "F32" if name == "vectors" else "I64"
        if told.get("dtype") != dtype or shape is None or offsets is None:
            raise self._unfit(f"its tensor {name!r} is {short(told)}")
        kind = _DTYPES[dtype]
        if offsets[1] - offsets[0] != kind.itemsize * int(np.prod(shape, dtype=object)) or start + offsets[1] > size:
            raise self._unfit(f"its tensor {name!r} is not complete")
        if name == "vectors" and not shape[1]:
            raise self._unfit("its vectors have no values")
        return start + offsets[0], shape, dtype

    def _mapped(self, name: str) -> Any:
        start, shape, dtype = self._places[name]
        if 0 in shape:
            return np.zeros(shape, dtype=_DTYPES[dtype])
        return np.memmap(self.path, dtype=_DTYPES[dtype], mode="r", offset=start, shape=shape)

    def _unfit(self, why: str) -> InputError:
        return InputError(f"{str(self.path)!r} is not a file of vectors: {why}. {_ADVICE}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_vectors": None}

    def __len__(self) -> int:
        return len(self._keys)

    def row(self, key: int) -> int | None:
        """The number of the vector of a hash; None if it has none."""
        at = int(np.searchsorted(self._keys, key))
        return int(self._rows[at]) if at < len(self._keys) and int(self._keys[at]) == key else None

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """``[rows, width]``: the vectors of these numbers, read from disk."""
        if self._vectors is None:
            self._vectors = self._mapped("vectors")
        read: Vectors = np.asarray(self._vectors[list(rows)], dtype=np.float32)
        return read

    def fingerprint(self) -> str:
        """SHA-256 of the header, the keys and the number of bytes; the vectors are not read."""
        state = hashlib.sha256(json.dumps([self.facts, self.path.stat().st_size], sort_keys=True).encode())
        state.update(self._keys.tobytes())
        return state.hexdigest()


def _naturals(value: object, count: int) -> tuple[int, ...] | None:
    """A list of ``count`` natural numbers; None for anything else."""
    if isinstance(value, list) and len(value) == count and all(type(one) is int and one >= 0 for one in value):
        return tuple(value)
    return None


class TeacherVectors:
    """The vectors of one teacher, or of several, which are concatenated in the order of the files.

    Raises:
        InputError: no file, or one that cannot be read.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise InputError(f"no file of vectors is named. {_ADVICE}")
        self.files = [VectorFile(path) for path in paths]

    @property
    def width(self) -> int:
        """Values of a vector: the sum over the teachers."""
        return sum(file.width for file in self.files)

    def of_row(self, row: TrainingRow, docs: Sequence[int], name: str) -> tuple[Vectors, Vectors]:
        """The vectors of the query ``[width]`` and of some documents ``[docs, width]`` of a row.

        Args:
            name: the row in messages.

        Raises:
            InputError: a text without a vector or with a number that is not finite, named with its row.
        """
        keys = [query_hash(row.query, row.instruction), *(text_hash(row.texts[doc]) for doc in docs)]
        found = np.concatenate(
            [file.vectors(self._numbers(file, keys, row, docs, name)) for file in self.files], axis=1
        )
        if not np.isfinite(found).all():
            at = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
            text = row.query if at == 0 else row.texts[docs[at - 1]]
            raise InputError(
                f"the teacher's vector of {short(text)} in the row {name} has values that are NaN or infinite "
                f"(data.teacher_vectors). {_ADVICE}"
            )
        return found[0], found[1:]

    def _numbers(
        self, file: VectorFile, keys: Sequence[int], row: TrainingRow, docs: Sequence[int], name: str
    ) -> list[int]:
        numbers = []
        for place, key in enumerate(keys):
            number = file.row(key)
            if number is None:
                what = "query" if place == 0 else f"document {docs[place - 1] + 1}"
                text = row.query if place == 0 else row.texts[docs[place - 1]]
                raise InputError(
                    f"the {what} of the row {name}, {short(text)}, has no vector in {str(file.path)!r} "
                    f"(data.teacher_vectors): the file was written for other texts, instructions or prompts. {_ADVICE}"
                )
            numbers.append(number)
        return numbers

    def check(self, rows: Sequence[TrainingRow], progress: Progress | None = None) -> None:
        """Refuse rows with a text that has no vector; nothing but keys is read.

        Raises:
            InputError: names the first such row and text.
        """
        for index, row in enumerate(rows):
            docs = range(len(row.docs))
            keys = [query_hash(row.query, row.instruction), *map(text_hash, row.texts)]
            for file in self.files:
                self._numbers(file, keys, row, docs, row.id or str(index))
            if progress is not None:
                progress(index + 1, len(rows))

    def fingerprint(self) -> list[str]:
        """A digest of each file; see `VectorFile.fingerprint`."""
        return [file.fingerprint() for file in self.files]


def open_vectors(paths: Sequence[str], *, needed: bool) -> TeacherVectors | None:
    """The vectors that ``data.teacher_vectors`` names; None without files.

    Args:
        needed: whether an objective reads them.

    Raises:
        InputError: files without an objective that reads them, or the other way round.
    """
    if needed and not paths:
        raise InputError(
            f"an objective learns from a teacher's vectors, and data.teacher_vectors names no file. {_ADVICE}"
        )
    if paths and not needed:
        raise InputError(
            f"data.teacher_vectors names {short(list(paths))}, and no objective reads vectors; leave it out, or add an "
            "objective that does, such as embed_distill"
        )
    return TeacherVectors(paths) if paths else None
