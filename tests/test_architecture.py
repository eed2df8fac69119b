"""The rules of the tree: who may import whom, how large files and folders may be, what is public."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import rerank_core

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "rerank_core"
PLUGINS = sorted((ROOT / "plugins").glob("*/src/*"))
TRAINERS = ROOT / "trainers" / "src" / "rerank_trainers"

HEAVY = {"torch", "transformers", "numpy", "onnxruntime", "tokenizers", "safetensors", "huggingface_hub"}
HEAVY |= {"ir_measures", "bm25s", "scipy", "sklearn"}
# Parts of the core outside backends/ that import a heavy library inside functions.
LAZY = {"testing", "doctor.py", "measures"}

# Who may import whom (docs/architecture.md): a file or folder imports only what stands in an earlier line.
LAWS: dict[str, list[str]] = {
    "rerank_core": [
        "errors progress",
        "types",
        "scorer",
        "planning records combine measures",
        "spec index",
        "options plugins",
        "rules pipeline backends",
        "identity",
        "reranker",
        "loading testing",
        "ensemble doctor",
        "cli",
        "__main__",
    ],
    "rerank_core.backends.torch": [
        "configuration execution gguf_reader label_score pickle_conversion process_memory safe_config trainable",
        "safetensors_reader workers",
        "load_weights check_tokenizer linear side_layers",
        "attention",
        "encoder",
        "base",
        "cross_encoder decoder late_interaction",
        "encoder_scorer lora",
        "encoder_decoder",
    ],
    "rerank_trainers": [
        "errors",
        "atomic_files",
        "config",
        "data model objectives",
        "teachers",
        "retrieval",
        "evaluation",
        "checks",
        "loop mining",
        "publish",
        "kinds",
        "train",
        "cli",
    ],
    "rerank_eval": [
        "sets",
        "runs",
        "figures",
        "advice judging mteb thresholds",
        "report suites",
        "compare_models",
        "cli",
    ],
}
FOLDERS = {
    "rerank_core": CORE,
    "rerank_core.backends.torch": CORE / "backends" / "torch",
    "rerank_trainers": TRAINERS,
    "rerank_eval": ROOT / "plugins" / "rerank_eval" / "src" / "rerank_eval",
}
# `__init__` lists public names or loads the folder's parts, and `pytest_plugin` is one line for pytest.
FREE = {"__init__", "pytest_plugin"}


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


def level_of(law: str, name: str) -> int | None:
    """Which line of a law a file or folder stands in; None where it stands in none."""
    return next((level for level, names in enumerate(LAWS[law]) if name in names.split()), None)


def light_files() -> list[Path]:
    """Files of the core that must never import a heavy library on import."""
    return [path for path in files(CORE) if path.relative_to(CORE).parts[0] != "backends"]


@pytest.mark.parametrize("path", light_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_core_stays_light(path: Path) -> None:
    """Outside backends/ no heavy library is imported; measures/, testing/ and the doctor may, inside functions."""
    relative = path.relative_to(CORE)
    module_level = relative.parts[0] in LAZY
    roots = {name.partition(".")[0] for name in imports(path, module_level=module_level)}

    assert not roots & HEAVY
    assert not {name for name in roots if name.startswith("rerank_") and name != "rerank_core"}


@pytest.mark.parametrize("law", LAWS)
def test_every_file_and_folder_has_its_place(law: str) -> None:
    """A new file or folder is given a line in LAWS and a word in docs/architecture.md."""
    here = {path.stem for path in FOLDERS[law].iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert here - FREE == {name for names in LAWS[law] for name in names.split()}


@pytest.mark.parametrize(
    ("law", "path"),
    [(law, path) for law in LAWS for path in files(FOLDERS[law])],
    ids=lambda value: value if isinstance(value, str) else str(value.relative_to(ROOT)),
)
def test_imports_point_one_way(law: str, path: Path) -> None:
    """A file imports its own folder and what stands in an earlier line, nothing else."""
    here = path.relative_to(FOLDERS[law]).parts[0].removesuffix(".py")
    if here in FREE:
        return
    used = {
        name.removeprefix(f"{law}.").partition(".")[0]
        for name in imports(path, module_level=False)
        if name.startswith(f"{law}.")
    }
    levels = {name: level_of(law, name) for name in used - {here}}
    own = level_of(law, here)

    assert own is not None
    # What stands in no line is a value, as in `from rerank_core import __version__`.
    assert {name for name, level in levels.items() if level is not None and level >= own} == set()


PACKAGES = sorted({path.parent for folder in (CORE, TRAINERS, *PLUGINS) for path in files(folder)})


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_folder_says_what_is_inside(folder: Path) -> None:
    """Its `__init__` begins with one line about it, and it holds about a dozen files at most."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))

    assert text
    assert text.splitlines()[0].endswith(".")
    assert len(list(folder.glob("*.py"))) <= 14


def test_tests_mirror_the_sources() -> None:
    """A folder of tests has the name of the folder that it tests."""
    others = {"helpers", "hostile", "benchmarks", "parity", "folders", "examples"}
    for tests, sources in ((ROOT / "tests", CORE), (ROOT / "trainers" / "tests", TRAINERS)):
        for path in tests.rglob("*"):
            if path.is_dir() and path.name != "__pycache__" and not others & set(path.relative_to(tests).parts):
                assert (sources / path.relative_to(tests)).is_dir(), path


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
    exported = {name for name in dir(rerank_core) if name.isidentifier() and name[0] != "_" and name not in modules}
    assert exported - {"TYPE_CHECKING", "Any", "annotations", "import_module"} == set(listed)
    assert all(hasattr(rerank_core, name) for name in listed)


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
    names = ("known_models.json", "known_commands.json")
    written = [json.loads((CORE / "plugins" / name).read_text(encoding="utf-8")) for name in names]
    assert json.loads(done.stdout) == written
