"""Cuts for a precision or a recall, and calibrations: on simulated scores, and with `mini` through the command."""

from __future__ import annotations

import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import rerank_core
from rerank_core import InputError
from rerank_core.cli import app
from rerank_core.measures import CalibrationMap
from rerank_eval.figures.evaluate import evaluate
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet
from rerank_eval.thresholds.calibrate import calibrate, check_can_calibrate, write
from rerank_eval.thresholds.cuts import Target, cuts_of, parse_target


def evaluation_of(*, score_space: str = "logit", scale: float = 1.0, queries: int = 200) -> Evaluation:
    """Scores whose sigmoid, times ``scale``, is the true probability; the query numbered 0 failed."""
    random = np.random.default_rng(0)
    made, runs = [], []
    for number in range(queries):
        logits = random.normal(-1, 2, 10)
        gains = (random.random(10) < 1 / (1 + np.exp(-logits))).astype(float)
        gains[:2] = 0.0, 1.0
        documents = tuple(Candidate(f"d{at}", f"text {at}", float(gain)) for at, gain in enumerate(gains))
        made.append(JudgedQuery(f"q{number}", f"query {number}", documents))
        scores = tuple((logits / scale).tolist())
        runs.append(QueryRun(f"q{number}", () if number == 0 else scores, 0.01, error="no" if number == 0 else None))
    judged = JudgedSet("dev", tuple(made))
    run = ModelRun("m", "m", {}, "f" * 64, judged.digest, tuple(runs), RunFacts(score_space=score_space))
    return evaluate([judged], [run], ["nDCG@10"])


def test_targets() -> None:
    assert parse_target("precision=1") == Target("precision", 1.0)
    for text in ("precision", "precision=0", "recall=1.1", "recall=nan", "f1=0.5", "=0.5"):
        with pytest.raises(InputError, match="must be precision=VALUE or recall=VALUE"):
            parse_target(text)


@pytest.mark.parametrize("target", [Target("precision", 0.8), Target("recall", 0.9)])
def test_a_cut_reaches_its_target(target: Target) -> None:
    """Counted anew from the scores, without the query that failed."""
    evaluation = evaluation_of()
    (cut,) = cuts_of(evaluation, [target])
    assert cut.threshold is not None
    (row,) = (row for row in evaluation.rows if row.kind == "model")
    assert row.run is not None
    pairs = [
        (score, gain)
        for query, own in zip(evaluation.sets[0].queries[1:], row.run.queries[1:], strict=True)
        for score, gain in zip(own.scores, query.gains, strict=True)
    ]
    kept = [gain for score, gain in pairs if score >= cut.threshold.cut]
    found = {"precision": sum(kept) / len(kept), "recall": sum(kept) / sum(gain for _, gain in pairs)}
    assert found[target.of] >= target.value
    assert cut.threshold.precision.mean == pytest.approx(found["precision"])
    assert cut.threshold.recall.mean == pytest.approx(found["recall"])
    assert (cut.threshold.kept, cut.threshold.documents) == (len(kept), 1990)


def test_no_cut_says_why() -> None:
    listwise = evaluation_of(score_space="rank", queries=5)
    (cut,) = cuts_of(listwise, [Target("precision", 0.5)])
    assert cut.threshold is None
    assert cut.reason is not None
    assert cut.reason.startswith("'m' is listwise or a cascade")
    (impossible,) = cuts_of(evaluation_of(queries=50), [Target("precision", 1.0)])
    assert impossible.threshold is not None or "no threshold has a precision of 1" in str(impossible.reason)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_calibration_of_logits_of_another_scale(scale: float) -> None:
    """Scores that are four times too large or small become calibrated, and the error before says so."""
    found = calibrate(evaluation_of(scale=scale), "m")
    assert set(found.after) == {"platt", "temperature", "isotonic"}
    after = found.after[found.map.method].ece
    assert after == min(one.ece for one in found.after.values())
    assert found.before.ece > 0.08
    assert after < 0.04
    assert found.fitted["documents"] == 1990
    assert found.fitted["sets"]["dev"]["queries"] == 200
    json.dumps(found.to_json(), allow_nan=False)


def test_isotonic_regression_needs_1000_documents() -> None:
    found = calibrate(evaluation_of(scale=4.0, queries=60), "m")
    assert set(found.after) == {"platt", "temperature"}
    assert found.refused == {"isotonic": "it needs 1,000 documents, and there are 590"}


def test_probabilities_are_compared_as_they_are() -> None:
    """The scores of a model that gives probabilities are not squashed once more before they are measured."""
    evaluation = evaluation_of(score_space="probability")
    (row,) = (row for row in evaluation.rows if row.kind == "model")
    assert row.run is not None
    queries = tuple(
        replace(own, scores=tuple(1 / (1 + np.exp(-score)) for score in own.scores)) for own in row.run.queries
    )
    rows = tuple(replace(one, run=replace(row.run, queries=queries)) if one is row else one for one in evaluation.rows)
    assert calibrate(replace(evaluation, rows=rows), "m").before.ece < 0.06


def test_listwise_models_have_no_calibration() -> None:
    with pytest.raises(InputError, match="'m' is listwise or a cascade"):
        calibrate(evaluation_of(score_space="rank", queries=5), "m")


def test_the_order_of_labels_is_checked() -> None:
    """Scores that fall with relevance have no calibration; the reason is the one of the fits."""
    evaluation = evaluation_of(scale=-1.0, queries=50)
    with pytest.raises(InputError, match="no calibration of 'm' can be fitted: calibration: relevant documents score"):
        calibrate(evaluation, "m")


# --- the command, with `mini` -----------------------------------------------------------------------------------------

FACTS = {
    "what does a panda eat?": "Pandas eat bamboo.",
    "where do penguins live?": "Penguins live on the ice of the far south.",
    "how fast is a cheetah?": "A cheetah runs 100 km an hour.",
    "who wrote Hamlet?": "William Shakespeare is the author of Hamlet.",
    "what is the capital of France?": "The capital of France is Paris.",
    "when did the Berlin wall fall?": "The wall in Berlin was opened in November 1989.",
    "how tall is Mount Everest?": "Mount Everest is 8,849 metres high.",
    "what is water made of?": "A molecule of water has two atoms of hydrogen and one of oxygen.",
    "who painted the Mona Lisa?": "Leonardo da Vinci painted the Mona Lisa.",
    "which planet is the largest?": "Jupiter is the largest planet of the solar system.",
}


def rows() -> list[dict[str, object]]:
    """40 questions of WikiQA where the data is at hand, else ten questions, each with all answers."""
    path = Path(os.environ.get("RERANK_DATA", "")) / "en_wikiqa" / "WikiQA-dev.tsv.gz"
    if not path.is_file():
        answers = list(FACTS.values())
        return [
            {"query": query, "positive": [own], "negative": [one for one in answers if one != own]}
            for query, own in FACTS.items()
        ]
    found: dict[str, dict[str, object]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            row = found.setdefault(line["Question"], {"query": line["Question"], "positive": [], "negative": []})
            row["positive" if line["Label"] == "1" else "negative"].append(line["Sentence"])  # type: ignore[attr-defined]
    return [row for row in found.values() if row["positive"] and row["negative"]][:40]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, and the calibration that the command made with it."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    result = command(folder, "-m", "mini", "--threshold", "recall=0.9", "--calibrate", str(folder / "mini.json"))
    assert result.exit_code == 0
    (folder / "stdout").write_text(result.stdout, encoding="utf-8")
    return folder


def command(folder: Path, *arguments: str) -> Result:
    given = ["eval", *arguments, "-d", str(folder / "dev.jsonl"), "--results", str(folder / "kept")]
    return CliRunner().invoke(app, given, prog_name="rerank", env={"COLUMNS": "300"}, catch_exceptions=False)


def test_the_calibration_is_loaded_and_cuts(calibrated: Path) -> None:
    """Probabilities are those of the map in the file, and `min_score` keeps exactly the documents above it."""
    path = calibrated / "mini.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    fit = CalibrationMap.from_json(
        {key: written[key] for key in ("method", "scale", "offset", "points") if key in written}
    )
    own = rows()
    documents = [*own[0]["positive"], *own[0]["negative"]]  # type: ignore[misc]
    query = str(own[0]["query"])
    with rerank_core.load("mini") as plain, rerank_core.load("mini", calibration=path) as reranker:
        raw = plain.rerank(query, documents, activation="none").scores()
        ranking = reranker.rerank(query, documents, activation="probability")
        assert ranking.score_space == "probability"
        assert ranking.scores() == pytest.approx([fit(score) for score in raw], abs=1e-6)
        least = sorted(ranking.scores())[len(documents) // 2]
        kept = reranker.rerank(query, documents, min_score=least)
        assert {hit.index for hit in kept} == {at for at, score in enumerate(ranking.scores()) if score >= least}
        assert 0 < len(kept) < len(documents)


def test_the_command_says_what_the_calibration_gains(calibrated: Path) -> None:
    """The error on other queries is lower than before; the file has the same numbers."""
    said = (calibrated / "stdout").read_text(encoding="utf-8")
    facts = json.loads((calibrated / "mini.json").read_text(encoding="utf-8"))["fitted"]
    after = min(facts["ece_cross_validated"].values())
    assert after < facts["ece_before"] / 2
    assert f"Expected calibration error {facts['ece_before']:.4f} before and {after:.4f} after" in said
    assert "threshold" in said
    assert "recall=0.9" in said


def test_the_file_of_another_model_is_refused(calibrated: Path) -> None:
    with pytest.raises(InputError, match="was made for 'mini'"):
        rerank_core.load("mini", calibration=calibrated / "mini.json", max_length=32)


def test_json_has_what_was_asked_for(calibrated: Path) -> None:
    """The second call computes no ranking."""
    result = command(calibrated, "-m", "mini", "--json", "--recommend", "--threshold", "precision=0.4")
    found = json.loads(result.stdout)
    assert "were not computed again" in result.stderr
    assert found["advice"]["choice"] == "mini"
    assert found["advice"]["sentences"][0].startswith("Use mini: nDCG@10 ")
    (cut,) = found["thresholds"]
    assert cut["target"] == {"of": "precision", "value": 0.4}
    assert cut["threshold"]["precision"]["mean"] >= 0.4
    assert "calibration" not in found


def test_wrong_use_is_refused_before_models_run(calibrated: Path) -> None:
    for arguments, message in (
        (
            ["-m", "mini", "-m", "mini,max_length=32", "--calibrate", "x.json"],
            "--calibrate writes a file for one model",
        ),
        (["-m", "mini", "--calibrate", "/nosuch/x.json"], "--calibrate is '/nosuch/x.json'; it must be a file in a"),
        (["-m", "mini", "--threshold", "0.9"], "--threshold is '0.9'; it must be precision=VALUE or recall=VALUE"),
    ):
        result = command(calibrated, *arguments)
        assert result.exit_code == 1
        assert message in result.stderr


def test_a_model_without_a_calibration_is_refused_before_it_ranks(toys: Path, calibrated: Path) -> None:
    log = calibrated / "log"
    for _ in range(2):  # the second time it is known without loading it
        result = command(calibrated, "-m", f"toy-lists,log={log}", "--calibrate", str(calibrated / "x.json"))
        assert result.exit_code == 1
        assert "is listwise or a cascade" in result.stderr
        assert "repeat the command" not in result.stderr
    assert not log.exists()


def test_what_cannot_be_calibrated_is_said() -> None:
    judged = evaluation_of(queries=3).sets
    told = [replace(one, queries=tuple(replace(query, instruction="find") for query in one.queries)) for one in judged]
    check_can_calibrate("m", RunFacts(instructed=True), judged)
    check_can_calibrate("m", RunFacts(), told)
    for facts, sets, message in (
        (RunFacts(calibrated=True), judged, "the weights of 'm' hold a calibration already"),
        (RunFacts(instructed=True), told, "the queries have instructions, which 'm' follows"),
        (RunFacts(score_space="rank"), judged, "'m' is listwise or a cascade"),
    ):
        with pytest.raises(InputError, match=message):
            check_can_calibrate("m", facts, sets)


def test_a_model_that_changed_is_refused(calibrated: Path) -> None:
    """Scores of one model must not calibrate another one."""
    found = calibrate(evaluation_of(), "m")
    with rerank_core.load("mini") as reranker, pytest.raises(InputError, match="its files changed meanwhile"):
        write(calibrated / "other.json", found, reranker)
    assert not (calibrated / "other.json").exists()
