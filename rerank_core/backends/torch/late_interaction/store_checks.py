"""A shard of an index on disk is untrusted until every tensor was looked at: names, types, shapes, ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch

from rerank_core.backends.torch.late_interaction.embeddings import Embedding
from rerank_core.backends.torch.late_interaction.store_manifest import REBUILD_HINT
from rerank_core.errors import IndexStoreError, short

__all__ = ["OWN", "PROBE", "Fit", "check_shard"]

Fit: TypeAlias = Callable[[Mapping[str, torch.Tensor]], str | None]
"""Says what is wrong with the lengths of the parts of all rows; None where nothing is."""

OWN = "index."
"""What begins so in a shard is the index's own, all else parts of embeddings."""
PROBE = "probe."

_DIGEST = 32
_MOST = 2**31
"""More characters and tokens than a text has."""
_CODING = {"centroids": torch.float32, "codes": torch.uint8, "scales": torch.float16}


def check_shard(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    shard: Mapping[str, Any],
    probe: Embedding,
    *,
    precision: str,
    longest: int,
    fit: Fit,
) -> None:
    """Refuse a shard that no index of this model and precision has, whatever its digest says.

    Args:
        shard: what the manifest says of it.
        probe: an embedding of the model, for the parts and their widths.
        longest: tokens of a window, at most.
        fit: what the model knows of the lengths of its parts.

    Raises:
        IndexStoreError: names the file and the tensor.
    """
    check = _Check(path, tensors)
    names = {name for name in tensors if f"{name}.bounds" in tensors and not name.startswith((OWN, PROBE))}
    if names != set(probe):
        raise IndexStoreError(f"{path} holds {sorted(names)!r}, and the model makes {sorted(probe)!r}. {REBUILD_HINT}")
    lengths = {
        name: check.part(name, own, precision, coded=precision == "int8" and number == 0)
        for number, (name, own) in enumerate(probe.items())
    }
    rows = {name: len(own) for name, own in lengths.items()}
    first = next(iter(probe))
    if len(set(rows.values())) != 1:
        check.refuse("bounds", f"are of different numbers of rows: {rows!r}")
    if (wrong := fit(lengths)) is not None:
        check.refuse("bounds", wrong)
    texts = check.texts(rows[first], longest)
    if shard["texts"] != texts:
        check.refuse("texts", f"is {short(shard['texts'])} in the manifest, and the file holds {texts}")
    vectors = 0 if precision == "float32" else len(tensors[first])
    if shard["vectors"] != vectors:
        check.refuse("vectors", f"is {short(shard['vectors'])} in the manifest, and the file holds {vectors}")


class _Check:
    def __init__(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        self._path = path
        self._tensors = tensors

    def refuse(self, field: str, why: str) -> NoReturn:
        raise IndexStoreError(f"{self._path}: {field} {why}. {REBUILD_HINT}")

    def tensor(self, name: str, dtype: torch.dtype, shape: Sequence[int | None]) -> torch.Tensor:
        """A tensor of this type and shape, where None is any length; floats are finite."""
        found = self._tensors.get(name)
        if found is None:
            self.refuse(name, "is missing")
        fits = len(found.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found.shape, strict=True)
        )
        if found.dtype != dtype or not fits:
            wanted = [("any" if length is None else length) for length in shape]
            self.refuse(name, f"is {found.dtype} {tuple(found.shape)}; it must be {dtype} {wanted}")
        # One pass over memory: a sum of finite numbers may overflow, one with NaN or an infinity is never finite.
        if (
            found.is_floating_point()
            and not bool(found.sum(dtype=torch.float32).isfinite())
            and not bool(torch.isfinite(found).all())
        ):
            self.refuse(name, "holds NaN or infinity")
        return found

    def part(self, name: str, own: torch.Tensor, precision: str, *, coded: bool) -> torch.Tensor:
        """Check a part of all rows; the length of each row."""
        floats = torch.float32 if precision == "float32" else torch.float16
        dtype = torch.int8 if coded else floats if own.is_floating_point() else own.dtype
        data = self.tensor(name, dtype, [None, *own.shape[1:]])
        bounds = self.tensor(f"{name}.bounds", torch.int64, [None])
        lengths = bounds.diff()
        ends = len(bounds) > 0 and int(bounds[0]) == 0 and int(bounds[-1]) == len(data)
        if not ends or bool((lengths < 0).any()):
            self.refuse(f"{name}.bounds", f"must rise from 0 to {len(data)}")
        given = [key for key in _CODING if f"{name}.{key}" in self._tensors]
        if given and not coded:
            self.refuse(name, f"has {given!r}, which only a first part in int8 has")
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
            self.refuse(f"{name}.scales", f"holds {float(scales.min())!r}; a step is not negative")

    def texts(self, rows: int, longest: int) -> int:
        """Check what is said of the texts and their windows; the number of texts."""
        digests = self.tensor(OWN + "digests", torch.uint8, [None, _DIGEST])
        count = len(digests)
        counts = self.tensor(OWN + "counts", torch.int64, [count])
        truncated = self.tensor(OWN + "truncated", torch.bool, [count])
        windows = self.tensor(OWN + "windows", torch.int64, [rows, 5])
        if count and (int(counts.min()) < 1 or int(counts.max()) > rows or int(counts.sum()) != rows):
            self.refuse(OWN + "counts", f"must be 1 or more a text, and {rows} in all")
        if not torch.equal(windows[:, 4].sort().values, torch.arange(rows)):
            self.refuse(OWN + "windows", f"must name each of the {rows} rows once")
        spans = windows[:, :4]
        start, stop, first, last = spans.T
        wrong = ((spans < 0) | (spans >= _MOST)).any(1) | (stop < start) | (last < first) | (stop - start > longest)
        # The windows of a text come in text order; without gaps, where all of it was read.
        text = torch.repeat_interleave(torch.arange(count), counts)
        reached = (text * _MOST + stop.clamp(0, _MOST - 1)).cummax(0).values % _MOST
        begins = torch.ones(rows, dtype=torch.bool)
        begins[1:] = text.diff() > 0
        wrong[1:] |= ~begins[1:] & (start.diff() < 0)
        before = torch.zeros(rows, dtype=torch.int64)
        before[1:] = reached[:-1].masked_fill(begins[1:], 0)
        wrong |= ~truncated[text] & (start > before)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            self.refuse(
                OWN + "windows",
                f"holds tokens {spans[place, :2].tolist()} and characters {spans[place, 2:].tolist()} as window "
                f"{int((text[:place] == text[place]).sum())} of a text; both must rise from 0, with at most {longest} "
                "tokens a window",
            )
        return count
