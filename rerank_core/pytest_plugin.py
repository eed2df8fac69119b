"""A pytest plugin: failed assertions of the conformance suite show their values, as those of a test file do.

It is outside `rerank_core.testing` because that package must not be imported before this line has run.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rerank_core.testing.conformance")
