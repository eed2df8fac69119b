"""Listwise models as data."""

from rerank_core import ModelSpec

LISTWISE: tuple[ModelSpec, ...] = ()
