"""The kinds of problems that reports count by are those that reading can raise."""

from __future__ import annotations

import ast
from pathlib import Path

from rerank_core import records
from rerank_trainers.checks.report import KINDS, UNUSABLE
from rerank_trainers.data import line_files


def test_every_kind_of_a_bad_row_is_listed() -> None:
    """Reports know each kind that reading a row can raise, as an error that makes it unusable."""
    raised: set[str] = set()
    for path in (Path(str(line_files.__file__)), *Path(str(records.__file__)).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("RowError", "self._error"):
                raised.update([ast.literal_eval(node.args[1])] if isinstance(node.args[1], ast.Constant) else [])
    assert len(raised) == 15
    assert raised <= UNUSABLE <= set(KINDS)
