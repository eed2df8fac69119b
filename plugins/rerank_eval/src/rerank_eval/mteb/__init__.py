"""Models of rerank-core in mteb 2: `mteb_model` makes what `mteb.evaluate` takes; mteb is imported inside functions."""

from __future__ import annotations

from rerank_eval.mteb.model import mteb_model

__all__ = ["mteb_model"]
