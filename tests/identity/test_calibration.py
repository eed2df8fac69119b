"""Calibrations: written for one model, read by it alone, shown as probabilities in the order of the raw scores."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rerank_core
from rerank_core import Combine, Ensemble, InputError, ModelSpec, Reranker, write_calibration, write_spec
from rerank_core.cli import app
from rerank_core.measures.calibration_map import CalibrationMap
from rerank_core.testing import (
    FakeCascade,
    FakeListRanker,
    FakeScorer,
    FakeSeparate,
    FakeTextScorer,
    fake_spec,
    tiny_cross_encoder,
)

QUERY = "what does a panda eat"
DOCS = ["a panda eats bamboo", "taxes", "", "what a panda does", "panda " * 40, "bears eat fish"]
PLATT = CalibrationMap("platt", scale=3.0, offset=-1.0)
STEPS = CalibrationMap("isotonic", points=((0.0, 0.1), (0.4, 0.1), (0.5, 0.9)))
SPEC = fake_spec(max_length=16)


def fake(spec: ModelSpec = SPEC, scorer: Any = None, **options: Any) -> Reranker:
    return Reranker.from_scorer(scorer or FakeScorer(), spec, **options)


def written(path: Path, calibration: CalibrationMap = PLATT, reranker: Reranker | None = None) -> Path:
    return write_calibration(path / "calibration.json", reranker or fake(), calibration, {"documents": 40, "folds": 5})


def changed(path: Path, **values: Any) -> Path:
    """The file with other values; None removes a key."""
    data = {**json.loads(path.read_text("utf-8")), **values}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "calibration", [PLATT, CalibrationMap("temperature", scale=0.5), STEPS], ids=lambda one: one.method
)
def test_hits_have_probabilities_in_the_order_of_the_raw_scores(tmp_path: Path, calibration: CalibrationMap) -> None:
    """Of each document's raw score, combined from its windows; equal probabilities keep the order of the scores."""
    raw = fake().rerank(QUERY, DOCS, activation="none")
    reranker = fake(calibration=written(tmp_path, calibration))
    for options in ({}, {"activation": "default"}, {"activation": "probability"}):
        ranking = reranker.rerank(QUERY, DOCS, **options)
        assert (ranking.score_space, ranking.activation) == ("probability", "probability")
        assert ranking.scores() == [calibration(score) for score in raw.scores()]
        assert [hit.index for hit in ranking] == [hit.index for hit in raw]
        assert [hit.passages for hit in ranking] == [hit.passages for hit in raw]
    assert len(ranking[0].passages) + len(ranking[1].passages) > 2, "no document has several windows"
    assert reranker.rerank(QUERY, DOCS, activation="none").scores() == raw.scores()
    assert (
        reranker.rerank(QUERY, DOCS, activation="sigmoid").scores()
        == fake().rerank(QUERY, DOCS, activation="sigmoid").scores()
    )
    assert reranker.score([(QUERY, DOCS[0])]) == fake().score([(QUERY, DOCS[0])])
    if calibration is STEPS:
        assert len(set(ranking.scores())) < len(set(raw.scores())), "no two documents share a probability"


def test_min_score_is_a_probability(tmp_path: Path) -> None:
    reranker = fake(calibration=written(tmp_path))
    every = reranker.rerank(QUERY, DOCS)
    cut = sorted(every.scores())[3]
    assert [hit.index for hit in reranker.rerank(QUERY, DOCS, min_score=cut)] == [
        hit.index for hit in every if hit.score >= cut
    ]


def test_the_file_says_for_which_model_and_how_it_was_made(tmp_path: Path) -> None:
    """Plain JSON with the fingerprint and the facts; written again, it is the same, byte for byte."""
    path = written(tmp_path)
    first = path.read_bytes()
    assert json.loads(first) == {
        "format": "rerank-calibration",
        "version": 1,
        "model": {"name": "fake", "fingerprint": fake().fingerprint},
        "method": "platt",
        "scale": 3.0,
        "offset": -1.0,
        "fitted": {"documents": 40, "folds": 5},
    }
    assert written(tmp_path).read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]
    assert fake(calibration=path).fingerprint == fake().fingerprint
    with pytest.raises(InputError, match="no JSON data"):
        write_calibration(path, fake(), PLATT, {"ece": math.nan})
    assert path.read_bytes() == first
    for place in (tmp_path / "absent" / "c.json", tmp_path, path / "c.json"):
        with pytest.raises(InputError, match="cannot be written"):
            write_calibration(place, fake(), PLATT)
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("options", [{"max_length": 12}, {"longdoc": "firstp"}, {"overlap": 1}], ids=str)
def test_a_calibration_of_another_model_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Other options that change scores, another head or other weights: the message names both models."""
    path = written(tmp_path)
    with pytest.raises(InputError, match=r"made for 'fake' with the fingerprint .*this is 'fake' with.*rerank eval"):
        fake(calibration=path, **options)
    with pytest.raises(InputError, match=r"made for 'fake' .*this is 'other'"):
        fake(replace(SPEC, name="other"), FakeScorer("prefix"), calibration=path)
    assert fake(replace(SPEC, name="renamed"), calibration=path).rerank(QUERY, DOCS)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "else"}, "it is no calibration"),
        ({"version": 2}, "its version is 2.*upgrade"),
        ({"version": None}, "its version is None"),
        ({"model": None}, "does not say for which model"),
        ({"model": "fake"}, "model is 'fake'; it must be an object"),
        ({"model": {"fingerprint": 5}}, "fingerprint is 5; it must be a string"),
        ({"fitted": []}, "fitted is"),
        ({"method": "linear"}, "'linear'"),
        ({"scale": 0}, "scale"),
        ({"scale": "1"}, "scale of a calibration is '1'"),
        ({"offset": None}, "offset"),
        ({"points": [[0, 1]]}, "points"),
        ({"more": 1}, "more"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    path = changed(written(tmp_path), **values)
    with pytest.raises(InputError, match=rf"calibration\.json.* cannot be used: .*{said}"):
        fake(calibration=path)


@pytest.mark.parametrize("text", ["", "[]", '{"format":', '{"format": "rerank-calibration", "scale": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    """Before the model is read, too: this folder has no weights."""
    path = tmp_path / "calibration.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"calibration\.json.* cannot be used"):
        rerank_core.load("bge-reranker-base", checkpoint=tmp_path, calibration=path)
    with pytest.raises(InputError, match=r"calibration\.json.* cannot be used"):
        fake(calibration=path)


@pytest.mark.parametrize("value", ["absent.json", ".", 3, "", "a\0b"])
def test_a_path_that_is_no_file_is_refused(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="calibration"):
        fake(calibration=value)


def test_a_path_is_that_of_the_folder_in_which_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickled reranker finds its calibration from any folder."""
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(fake(calibration="calibration.json"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).rerank(QUERY, DOCS).score_space == "probability"


def test_models_without_comparable_scores_have_none(tmp_path: Path) -> None:
    """Listwise models and cascades, when written and when loaded."""
    path = written(tmp_path)
    for scorer, said in ((FakeListRanker(), "orders lists"), (FakeCascade([2]), "cascade")):
        with pytest.raises(InputError, match=said):
            fake(scorer=scorer, calibration=path)
        with pytest.raises(InputError, match=said):
            write_calibration(path, fake(scorer=scorer), PLATT)


class Named(FakeTextScorer):
    """A scorer of whole texts that can be identified, with an option of a call."""

    def identity(self) -> Mapping[str, Any]:
        return {"model": "named"}

    def configured(self, options: Mapping[str, Any]) -> Named:
        return self


def test_scores_of_any_space_can_be_calibrated(tmp_path: Path) -> None:
    """Cosines and scores of late interaction, of which a sigmoid means nothing."""
    for scorer, space in ((FakeSeparate(), "maxsim"), (Named(), "cosine")):
        spec = fake_spec(score_space=space)
        path = written(tmp_path, STEPS, fake(spec, scorer))
        assert fake(spec, scorer, calibration=path).rerank(QUERY, DOCS).score_space == "probability"
        with pytest.raises(InputError, match=f"gives '{space}' scores"):
            fake(spec, scorer, calibration=path, activation="sigmoid")


def test_a_probability_without_a_calibration_is_refused() -> None:
    """At load and in a call; also of a model whose authors show a sigmoid, which nobody calibrated."""
    for spec in (SPEC, replace(SPEC, activation="sigmoid"), fake_spec(score_space="cosine")):
        logits = spec.raw_space == "logit"
        said = "needs a calibration.*rerank eval --calibrate" + ".*activation='sigmoid' shows" * logits
        with pytest.raises(InputError, match=said):
            fake(spec, activation="probability")
        with pytest.raises(InputError, match=said):
            fake(spec).rerank(QUERY, DOCS, activation="probability")


def test_options_of_a_call_that_change_the_scores_are_refused(tmp_path: Path) -> None:
    """The calibration holds for the scores it was made with; the raw scores are still to be had."""
    option = rerank_core.ModelOption("instruction", "str", "the task", default="find", when="call")
    spec = fake_spec(options=(option,))
    reranker = fake(spec, Named(), calibration=written(tmp_path, reranker=fake(spec, Named())))
    assert reranker.rerank(QUERY, DOCS, instruction="find").score_space == "probability"
    with pytest.raises(InputError, match=r"instruction='sort' changes the scores of 'fake'.*give it to load"):
        reranker.rerank(QUERY, DOCS, instruction="sort")
    assert reranker.rerank(QUERY, DOCS, instruction="sort", activation="none").score_space == "logit"
    windows = fake(calibration=written(tmp_path))
    for options, allowed in (({"longdoc": "firstp"}, {"longdoc": "maxp"}), ({"overlap": 2}, {})):
        with pytest.raises(InputError, match="changes the scores"):
            windows.rerank(QUERY, DOCS, **options)
        assert windows.rerank(QUERY, DOCS, **allowed).score_space == "probability"
        assert windows.rerank(QUERY, DOCS, activation="none", **options).score_space == "logit"


def test_combined_scores_are_raw(tmp_path: Path) -> None:
    """`combine` takes raw scores, and an ensemble refuses a calibration of its members that would have no effect."""
    path = written(tmp_path)
    reranker, plain = fake(calibration=path), fake()
    first, combine = [3, 2, 1, 1, 1, 1], Combine.weighted()
    expected = plain.rerank(QUERY, DOCS, first_stage=first, combine=combine).scores()
    assert reranker.rerank(QUERY, DOCS, first_stage=first, combine=combine).scores() == expected
    asked = fake(calibration=path, activation="probability")
    with pytest.raises(InputError, match="'probability', given to load, has no effect with combine"):
        asked.rerank(QUERY, DOCS, first_stage=first, combine=combine)
    assert Ensemble([reranker]).rerank(QUERY, DOCS).scores() == Ensemble([plain]).rerank(QUERY, DOCS).scores()
    for members, options in ((["mini"], {"calibration": str(path)}), ([("mini", 1, {"calibration": str(path)})], {})):
        with pytest.raises(InputError, match=r"'calibration'.* has no effect"):
            Ensemble(members, **options)
    with pytest.raises(InputError, match="of one model's scores"):
        Ensemble([plain]).rerank(QUERY, DOCS, activation="probability")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose weights hold a calibration, as the trainers publish it."""
    folder = tiny_cross_encoder(tmp_path_factory.mktemp("models") / "calibrated", "bert")
    record = {"method": "platt", "scale": 1.5, "offset": -0.5, "documents": 400}
    write_spec(rerank_core.load(folder, device="cpu").spec, folder)
    changed(folder / "reranker.json", calibrated=record)
    return folder


def test_weights_that_hold_a_calibration_show_it_and_take_no_other(calibrated: Path, tmp_path: Path) -> None:
    """The sigmoid is the probability; the same with the name of another model for the folder's weights."""
    for source, options in ((calibrated, {}), ("bge-reranker-base", {"checkpoint": calibrated})):
        with rerank_core.load(source, device="cpu", **options) as reranker:
            ranking = reranker.rerank(QUERY, DOCS[:3], activation="probability")
            assert ranking.score_space == "probability"
            assert ranking.scores() == reranker.rerank(QUERY, DOCS[:3], activation="sigmoid").scores()
            assert reranker.rerank(QUERY, DOCS[:3]).activation == "none"
            assert reranker.spec.calibrated["scale"] == 1.5
            with pytest.raises(InputError, match=r"hold a calibration already, made by publish\.calibrate"):
                write_calibration(tmp_path / "c.json", reranker, PLATT)
        with pytest.raises(InputError, match="hold a calibration already"):
            rerank_core.load(source, device="cpu", calibration=written(tmp_path), **options)


def test_the_record_is_checked(calibrated: Path) -> None:
    """A logit alone has a sigmoid; the file's record is an object."""
    with pytest.raises(InputError, match="calibrated says"):
        fake_spec(score_space="cosine", calibrated={"method": "platt"})
    with pytest.raises(InputError, match="calibrated is True; it must be a mapping"):
        fake_spec(calibrated=True)
    spec = rerank_core.load(calibrated, device="cpu").spec
    assert write_spec(spec, calibrated).read_text("utf-8").count('"calibrated": {') == 1
    assert '"calibrated": {' not in write_spec(replace(spec, calibrated={}), calibrated).read_text("utf-8")
    write_spec(spec, calibrated)


def test_the_command_line_shows_probabilities(tmp_path: Path) -> None:
    """With `--calibration`, or as any other option of load."""
    pytest.importorskip("rerank_mini")
    with rerank_core.load("mini") as reranker:
        path = str(write_calibration(tmp_path / "mini.json", reranker, CalibrationMap("platt", 20.0, -10.0)))
        expected = [CalibrationMap("platt", 20.0, -10.0)(hit.score) for hit in reranker.rerank(QUERY, DOCS[:2])]
    (tmp_path / "docs.txt").write_text("\n".join(DOCS[:2]), encoding="utf-8")
    command = ["rank", QUERY, str(tmp_path / "docs.txt"), "--format", "lines", "--json"]
    for given in (["--calibration", path], ["--option", f"calibration={path}", "--activation", "probability"]):
        done = CliRunner().invoke(app, [*command, *given], catch_exceptions=False)
        ranking = json.loads(done.stdout)
        assert ranking["score_space"] == "probability"
        assert [hit["score"] for hit in ranking["hits"]] == pytest.approx(expected)
