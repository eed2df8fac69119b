"""Publishing is proven or nothing is there: other templates, limits and weights are found out before a folder has its
name."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.publishable import OWN, PAIRS, live, names, open_models, silent
from safetensors import safe_open
from tokenizers.normalizers import BertNormalizer

import rerank_core
from rerank_core import InputError, Template
from rerank_core.measures import CalibrationMap
from rerank_trainers.config.schema import PublishConfig
from rerank_trainers.errors import PublishError
from rerank_trainers.evaluation.result import Result
from rerank_trainers.model.trained_model import Model
from rerank_trainers.publish import publish as publishing
from rerank_trainers.publish.card import CardFacts
from rerank_trainers.publish.publish import TOLERANCE, publish


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A classifier trained whole, one with adapters and a fresh head, a language model with adapters, and one that
    follows an installed plugin's template."""
    return open_models(tmp_path_factory.mktemp("origins"))


@pytest.fixture(scope="module")
def whole(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published folder of the first."""
    return publish(models["whole"], tmp_path_factory.mktemp("published") / "whole").directory


def test_half_precision_is_proven_on_its_own_weights(models: dict[str, Model], whole: Path, tmp_path: Path) -> None:
    """bfloat16 weights score to 1e-5 as the rounded model does, what rounding did is reported, and the folder takes the
    place of an older one."""
    shutil.copytree(whole, tmp_path / "half")
    settings = PublishConfig(dtype="bfloat16", activation="sigmoid", description="The second.")
    found = publish(models["llm"], tmp_path / "half", settings, overwrite=True)
    assert "The second." in (tmp_path / "half" / "README.md").read_text("utf-8")
    assert names(tmp_path) == {"half"}
    assert found.deviation <= TOLERANCE < found.rounding
    assert json.loads((tmp_path / "half" / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
    with safe_open(str(tmp_path / "half" / "model.safetensors"), "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    with rerank_core.load(tmp_path / "half", device="cpu") as reranker:
        assert reranker.rerank("q", ["a"]).score_space == "probability"
        gap = max(abs(a - b) / max(1, abs(b)) for a, b in zip(reranker.score(PAIRS), live(models["llm"]), strict=True))
    assert 0 < gap < 20 * found.rounding


def test_overflow_in_half_precision_is_an_error(models: dict[str, Model], tmp_path: Path) -> None:
    """Weights beyond float16 are refused before anything is written."""
    model = models["whole"]
    head = model.module.classifier.out_proj
    with torch.no_grad():
        kept = head.weight.clone()
        head.weight.mul_(1e6)
    try:
        with pytest.raises(PublishError, match=r"in torch.float16 .* no finite scores"):
            publish(model, tmp_path / "out", PublishConfig(dtype="float16"))
    finally:
        with torch.no_grad():
            head.weight.copy_(kept)
    assert names(tmp_path) == set()


def test_another_template_is_found_out_and_the_old_folder_stays(
    models: dict[str, Model], whole: Path, tmp_path: Path
) -> None:
    """A reranker.json that says other than training did fails, names a pair, and leaves an older folder intact."""
    model, target = models["llm"], tmp_path / "out"
    shutil.copytree(whole, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    other = replace(model, spec=replace(model.spec, template=Template(**{**OWN, "query": "Query: {query}"})))
    with pytest.raises(PublishError, match=r"in a fresh process, the folder scores '.* 6 of 6 probes differ"):
        publish(other, target, overwrite=True)
    assert names(tmp_path) == {"out"}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


@pytest.mark.parametrize("what", ["max_length", "tokenizer"])
def test_other_limits_and_tokenizers_are_found_out(models: dict[str, Model], tmp_path: Path, what: str) -> None:
    """The edges among the probes are what tells them apart, and nothing is left behind."""
    model = models["adapters"]
    if what == "max_length":
        other = replace(model, spec=replace(model.spec, max_length=96))
    else:
        raw = model.tokenizer.backend_tokenizer
        changed = type(raw).from_str(raw.to_str())
        changed.normalizer = BertNormalizer(lowercase=False)
        tokenizer = type(model.tokenizer)(tokenizer_object=changed, **model.tokenizer.special_tokens_map)
        other = replace(model, tokenizer=tokenizer)
    with pytest.raises(PublishError):
        publish(other, tmp_path / "out")
    assert names(tmp_path) == set()


def test_what_is_there_is_not_replaced_unasked(models: dict[str, Model], tmp_path: Path) -> None:
    """A target that exists is refused at once, and one that we did not publish even with overwrite."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="exists already"):
        publish(models["whole"], tmp_path / "theirs")
    with pytest.raises(InputError, match=r"no published folder \(it has no reranker.json\)"):
        publish(models["whole"], tmp_path / "theirs", overwrite=True)
    assert names(tmp_path / "theirs") == {"thesis.tex"}


def test_only_a_classifier_can_be_calibrated(models: dict[str, Model], tmp_path: Path) -> None:
    """A language model's logits take no scale and offset; without dev labels there is nothing to fit to."""
    scored = Result({}, {}, [(1.0, 1), (0.0, 0), (0.5, 1), (0.7, 0)])
    with pytest.raises(InputError, match="is of the kind 'llm', whose weights cannot take"):
        publish(models["llm"], tmp_path / "out", PublishConfig(calibrate=True), facts=CardFacts(after=scored))
    with pytest.raises(InputError, match="needs a dev set with labels"):
        publish(models["whole"], tmp_path / "out", PublishConfig(calibrate=True))
    assert names(tmp_path) == set()


def test_a_calibrated_folder_keeps_the_order_in_every_library(models: dict[str, Model], tmp_path: Path) -> None:
    """Scale and offset are in the weights: all scores are the live ones times the scale plus the offset."""
    from transformers import AutoModelForSequenceClassification

    model = models["adapters"]
    raw = live(model)
    draw = torch.Generator().manual_seed(0)
    middle = sum(raw) / len(raw)
    scored = [
        (score, int(torch.rand((), generator=draw) < 1 / (1 + math.exp(-3 * (score - middle)))))
        for score in torch.linspace(min(raw) - 1, max(raw) + 1, 400).tolist()
    ]
    facts = CardFacts(after=Result({}, {}, scored))
    found = publish(model, tmp_path / "out", PublishConfig(calibrate=True), facts=facts)
    assert isinstance(found.scaling, CalibrationMap)
    assert found.scaling.scale == pytest.approx(3, rel=0.3)
    wanted = list(map(found.scaling.logit, raw))
    with rerank_core.load(tmp_path / "out", device="cpu") as reranker:
        assert reranker.score(PAIRS) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        scaling = {"scale": found.scaling.scale, "offset": found.scaling.offset}
        assert reranker.spec.calibrated == {"method": "platt", **scaling, "documents": 400}
        shown = reranker.rerank(PAIRS[0][0], [PAIRS[0][1]], activation="probability")
        assert shown.scores() == pytest.approx([1 / (1 + math.exp(-wanted[0]))], abs=1e-5)
    # Trained further without a calibration, the weights no longer hold one.
    again = replace(model, spec=replace(model.spec, calibrated={"method": "platt"}))
    assert publish(again, tmp_path / "again").directory.is_dir()
    assert '"calibrated": {' not in (tmp_path / "again" / "reranker.json").read_text("utf-8")
    with silent():
        module = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "out"))
    inputs = model.tokenizer(*map(list, zip(*PAIRS[:3], strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        assert module(**inputs).logits[:, 0].tolist() == pytest.approx(wanted[:3], rel=1e-5, abs=1e-5)
    assert "The published weights hold" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_model_that_amplifies_rounding_is_given_its_own_noise(
    models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where 1e-5 is too strict, ten times what packed and padded rows of the same weights differ by is the measure."""
    monkeypatch.setattr(publishing, "TOLERANCE", -1.0)
    found = publish(models["whole"], tmp_path / "out")
    assert 0 <= found.deviation <= found.tolerance < 1e-4
