"""Downloads from a local server that answers as the hub does, in the place of a mirror that HF_ENDPOINT names."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rerank_core
from helpers.hubs.hub_server import COMMIT, Hub, pointed_at, serving
from helpers.models.decoder_classifiers import tiny_decoder_classifier
from rerank_core import CheckpointError, UnknownModelError
from rerank_core.backends.locate import fetch
from rerank_core.testing import tiny_cross_encoder

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "")]
MODEL = "acme/tiny"
NAMED = "bge-reranker-base"

# All downloads that a user can cause, in a process whose environment names the mirror.
SCRIPT = """
import json, sys
import rerank_core
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds import KINDS
from rerank_trainers.model.source import source_of

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "")]
names = ["acme/tiny", "bge-reranker-base", "acme/tiny-GGUF/q8/tiny.gguf"]
scores = {name: rerank_core.load(name, device="cpu").score(PAIRS) for name in names}
trained = source_of(ModelConfig(checkpoint="acme/base", kind="cross-encoder"), KINDS["cross-encoder"]).directory
print(json.dumps({"scores": scores, "trained": sorted(path.name for path in trained.iterdir())}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("hub") / "tiny", "xlm-roberta")


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server with that folder, which this process uses."""
    with serving({MODEL: folder}) as hub:
        pointed_at(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


def test_every_file_that_changes_scores_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chat templates and the files in the folders of modules are among them; other formats and code are not."""
    wanted = {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt",
        "modules.json", "config_sentence_transformers.json", "chat_template.jinja",
        "additional_chat_templates/rerank.jinja", "1_LogitScore/config.json", "2_Dense/config.json",
        "2_Dense/model.safetensors", "colbert_linear.pt", "sparse_linear.pt", "artifact.metadata",
    }  # fmt: skip
    others = {
        "README.md", "pytorch_model.bin", "modeling_new.py", "onnx/config.json", "openvino/openvino_model.xml",
        "tf_model.h5", "imgs/plot.png", "2_Dense/pytorch_model.bin",
    }  # fmt: skip
    for name in wanted | others:
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name, encoding="utf-8")
    with serving({MODEL: tmp_path / "model"}) as hub:
        pointed_at(hub.url, tmp_path / "cache", monkeypatch)
        found = fetch(MODEL, revision=None, offline=False)
        assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == wanted
        assert hub.fetched(MODEL) == wanted
        fetch(MODEL, revision=COMMIT, offline=False, pickled=True)
        assert hub.fetched(MODEL) == {*wanted, "pytorch_model.bin"}


def test_a_download_has_the_scores_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier with a chat template is scored through it, under its hub id as from its folder."""
    folder = tiny_decoder_classifier(tmp_path / "model")
    template = "{% for one in messages %}<{{ one.role }}>{{ one.content }}\n{% endfor %}Relevant?"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    expected = rerank_core.load(folder, device="cpu")
    with serving({MODEL: folder}) as hub:
        pointed_at(hub.url, tmp_path / "cache", monkeypatch)
        found = rerank_core.load(MODEL, device="cpu")

    assert found.spec.template == expected.spec.template
    assert found.spec.template.wrap == "chat"
    assert found.score(PAIRS) == expected.score(PAIRS)


def test_a_second_load_downloads_nothing(hub: Hub, folder: Path) -> None:
    """The cache is read again, also without network access."""
    expected = rerank_core.load(folder, device="cpu").score(PAIRS)
    assert rerank_core.load(MODEL, device="cpu").score(PAIRS) == expected
    before = list(hub.requests)
    assert rerank_core.load(MODEL, device="cpu", offline=True).score(PAIRS) == expected
    assert hub.requests == before
    named = rerank_core.load(NAMED, checkpoint=MODEL, device="cpu", revision="main")
    assert named.score(PAIRS) == expected
    assert not [line for line in hub.requests[len(before) :] if line.startswith("GET") and "/resolve/" in line]


def test_errors_name_the_mirror(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model, revision or file that it does not have, a refusal, and a mirror that does not answer."""
    where = f"{hub.url} (HF_ENDPOINT)"
    for call, said in (
        (lambda: rerank_core.load("acme/absent"), f"'acme/absent' was not found on {where}"),
        (lambda: rerank_core.load(MODEL, revision="v2"), f"'acme/tiny' at revision 'v2' was not found on {where}"),
        (lambda: rerank_core.load(f"{MODEL}/q8.gguf"), f"'acme/tiny/q8.gguf' was not found on {where}"),
        (lambda: rerank_core.load(NAMED, checkpoint="acme/absent"), f"'acme/absent' was not found on {where}"),
    ):
        with pytest.raises((CheckpointError, UnknownModelError)) as caught:
            call()
        assert said in str(caught.value)

    hub.broken.add("config.json")
    with pytest.raises(CheckpointError) as caught:
        fetch(MODEL, revision=None, offline=False)
    assert f"'acme/tiny' cannot be downloaded from {where}, and is not in the local cache" in str(caught.value)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unreachable = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for endpoint in (unreachable, "mirror.example", "http://[::bad"):
            pointed_at(endpoint, tmp_path / "other", monkeypatch)
            with pytest.raises(CheckpointError) as caught:
                fetch(MODEL, revision=None, offline=False)
            assert f"cannot be downloaded from {endpoint} (HF_ENDPOINT)" in str(caught.value)


def test_a_process_follows_hf_endpoint(folder: Path, tmp_path: Path) -> None:
    """A model by its hub id, a named model at its pinned commit, a GGUF file and a model to train are downloaded
    from the mirror that the environment names, and score as their folders do."""
    files = pytest.importorskip("helpers.gguf.files", reason="needs the package gguf")
    spec = next(spec for spec in rerank_core.models() if spec.name == NAMED)
    assert spec.revision is not None
    named = tiny_cross_encoder(tmp_path / "named", "xlm-roberta", seed=5)
    bert = tiny_cross_encoder(tmp_path / "bert", "bert")
    (tmp_path / "gguf" / "q8").mkdir(parents=True)
    file = files.write_gguf(bert, tmp_path / "gguf" / "q8" / "tiny.gguf", rank=True)
    models = {MODEL: folder, spec.checkpoint: named, "acme/tiny-GGUF": tmp_path / "gguf", "acme/base": bert}
    with serving(models, {spec.checkpoint: spec.revision}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            environment.pop(name, None)
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["scores"] == {
        MODEL: pytest.approx(rerank_core.load(folder, device="cpu").score(PAIRS), abs=1e-6),
        NAMED: pytest.approx(rerank_core.load(named, device="cpu").score(PAIRS), abs=1e-6),
        "acme/tiny-GGUF/q8/tiny.gguf": pytest.approx(rerank_core.load(file, device="cpu").score(PAIRS), abs=1e-6),
    }
    assert "model.safetensors" in found["trained"]
    assert f"GET /{spec.checkpoint}/resolve/{spec.revision}/model.safetensors" in hub.requests
