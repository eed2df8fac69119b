"""Throw-away plugin distributions on disk, as pip would leave them: found by the real discovery."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ONE_MODEL = """
    from rerank_core import ModelSpec, hookimpl

    @hookimpl
    def rerank_register_models(register):
        register(ModelSpec(name="{model}", scorer="{module}:make"{more}))

    def make(spec, options):
        from rerank_core.testing import FakeTextScorer
        return FakeTextScorer()
"""


def install(
    folder: Path, name: str, code: str | None = None, *, model: str = "acme-small", more: str = "", dist: str = ""
) -> str:
    """Put distribution ``rerank-NAME`` with entry point ``NAME`` into ``folder``; returns its module's name.

    Args:
        code: the module; by default it registers one model scored by a fake.
    """
    module = f"rerank_{name}"
    sys.modules.pop(module, None)  # an earlier test of this process may have imported a module of this name
    code = ONE_MODEL.format(model=model, module=module, more=more) if code is None else code
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = folder / f"{(dist or module).replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist or module}\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[rerank_core]\n{name} = {module}\n", encoding="utf-8")
    return module
