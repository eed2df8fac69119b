"""`tools/verify_model.py`: tiny checkpoints beside the original frameworks, and one downloaded from a local server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rerank_core
from helpers.hubs.hub_server import pointed_at, serving
from helpers.scripts import module_of
from rerank_core import Head, ModelSpec, Template, write_spec
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder, tiny_encoder_decoder

pytest.importorskip("sentence_transformers", reason="needs the package sentence-transformers")

ROOT = Path(__file__).resolve().parent.parent
NAME = "bce-reranker-base"
PAIRS = [("what is panda?", "hi"), ("熊猫吃什么？", "竹子")]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return module_of(ROOT / "tools" / "verify_model.py")


def multi_vector(folder: Path) -> Path:
    """A late-interaction folder that sentence-transformers saved."""
    from sentence_transformers import MultiVectorEncoder

    MultiVectorEncoder(str(tiny_encoder(folder / "base")), device="cpu").save(str(folder / "saved"))
    return folder / "saved"


def m3(folder: Path) -> Path:
    """An encoder with the projection of BGE-M3."""
    from helpers.hubs.hub_cache import bge_m3

    bge_m3(folder)
    return folder


def doc_first(folder: Path) -> Path:
    """A decoder classifier whose chat template writes the document before the query."""
    from helpers.models.decoder_classifiers import tiny_decoder_classifier

    tiny_decoder_classifier(folder, padding=0)
    chosen = "{% for one in messages %}{% if one.role == 'ROLE' %}{{ one.content }}\n{% endif %}{% endfor %}"
    template = "".join(chosen.replace("ROLE", role) for role in ("document", "query"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def decoder(folder: Path) -> Path:
    return tiny_causal_lm(folder, "qwen3", max_position_embeddings=8192)


def encoder_decoder(folder: Path) -> Path:
    """A T5 with monoT5's prompt."""
    from helpers.models.seq2seq import SPEC

    write_spec(SPEC, tiny_encoder_decoder(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "write", "framework"),
    [
        (NAME, tiny_cross_encoder, "sentence-transformers"),
        ("qwen3-reranker-4b", decoder, "transformers"),
        ("zerank-1-small", decoder, "transformers"),
        ("ctxl-rerank-v2-1b", decoder, "transformers"),
        ("bge-m3-colbert", m3, "transformers"),
        ("lateon", multi_vector, "sentence-transformers"),
        (None, multi_vector, "sentence-transformers"),
        (None, encoder_decoder, "transformers"),
    ],
)
def test_families(
    tool: ModuleType, tmp_path: Path, name: str | None, write: Callable[[Path], Path], framework: str
) -> None:
    """Scores of short, long and empty documents equal those of the original, whose name is reported."""
    folder = str(write(tmp_path))
    report = tool.verify(folder) if name is None else tool.verify(name, folder, scores=())

    assert report.framework.startswith(f"{framework} ")
    assert report.ok
    assert report.difference < 1e-5
    assert {"en, long", "zh, long", "en, empty", "zh, en"} <= {label for label, _, _ in report.pairs}
    assert len({round(ours, 4) for _, ours, _ in report.pairs}) == len(report.pairs)
    assert not report.pinned


def test_the_document_first(tool: ModuleType, tmp_path: Path) -> None:
    """Long documents are left out there, because sentence-transformers cuts the query."""
    report = tool.verify(str(doc_first(tmp_path)))

    assert report.framework.startswith("sentence-transformers ")
    assert "cuts the query" in report.reason
    assert {label for label, _, _ in report.pairs} >= {"en, relevant", "zh, empty"}
    assert not [label for label, _, _ in report.pairs if "long" in label]
    assert report.ok


def test_scores_that_differ(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder whose reranker.json adds a prompt that sentence-transformers does not know is different, with exit
    code 1; a model without an original here cannot be compared, with exit code 2."""
    tiny_cross_encoder(tmp_path / "other")
    write_spec(
        ModelSpec(name="other", template=Template.pair("ask: {query}"), head=Head.classifier()), tmp_path / "other"
    )
    for given, code, said in (
        ([str(tmp_path / "other")], 1, "different"),
        (["mini"], 2, "reads an embedding model as late interaction"),
        (["./absent"], 2, "there is no such directory"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["verify_model.py", *given])
            assert tool.main() == code
        printed = capsys.readouterr()
        assert said in printed.out + printed.err


def test_published_scores_are_compared(tool: ModuleType, tmp_path: Path) -> None:
    """Each in its own space, the first of two that are equal; a wrong one makes the report fail."""
    folder = tiny_cross_encoder(tmp_path / "tiny")
    raw = rerank_core.load(NAME, checkpoint=folder, device="cpu").score(PAIRS)
    entry = {"model": "maidalun1020/bce-reranker-base_v1", "score_space": "logit", "pairs": PAIRS, "scores": raw,
             "source": "a card", "note": "", "tolerance": 1e-4}  # fmt: skip
    file = tmp_path / "published.json"
    for change, ok in (
        ({}, True),
        ({"scores": [raw[0], raw[1] + 2e-4]}, False),
        ({"scores": [raw[0], raw[1] + 2e-4], "tolerance": None}, True),
        ({"score_space": "sigmoid of the logit"}, False),
    ):
        others = [{**entry, "model": "acme/unknown"}, {**entry, "verified": False, "scores": [9.0, 9.0]}]
        file.write_text(json.dumps({"rerankers": [{**entry, **change}, *others]}), encoding="utf-8")
        report = tool.verify(NAME, str(folder), scores=[file, file])
        assert [source for source, _, _ in report.published] == ["a card"]
        assert report.ok is ok


def test_a_download_from_a_mirror(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command downloads a named model at its pinned commit. Files that came over http may be anyone's, so they
    give no row."""
    spec = next(spec for spec in rerank_core.models() if spec.name == NAME)
    assert spec.revision is not None
    tiny = tiny_cross_encoder(tmp_path / "tiny")
    proof, none = tmp_path / "proof.json", tmp_path / "none.json"
    none.write_text('{"rerankers": []}', encoding="utf-8")
    proof.write_bytes((ROOT / "tools" / "proof.json").read_bytes())
    monkeypatch.setattr(
        sys, "argv", ["verify_model.py", NAME, "--json", "--proof", str(proof), "--published", str(none)]
    )
    with serving({spec.checkpoint: tiny}, {spec.checkpoint: spec.revision}) as hub:
        pointed_at(hub.url, tmp_path / "cache", monkeypatch)
        assert tool.main() == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["ok"], found["commit"]) == (True, spec.revision)
    assert found["difference"] < 1e-5
    assert (found["pinned"], found["row_written"]) == (False, False)
    assert f"GET /{spec.checkpoint}/resolve/{spec.revision}/model.safetensors" in hub.requests
    assert proof.read_bytes() == (ROOT / "tools" / "proof.json").read_bytes()


def test_rows_of_the_table(tool: ModuleType, tmp_path: Path) -> None:
    """Real weights give level 3 and a sentence before those of the row; a second run replaces it, and models that
    referred to the row keep theirs."""
    rows: dict[str, Any] = {
        "a": {"level": 2, "en": "Scores equal. Scores of the real weights are not compared yet.",
              "zh": "一致。尚未比较真实权重的分数。"},
        "b": {"as": "a"},
        "c": {"as": "a"},
    }  # fmt: skip
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    report = tool.Report("a", "acme/a", "0123456789" * 4, True, "float32", 1e-4, "sentence-transformers 6.2.0",
                         pairs=[("en", 1.0, 1.0)] * 10, difference=2e-6)  # fmt: skip
    for one in (report, replace(report, commit="f" * 40, published=[("a card", 3e-4, 1e-3)])):
        assert tool.write_row(file, one)
    found = json.loads(file.read_text(encoding="utf-8"))

    assert found["a"] == {
        "level": 3,
        "en": "Real weights (commit ffffffff): scores of 10 pairs equal those of sentence-transformers 6.2.0 (float32, "
        "largest difference 2e-06); published scores are met to 3e-04. Scores equal.",
        "zh": "真实权重（commit ffffffff）：10 对文本的分数与 sentence-transformers 6.2.0 一致（float32，"
        "最大差 2e-06）；与公布的分数相差不超过 3e-04。一致。",
    }
    assert found["b"] == rows["a"]
    assert found["c"] == {"as": "b"}
    assert not tool.write_row(file, replace(report, model="unknown"))
