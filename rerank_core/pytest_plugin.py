"""Loaded by pytest: failures inside the conformance suite show their values, as in a test's own file.

It stands outside `rerank_core.testing` because that package must not be imported before this line has run.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rerank_core.testing.conformance")
