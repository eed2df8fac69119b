"""`rerank eval`: which reranker is best on your own data; importing this is cheap."""

from __future__ import annotations

from collections.abc import Callable

from rerank_core import hookimpl


@hookimpl
def rerank_register_commands(register: Callable[[str, str, str], None]) -> None:
    register("eval", "rerank_eval.cli:app", "Compare rerankers on judged data: quality, speed and cost.")
