"""Virtual environments for other frameworks, outside the repository. Each requirements file has one, built once.

    python tools/environments.py tests/parity/originals.txt        # prints the path of the Python interpreter

A requirements file has one package per line. Packages below a line that starts with ``# no-deps`` are installed
without their dependencies. The environments are in ``$RERANK_ENVIRONMENTS``, by default in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["home", "python_of"]


def python_of(requirements: Path) -> Path:
    """The interpreter of the environment of a requirements file; the environment is built if it does not exist."""
    text = requirements.read_text(encoding="utf-8")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()[:12]
    path = home() / f"{requirements.stem}-{digest}"
    if not (path / "ready").exists():
        _build(path, text)
    return path / "bin" / "python"


def home() -> Path:
    """The folder of all environments."""
    if folder := os.environ.get("RERANK_ENVIRONMENTS"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "rerank-core" / "environments"


def _build(path: Path, text: str) -> None:
    plain, _, without_dependencies = text.partition("# no-deps")
    print(f"building the environment {path.name}", file=sys.stderr)
    shutil.rmtree(path, ignore_errors=True)  # files of an interrupted build
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    # The caller's PIP_CONSTRAINT is replaced: its constraints would conflict with the old versions needed here.
    pins = [line for line in plain.splitlines() if "==" in line and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins), encoding="utf-8")
        environment = {**os.environ, "PIP_CONSTRAINT": str(constraints)}
        for name, lines, extra in (
            ("plain", plain, []),
            ("without_dependencies", without_dependencies.partition("\n")[2], ["--no-deps"]),
        ):
            wanted = Path(folder) / f"{name}.txt"
            wanted.write_text(lines, encoding="utf-8")
            if any(line.strip() and not line.startswith("#") for line in lines.splitlines()):
                install = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet"]
                command = [*install, "--disable-pip-version-check", *extra, "-r", str(wanted)]
                subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    (path / "ready").touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: environments.py REQUIREMENTS")
    print(python_of(Path(sys.argv[1])))
