"""Checks every tensor of an index shard (names, types, shapes, ranges), because the file is untrusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch

from rerank_core.backends.torch.late_interaction.embeddings import Embedding
from rerank_core.backends.torch.late_interaction.store.manifest import REBUILD_HINT
from rerank_core.errors import IndexStoreError, short

__all__ = ["PROBE", "TEXTS", "LengthCheck", "check_shard"]

LengthCheck: TypeAlias = Callable[[Mapping[str, torch.Tensor]], str | None]
"""Takes the lengths of all rows by part, and returns a description of a fault in them; None without one."""

TEXTS = "index."
"""Prefix of tensors about the texts (digests, counts, windows). Tensors without a prefix are parts of embeddings."""
PROBE = "probe."
"""Prefix of the parts of the probe's embedding."""

_DIGEST = 32
_LIMIT = 2**31
"""More characters or tokens than any text has."""
_CODING = {"centroids": torch.float32, "codes": torch.uint8, "scales": torch.float16}


def check_shard(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    shard: Mapping[str, Any],
    probe: Embedding,
    *,
    precision: str,
    longest: int,
    length_check: LengthCheck,
) -> None:
    """Refuse a shard that cannot belong to an index of this model and precision, even if its digest is right.

    Args:
        shard: the shard's entry in the manifest.
        probe: an embedding of the model, from which the names and widths of the parts are known.
        longest: the largest number of tokens of a window.
        length_check: the model's own check of the lengths of its parts.

    Raises:
        IndexStoreError: names the file and the tensor.
    """
    check = _Check(path, tensors)
    names = {name for name in tensors if f"{name}.bounds" in tensors and not name.startswith((TEXTS, PROBE))}
    if names != set(probe):
        raise IndexStoreError(f"{path} holds {sorted(names)!r}, and the model makes {sorted(probe)!r}. {REBUILD_HINT}")
    lengths = {
        name: check.part(name, part, precision, coded=precision == "int8" and number == 0)
        for number, (name, part) in enumerate(probe.items())
    }
    rows = {name: len(row_lengths) for name, row_lengths in lengths.items()}
    first = next(iter(probe))
    if len(set(rows.values())) != 1:
        check.refuse("bounds", f"are of different numbers of rows: {rows!r}")
    if (wrong := length_check(lengths)) is not None:
        check.refuse("bounds", wrong)
    texts = check.texts(rows[first], longest)
    if shard["texts"] != texts:
        check.refuse("texts", f"is {short(shard['texts'])} in the manifest, and the file holds {texts}")
    vectors = 0 if precision == "float32" else len(tensors[first])
    if shard["vectors"] != vectors:
        check.refuse("vectors", f"is {short(shard['vectors'])} in the manifest, and the file holds {vectors}")


class _Check:
    """Checks of the tensors of one shard; each raises an IndexStoreError that names the file and the tensor."""

    def __init__(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        self._path = path
        self._tensors = tensors

    def refuse(self, field: str, why: str) -> NoReturn:
        raise IndexStoreError(f"{self._path}: {field} {why}. {REBUILD_HINT}")

    def tensor(self, name: str, dtype: torch.dtype, shape: Sequence[int | None]) -> torch.Tensor:
        """The tensor of that name, if it has this type and shape (None: any length) and no NaN or infinity."""
        tensor = self._tensors.get(name)
        if tensor is None:
            self.refuse(name, "is missing")
        fits = len(tensor.shape) == len(shape) and all(
            length in (None, actual) for length, actual in zip(shape, tensor.shape, strict=True)
        )
        if tensor.dtype != dtype or not fits:
            wanted = [("any" if length is None else length) for length in shape]
            self.refuse(name, f"is {tensor.dtype} {tuple(tensor.shape)}; it must be {dtype} {wanted}")
        # The sum reads memory once. It may overflow for finite numbers, but with NaN or infinity it is never finite.
        if (
            tensor.is_floating_point()
            and not bool(tensor.sum(dtype=torch.float32).isfinite())
            and not bool(torch.isfinite(tensor).all())
        ):
            self.refuse(name, "holds NaN or infinity")
        return tensor

    def part(self, name: str, example: torch.Tensor, precision: str, *, coded: bool) -> torch.Tensor:
        """Check one part of all rows, and return the length of each row.

        Args:
            example: the same part of the probe.
            coded: the part is stored as int8 residuals.
        """
        floats = torch.float32 if precision == "float32" else torch.float16
        dtype = torch.int8 if coded else floats if example.is_floating_point() else example.dtype
        data = self.tensor(name, dtype, [None, *example.shape[1:]])
        bounds = self.tensor(f"{name}.bounds", torch.int64, [None])
        lengths = bounds.diff()
        ends = len(bounds) > 0 and int(bounds[0]) == 0 and int(bounds[-1]) == len(data)
        if not ends or bool((lengths < 0).any()):
            self.refuse(f"{name}.bounds", f"must rise from 0 to {len(data)}")
        unexpected = [key for key in _CODING if f"{name}.{key}" in self._tensors]
        if unexpected and not coded:
            self.refuse(name, f"has {unexpected!r}, which only a first part in int8 has")
        if coded:
            self._coding(name, data)
        return lengths

    def _coding(self, name: str, data: torch.Tensor) -> None:
        centroids = self.tensor(f"{name}.centroids", _CODING["centroids"], [None, *data.shape[1:]])
        codes = self.tensor(f"{name}.codes", _CODING["codes"], [len(data)])
        scales = self.tensor(f"{name}.scales", _CODING["scales"], [len(data)])
        if len(data) and int(codes.max()) >= len(centroids):
            self.refuse(f"{name}.codes", f"names centroid {int(codes.max())} of {len(centroids)}")
        if bool((scales < 0).any()):
            self.refuse(f"{name}.scales", f"holds {float(scales.min())!r}; a scale is not negative")

    def texts(self, rows: int, longest: int) -> int:
        """Check the digests, counts and windows of the texts, and return the number of texts."""
        digests = self.tensor(TEXTS + "digests", torch.uint8, [None, _DIGEST])
        count = len(digests)
        counts = self.tensor(TEXTS + "counts", torch.int64, [count])
        truncated = self.tensor(TEXTS + "truncated", torch.bool, [count])
        windows = self.tensor(TEXTS + "windows", torch.int64, [rows, 5])
        if count and (int(counts.min()) < 1 or int(counts.max()) > rows or int(counts.sum()) != rows):
            self.refuse(TEXTS + "counts", f"must be 1 or more a text, and {rows} in all")
        if not torch.equal(windows[:, 4].sort().values, torch.arange(rows, device="cpu")):
            self.refuse(TEXTS + "windows", f"must name each of the {rows} rows once")
        spans = windows[:, :4]
        start, stop, first, last = spans.T
        wrong = ((spans < 0) | (spans >= _LIMIT)).any(1) | (stop < start) | (last < first) | (stop - start > longest)
        # The windows of a text are in text order, and without gaps where the text was not truncated.
        text = torch.repeat_interleave(torch.arange(count, device="cpu"), counts)
        stops = (text * _LIMIT + stop.clamp(0, _LIMIT - 1)).cummax(0).values % _LIMIT
        is_first = torch.ones(rows, dtype=torch.bool, device="cpu")
        is_first[1:] = text.diff() > 0
        wrong[1:] |= ~is_first[1:] & (start.diff() < 0)
        before = torch.zeros(rows, dtype=torch.int64, device="cpu")
        before[1:] = stops[:-1].masked_fill(is_first[1:], 0)
        wrong |= ~truncated[text] & (start > before)
        if bool(wrong.any()):
            window = int(wrong.nonzero()[0])
            self.refuse(
                TEXTS + "windows",
                f"holds tokens {spans[window, :2].tolist()} and characters {spans[window, 2:].tolist()} as window "
                f"{int((text[:window] == text[window]).sum())} of a text; both must rise from 0, with at most "
                f"{longest} tokens a window",
            )
        return count
