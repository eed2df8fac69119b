"""Models in processes of their own: what they measure, and how they fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_core.testing import tiny_cross_encoder
from rerank_eval.runs.model_choice import choices_of
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.runs.run_models import run_models
from rerank_eval.sets.judged_set import JudgedSet

MakeSet = Callable[..., JudgedSet]


class Notes:
    """A `Watcher` that takes notes."""

    def __init__(self) -> None:
        self.ranked_from: list[str] = []
        self.ends: list[tuple[str, str, int, str | None]] = []
        self.warnings: list[str] = []

    def loading(self, model: str) -> None:
        self.ranked_from.append(model)

    def ranked(self, model: str, judged: str, *, kept: bool) -> None:
        self.ranked_from.append("kept" if kept else "new")

    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None:
        self.ends.append((model, judged, left, reason))

    def warn(self, model: str, message: str) -> None:
        self.warnings.append(message)


def run(
    models: list[str], sets: list[JudgedSet], results: Path, notes: Notes | None = None, **options: float
) -> list[ModelRun]:
    return run_models(choices_of(models, {}), sets, results=results, watcher=notes or Notes(), **options)


def test_each_model_ranks_each_set(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """In the order of the arguments; scores of words, ranks of a listwise model; the print of a model does no harm."""
    sets, notes = [make_set(3), make_set(2, name="other")], Notes()
    runs = run(["toy-words", "toy-lists"], sets, tmp_path / "kept", notes)
    assert [(one.model, len(one.queries)) for one in runs] == [
        ("toy-words", 3),
        ("toy-words", 2),
        ("toy-lists", 3),
        ("toy-lists", 2),
    ]
    words, lists = runs[0], runs[2]
    assert words.queries[0].id == "q1"
    assert words.queries[0].scores[0] == pytest.approx(1 / 20)
    assert words.queries[0].scores[1:] == (0.0, 0.0, 0.0)
    assert lists.queries[0].scores == (-1.0, -2.0, -3.0, -4.0)
    assert (words.facts.score_space, lists.facts.score_space) == ("logit", "rank")
    assert words.facts.parameters is None
    assert words.facts.peak_bytes is not None
    assert 5e6 < words.facts.peak_bytes < 1e9
    assert all(0 < query.seconds < 5 for query in words.queries)
    assert words.facts.versions["rerank-core"]
    assert words.facts.versions["rerank_toy"] == "1.2"
    assert [one.stopped for one in runs] == [None] * 4
    assert notes.ends[1] == ("toy-words", "other", 0, None)


def test_a_failed_query_is_counted_and_tried_again(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    judged, log = make_set(3), tmp_path / "log"
    for _ in range(2):
        (one,) = run([f"toy-words,fails=word2,log={log}"], [judged], tmp_path / "kept")
        assert one.queries[1].error == "RuntimeError: no answer to what is word2"
        assert one.queries[1].scores == ()
        assert one.stopped is None
    assert log.read_text().split("\n")[:-1] == ["what is word1", "what is word2", "what is word3", "what is word2"]


def test_a_model_that_always_fails_is_stopped(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """Its calls may cost minutes each."""
    (one,) = run(["toy-words,fails=what"], [make_set(30)], tmp_path / "kept")
    assert (one.stopped, len(one.queries)) == ("failed", 5)
    assert one.reason == "each of the first 5 calls failed: RuntimeError: no answer to what is word5"


def test_a_crash_ends_its_model_only(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """As where the system kills a process for its memory. Rankings before it are kept."""
    sets, notes = [make_set(4), make_set(9, name="other")], Notes()
    runs = run(["toy-words,dies=word3", "toy-lists"], sets, tmp_path / "kept", notes)
    assert [(one.stopped, len(one.queries)) for one in runs] == [("crashed", 2), ("crashed", 2), (None, 4), (None, 9)]
    assert runs[0].reason is not None
    assert "was ended by SIGKILL, which is how a system ends a process when memory runs out" in runs[0].reason
    assert "its last message: toy: a print of a model" in runs[0].reason
    assert notes.ends[0][2:] == (2, runs[0].reason)


def test_a_model_that_cannot_be_loaded_is_reported(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    runs = run(
        ["toy-words,refuses=true", "nosuch", "toy-words,colour=1", "toy-lists"], [make_set(2)], tmp_path / "kept"
    )
    assert [one.stopped for one in runs] == ["failed", "failed", "failed", None]
    assert runs[0].reason is not None
    assert "no room" in runs[0].reason
    assert "no installed plugin has a model named 'nosuch'" in str(runs[1].reason)
    assert "unknown option 'colour'" in str(runs[2].reason)


def test_a_slow_model_is_dropped(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """After five queries; a quick one reaches the end; without a budget the kept rankings go on."""
    judged = make_set(8)
    slow, quick = run(["toy-words,delay=0.1", "toy-words"], [judged], tmp_path / "kept", budget_ms=50)
    assert (slow.stopped, len(slow.queries)) == ("budget", 5)
    assert str(slow.reason).startswith("dropped after 5 queries: 10")
    assert (quick.stopped, len(quick.queries)) == (None, 8)
    notes = Notes()
    (whole,) = run(["toy-words,delay=0.1"], [judged], tmp_path / "kept", notes)
    assert len(whole.queries) == 8
    assert notes.ranked_from[1:] == ["kept"] * 5 + ["new"] * 3


def test_secrets_are_kept_nowhere(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    (one,) = run(["toy-words,api_key=hush"], [make_set(2)], tmp_path / "kept")
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 2
    assert one.options == {}
    assert "hush" not in "".join(file.name + file.read_text() for file in files) + repr(one)


def test_warnings_of_a_model_are_passed_on(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    notes = Notes()
    run(["toy-words,warns=true"], [make_set(2)], tmp_path / "kept", notes)
    assert notes.warnings == ["toy: about what is word1", "toy: about what is word2"]


def test_a_model_with_weights_is_warmed_up_and_counted(make_set: MakeSet, tmp_path: Path) -> None:
    """Parameters of a folder come from its safetensors files, tokens from the ranking."""
    folder = tiny_cross_encoder(tmp_path / "tiny", "bert")
    (one,) = run([f"{folder},max_length=16,longdoc=firstp"], [make_set(2)], tmp_path / "kept")
    assert one.stopped is None
    assert one.facts.parameters == 71009
    assert (one.facts.device, one.facts.dtype, one.facts.score_space) == ("cpu", "float32", "logit")
    assert one.facts.load_seconds is not None
    assert one.options == {"max_length": 16, "longdoc": "firstp"}
    assert all(query.tokens for query in one.queries)


def test_a_process_stops_within_a_query_when_its_parent_is_killed(toys: Path) -> None:
    """Its input ends while it serves a request."""
    start = [sys.executable, "-c", "from rerank_eval.runs.worker import main; main()"]
    requests = [
        {"source": "toy-words", "options": {"delay": 60.0}},
        {"id": "q", "query": "a", "documents": ["a"], "instruction": None},
    ]
    with subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for request in requests:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            if "source" in request:
                assert json.loads(process.stdout.readline())["event"] == "loaded"
        process.stdin.close()
        closed = time.monotonic()
        assert process.wait(30) == 1
        assert time.monotonic() - closed < 20
