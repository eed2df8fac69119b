"""Models of ModelScope, from a local server that answers its routes, through the package modelscope-hub."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.hubs.hub_server import COMMIT, Hub, serving
from helpers.hubs.modelscope_server import Handler
from rerank_core import CheckpointError, UnknownModelError
from rerank_core.backends.locate import fetch
from rerank_core.spec.hub_or_folder import remote_of
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "")]
MODEL = "modelscope:acme/tiny"
COPY = "modelscope:BAAI/bge-reranker-base"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by their ids on ModelScope."""
    root = tmp_path_factory.mktemp("modelscope")
    folders = {
        "acme/tiny": tiny_cross_encoder(root / "tiny", "xlm-roberta"),
        "BAAI/bge-reranker-base": tiny_cross_encoder(root / "base", "xlm-roberta", seed=5),
        "Qwen/Qwen3-Reranker-0.6B": tiny_causal_lm(root / "qwen", "qwen3", max_position_embeddings=8192),
    }
    for name in ("README.md", "pytorch_model.bin", "onnx/config.json", "configuration.json"):
        (folders["acme/tiny"] / name).parent.mkdir(exist_ok=True)
        (folders["acme/tiny"] / name).write_text("{}", encoding="utf-8")
    return folders


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server with them, which this process uses."""
    with serving(folders, handler=Handler) as hub:
        used(hub.url, tmp_path, monkeypatch)
        yield hub


def used(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process use an endpoint and an empty cache."""
    modelscope_hub = pytest.importorskip("modelscope_hub", reason="needs the package modelscope-hub")
    for name, value in (("ENDPOINT", endpoint), ("CACHE", str(home / "cache")), ("HOME", str(home / "home"))):
        monkeypatch.setenv(f"MODELSCOPE_{name}", value)
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_INTRA_CLOUD_ACCELERATION", "false")
    modelscope_hub.set_default_config(None)  # it reads the environment once
    monkeypatch.setattr(sys.modules["modelscope_hub._download"], "DOWNLOAD_RETRY_TIMES", 0)


def fetched(hub: Hub) -> list[str]:
    """The files that were downloaded, in order."""
    return [line.rpartition(" ")[2] for line in hub.requests if "/repo " in line]


# ---------------------------------------------------------------------- names
def test_names() -> None:
    """A model, a GGUF file of it, and strings that are neither."""
    model, file = remote_of(MODEL), remote_of(f"{MODEL}/q8/tiny.gguf")
    assert model is not None
    assert (model.id, model.file, model.on_modelscope) == ("acme/tiny", None, True)
    assert file is not None
    assert (file.id, file.file, file.on_modelscope) == ("acme/tiny", "q8/tiny.gguf", True)
    for wrong in ("modelscope:", "modelscope:tiny", f"{MODEL}/", f"{MODEL}/../x.gguf", f"{MODEL}/x.bin", f" {MODEL}",
                  "modelscope:modelscope:acme/tiny", "ModelScope:acme/tiny"):  # fmt: skip
        assert remote_of(wrong) is None, wrong
        with pytest.raises(UnknownModelError):
            rerank_core.load(wrong)
        with pytest.raises(CheckpointError, match=r"or 'modelscope:owner/name'"):
            rerank_core.load("bge-reranker-base", checkpoint=wrong)


def test_without_the_package() -> None:
    """The error gives the command that installs it."""
    code = (
        "import sys, rerank_core\nsys.modules['modelscope_hub'] = None\n"
        "try: rerank_core.load('modelscope:acme/tiny')\n"
        "except rerank_core.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is on ModelScope, which needs 'modelscope_hub': pip install 'rerank-core[modelscope]'" in done.stdout


# ---------------------------------------------------------------------- loading
def test_only_a_models_files_are_fetched(
    hub: Hub, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are those that come from the hub of Hugging Face, the weights last, with a bar of their bytes; a second
    load downloads nothing."""
    reranker = rerank_core.load(MODEL, device="cpu")
    files = fetched(hub)
    assert "Downloading [model.safetensors]" in capsys.readouterr().err

    assert sorted(files) == [
        "config.json", "configuration.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    assert files[-1] == "model.safetensors"
    assert (reranker.spec.name, reranker.spec.checkpoint) == ("acme/tiny", MODEL)
    expected = rerank_core.load(folders["acme/tiny"], device="cpu").score(PAIRS)
    assert reranker.score(PAIRS) == expected
    assert rerank_core.load(MODEL, device="cpu").score(PAIRS) == expected
    assert fetched(hub) == files
    assert str(fetch(MODEL, revision=None, offline=False)).startswith(str(tmp_path / "cache"))


def test_offline_only_the_cache_is_read(hub: Hub) -> None:
    """Before the download it is an error, after it no request is made; the same with a revision."""
    for revision in (None, COMMIT):
        with pytest.raises(CheckpointError, match=r"was not found in ModelScope's cache \(offline=True\)"):
            fetch("modelscope:Qwen/Qwen3-Reranker-0.6B", revision=revision or "master", offline=True)
        online = rerank_core.load(MODEL, device="cpu", revision=revision).score(PAIRS)
        before = list(hub.requests)
        assert rerank_core.load(MODEL, device="cpu", revision=revision, offline=True).score(PAIRS) == online
        assert hub.requests == before


def test_a_copy_of_a_named_model(hub: Hub, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a named model takes its template and head, at ModelScope's own branch, by itself and as checkpoint=.
    Its digests are compared."""
    for name, options in ((COPY, {}), ("bge-reranker-base", {"checkpoint": COPY})):
        reranker = rerank_core.load(name, device="cpu", **options)
        assert reranker.spec.name == "bge-reranker-base"
        assert reranker.options.checkpoint == COPY
        folder = folders["BAAI/bge-reranker-base"]
        assert reranker.score(PAIRS) == rerank_core.load("bge-reranker-base", checkpoint=folder, device="cpu").score(
            PAIRS
        )
    assert rerank_core.load("modelscope:Qwen/Qwen3-Reranker-0.6B", device="cpu").spec.name == "qwen3-reranker-0.6b"

    spec = next(spec for spec in rerank_core.models() if spec.name == "bge-reranker-base")
    monkeypatch.setitem(spec.sha256, "model.safetensors", "0" * 64)  # type: ignore[index]
    with pytest.raises(CheckpointError, match="has sha256"):
        rerank_core.load(COPY, device="cpu")


def test_a_gguf_file_and_a_chat_model(hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    """Of a repository of GGUF files only the file is fetched; `llm:` takes a model of ModelScope."""
    files = pytest.importorskip("helpers.gguf.files", reason="needs the package gguf")
    bert = tiny_cross_encoder(tmp_path / "bert", "bert")
    (tmp_path / "gguf" / "q8").mkdir(parents=True)
    file = files.write_gguf(bert, tmp_path / "gguf" / "q8" / "tiny.gguf", rank=True)
    (tmp_path / "gguf" / "q4.gguf").write_bytes(b"")
    hub.models = {**folders, "acme/tiny-GGUF": tmp_path / "gguf"}
    name = "modelscope:acme/tiny-GGUF/q8/tiny.gguf"
    expected = rerank_core.load(file, device="cpu").score(PAIRS)

    for offline in (False, True):
        assert rerank_core.load(name, device="cpu", offline=offline).score(PAIRS) == expected
    assert fetched(hub) == ["q8/tiny.gguf"]
    with pytest.raises(UnknownModelError, match="the repository has no such file; it has 2 others"):
        rerank_core.load("modelscope:acme/tiny-GGUF/q5.gguf")
    with pytest.raises(UnknownModelError, match="none of a model's files"):
        rerank_core.load("modelscope:acme/tiny-GGUF")
    chat = rerank_core.load("llm:modelscope:Qwen/Qwen3-Reranker-0.6B", device="cpu", prompt="{query}\n{doc}")
    assert len(chat.score(PAIRS)) == 2


def test_training_starts_from_a_copy(hub: Hub) -> None:
    """The files are ModelScope's, and the template and limits those of the named model."""
    kinds, schema, source = (
        pytest.importorskip("rerank_trainers.kinds"),
        pytest.importorskip("rerank_trainers.config.schema"),
        pytest.importorskip("rerank_trainers.model.source"),
    )
    for checkpoint, followed in ((COPY, "bge-reranker-base"), (MODEL, None)):
        found = source.source_of(
            schema.ModelConfig(checkpoint=checkpoint, kind="cross-encoder"), kinds.KINDS["cross-encoder"]
        )
        assert (found.directory / "model.safetensors").is_file()
        assert (found.follows.name if found.follows else None) == followed
    with pytest.raises(CheckpointError, match="was not found on"):
        source.source_of(
            schema.ModelConfig(checkpoint="modelscope:acme/absent", kind="cross-encoder"), kinds.KINDS["cross-encoder"]
        )


# ---------------------------------------------------------------------- faults
def test_errors(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model or revision that is not there, a file that may not be read, and a server that does not answer."""
    for call, said in (
        (lambda: rerank_core.load("modelscope:acme/absent"), f"'modelscope:acme/absent' was not found on {hub.url}"),
        (lambda: rerank_core.load(MODEL, revision="v2"), f"{MODEL!r} at revision 'v2' was not found on {hub.url}"),
        (lambda: rerank_core.load("bge-reranker-base", checkpoint="modelscope:a/b"), "'modelscope:a/b' was not found"),
    ):
        with pytest.raises((CheckpointError, UnknownModelError)) as caught:
            call()
        assert said in str(caught.value)
    hub.broken.add("model.safetensors")
    with pytest.raises(CheckpointError, match=f"cannot be downloaded from {hub.url}.*1 of 1 file.*forbidden"):
        fetch(MODEL, revision=None, offline=False)
    used("http://127.0.0.1:9", tmp_path, monkeypatch)
    monkeypatch.setattr(sys.modules["modelscope_hub._legacy_api"], "REPO_TREE_PAGE_MAX_ATTEMPTS", 1)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded from http://127\.0\.0\.1:9"):
        fetch(MODEL, revision=None, offline=False)


def test_files_of_an_earlier_revision(hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    """A changed file is fetched again; one that the branch has no more is refused; a file of the cache's owner that no
    model reads is left alone."""
    folder = fetch(MODEL, revision=None, offline=False)
    (folder / "notes.md").write_text("mine")
    (folder / "config.json").write_text("{}")
    fetch(MODEL, revision=None, offline=False)
    assert (folder / "config.json").read_text() == (folders["acme/tiny"] / "config.json").read_text()
    (folder / "chat_template.jinja").write_text("")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja' is not part of 'modelscope:acme/tiny' any more"):
        fetch(MODEL, revision=None, offline=False)


def test_a_cache_of_the_old_library_names_no_revision(hub: Hub, tmp_path: Path) -> None:
    """Its folder is read for the default branch only."""
    old = tmp_path / "cache" / "hub" / "models" / "acme" / "tiny"
    tiny_cross_encoder(old, "xlm-roberta", seed=9)
    assert fetch(MODEL, revision=None, offline=True) == old
    with pytest.raises(CheckpointError, match="of an earlier version of the library and names no revision"):
        fetch(MODEL, revision="v2", offline=True)


@pytest.mark.parametrize(
    "path", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\evil.json", "C:/evil.json"]
)
def test_a_path_outside_the_folder_is_refused(
    path: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server cannot write elsewhere."""

    class Hostile(Handler):
        def more(self, model: str) -> list[dict[str, Any]]:
            return [{"Path": path, "Type": "blob", "Size": 2}]

    with serving(folders, handler=Hostile) as hub:
        used(hub.url, tmp_path, monkeypatch)
        with pytest.raises(CheckpointError, match="not inside its folder"):
            fetch(MODEL, revision=None, offline=False)
        assert fetched(hub) == []
