"""The rules of the house: who may import whom, how large a file may be, what is public, what an import costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import rerank_core

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "rerank_core"
PLUGINS = sorted((ROOT / "plugins").glob("*/src/*"))
TRAINERS = ROOT / "trainers" / "src" / "rerank_trainers"

HEAVY = {"torch", "transformers", "numpy", "onnxruntime", "tokenizers", "safetensors", "huggingface_hub"}

# Each room may import only rooms to its left (docs/architecture.md).
ORDER = [
    ["errors", "isolation"],
    ["types", "reading"],
    ["scorer", "longdoc", "batching", "hookspecs", "naming", "template", "vectors", "model_option", "records"],
    ["head", "indexable", "entry_points"],
    ["manners"],
    ["spec", "rows"],
    ["spec_file", "wording", "discovery"],
    ["adapter_folder"],
    ["options", "indexing", "compat", "streaming", "outcomes"],
    ["pipeline", "requests", "explaining"],
    ["progress", "ranking", "registry", "settling"],
    ["building"],
    ["reranker"],
    ["opening"],
    ["doctor"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}

# `__init__` lists public names and `pytest_plugin` one line for pytest; neither is a room.
ELSEWHERE = {"__init__", "pytest_plugin", "testing", "backends"}


def imports(path: Path, *, module_level: bool) -> set[str]:
    """Absolute modules a file imports; at module level only those that run on import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if module_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "rerank_core" or node.module.startswith("rerank_core."):
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def files(folder: Path) -> list[Path]:
    """Python files of a folder, all levels."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def room(module: str) -> str:
    """The room of ``rerank_core.room...``; empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def light_files() -> list[Path]:
    """Files of the core that must never import a heavy library on import."""
    return [path for path in files(CORE) if path.relative_to(CORE).parts[0] != "backends"]


@pytest.mark.parametrize("path", light_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_core_stays_light(path: Path) -> None:
    """Outside backends/ no heavy library is imported; testing/ and the doctor may, inside functions."""
    relative = path.relative_to(CORE)
    module_level = relative.parts[0] == "testing" or relative.name == "doctor.py"
    roots = {name.partition(".")[0] for name in imports(path, module_level=module_level)}

    assert not roots & HEAVY
    assert not {name for name in roots if name.startswith("rerank_") and name != "rerank_core"}


@pytest.mark.parametrize("path", files(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_point_one_way(path: Path) -> None:
    """A room imports only rooms to its left; backends/ imports neither registry, reranker nor pipeline."""
    here = path.relative_to(CORE).parts[0].removesuffix(".py")
    used = {room(name) for name in imports(path, module_level=False) if name.startswith("rerank_core.")} - {here, ""}
    if here == "backends":
        assert not used & {"registry", "reranker", "pipeline", "ranking", "indexing", "cli", "doctor", "testing"}
    elif here not in ELSEWHERE:
        # `from rerank_core import batching` names a module, `from rerank_core import __version__` a value.
        rooms = {name for name in used if name in LEVEL or name in ELSEWHERE}
        assert here in LEVEL, f"{path.name} is a new room: give it a place in ORDER and in docs/architecture.md"
        assert {name for name in rooms if LEVEL.get(name, 99) >= LEVEL[here]} == set()


@pytest.mark.parametrize("package", [*PLUGINS, TRAINERS], ids=lambda path: path.name)
def test_entry_modules_are_light_and_alone(package: Path) -> None:
    """A plugin's entry module imports nothing heavy; no file of a plugin imports another plugin or the trainers."""
    roots = {name.partition(".")[0] for name in imports(package / "__init__.py", module_level=True)}
    assert not roots & HEAVY
    everywhere = {name.partition(".")[0] for path in files(package) for name in imports(path, module_level=False)}
    ours = {name for name in everywhere if name.startswith("rerank_")}
    assert ours <= {"rerank_core", package.name}


@pytest.mark.parametrize("path", files(TRAINERS), ids=lambda path: str(path.relative_to(TRAINERS)))
def test_trainers_run_on_little(path: Path) -> None:
    """Beside torch and transformers nothing is imported until it is used, so that a missing extra is a clear message;
    commands import not even those before they are called."""
    roots = {name.partition(".")[0] for name in imports(path, module_level=True)}
    allowed = {
        "torch",
        "transformers",
        "accelerate",
        "safetensors",
        "numpy",
        "rich",
        "typer",
        "rerank_core",
        "rerank_trainers",
    }

    assert roots <= allowed | sys.stdlib_module_names
    if path.relative_to(TRAINERS).parts[0] == "cli":
        assert not roots & HEAVY


def test_files_are_small() -> None:
    """No Python file of the repository is longer than 300 lines."""
    folders = [CORE, *(ROOT / name for name in ("plugins", "trainers", "tests", "tools", "benchmarks"))]
    long = {
        str(path.relative_to(ROOT)): count
        for folder in folders
        for path in files(folder)
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert long == {}


def test_public_names_are_the_ones_listed() -> None:
    """`__all__` is sorted, everything in it exists, and nothing else public is exported but submodules."""
    listed = rerank_core.__all__
    assert listed == sorted(listed)
    modules = {path.stem for path in CORE.iterdir()}
    exported = {name for name in vars(rerank_core) if name.isidentifier() and name[0] != "_" and name not in modules}
    assert exported - {"annotations"} == set(listed)


def test_version_is_the_distributions() -> None:
    """`__version__` and pyproject.toml say the same, for the core and every plugin."""
    versions = {
        line
        for path in [
            ROOT / "pyproject.toml",
            TRAINERS.parents[1] / "pyproject.toml",
            *(ROOT / "plugins").glob("*/pyproject.toml"),
        ]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("version = ")
    }
    assert versions == {f'version = "{rerank_core.__version__}"'}


def test_known_models_are_those_of_our_plugins() -> None:
    """The tables behind the install hints are what the plugins in this repository register (`make fix` writes them)."""
    code = (
        "import json, runpy; tool = runpy.run_path('tools/known_models.py'); "
        "print(json.dumps([tool['table'](), tool['commands']()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    written = [
        json.loads((CORE / file).read_text(encoding="utf-8")) for file in ("known_models.json", "known_commands.json")
    ]
    assert json.loads(done.stdout) == written


@pytest.mark.parametrize("statement", ["import rerank_core", "import rerank_core; rerank_core.models()"])
def test_import_and_listing_bring_nothing_heavy(statement: str) -> None:
    """Neither importing the core nor listing every model imports torch and friends."""
    code = f"{statement}; import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def best(measure: Callable[[], float], enough: float) -> float:
    """The smallest of up to fifteen times: a busy machine makes any one of them longer, never shorter."""
    least = float("inf")
    for _ in range(15):
        least = min(least, measure())
        if least < enough:
            break
    return least


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose processes find compiled bytecode, as users' do: pip compiles what it installs, and a
    working tree under PYTHONDONTWRITEBYTECODE would be compiled anew at each start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}
    subprocess.run([sys.executable, "-m", "rerank_core", "models"], capture_output=True, env=environment, check=True)
    return environment


def import_seconds(module: str, environment: dict[str, str]) -> float:
    """What importing a module costs over a bare interpreter, measured inside."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)


@pytest.fixture(scope="module")
def asyncio_seconds(compiled: dict[str, str]) -> float:
    """What the standard library's asyncio costs to import here: the measure of a slow machine."""
    import_seconds("asyncio", compiled)
    return best(lambda: import_seconds("asyncio", compiled), 0.05)


def test_import_is_quick(compiled: dict[str, str], asyncio_seconds: float) -> None:
    """`import rerank_core` costs less than 100 ms, or on a slow machine than 1.8 times the import of asyncio."""
    limit = max(0.1, 1.8 * asyncio_seconds)

    assert best(lambda: import_seconds("rerank_core", compiled), limit) < limit


def test_listing_models_is_quick(compiled: dict[str, str], asyncio_seconds: float) -> None:
    """`rerank models` answers in half a second, or on a slow machine in 9 times the import of asyncio; interpreter and
    discovery included."""
    limit = max(0.5, 9 * asyncio_seconds)

    def measure() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-m", "rerank_core", "models"]
        subprocess.run(command, capture_output=True, env=compiled, check=True)
        return time.perf_counter() - started

    assert best(measure, limit) < limit
