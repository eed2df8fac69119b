"""Kept results: nothing is computed twice, and a killed run goes on where it was."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rerank_core import InputError
from rerank_eval.runs.kept_results import KeptResults, content_of
from rerank_eval.runs.model_choice import choices_of
from rerank_eval.runs.model_process import Loaded
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.runs.run_models import run_models
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

MakeSet = Callable[..., JudgedSet]
LOADED = Loaded("f1", {"dtype": "int8"}, RunFacts(peak_bytes=5, machine="m", versions={"rerank-core": "1"}))


class Silent:
    """A `Watcher` that only counts kept queries."""

    kept = 0

    def loading(self, model: str) -> None: ...
    def ranked(self, model: str, judged: str, *, kept: bool) -> None:
        self.kept += kept

    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None: ...
    def warn(self, model: str, message: str) -> None: ...


def kept(folder: Path, *queries: JudgedQuery, loaded: Loaded = LOADED) -> list[QueryRun | None]:
    """What is found of queries."""
    results = KeptResults(folder, "toy", loaded)
    return [results.get(query) for query in queries]


RUN = QueryRun("q1", (0.1 + 0.2, 1e-300, -3.0, 2.0), 0.25, 12, (1,), True, {2: (5, 9)}, {"windows": 2})


def keep(folder: Path, judged: JudgedSet, loaded: Loaded = LOADED) -> None:
    results = KeptResults(folder, "a/b c", loaded)
    for query in judged.queries:
        results.add(query, replace(RUN, id=query.id), 7)
    results.close()


def test_a_ranking_comes_back_as_it_was(make_set: MakeSet, tmp_path: Path) -> None:
    """Bit by bit, with the id that the query has now, and with the largest memory of all processes."""
    judged = make_set(2)
    keep(tmp_path, judged)
    first, second = judged.queries
    assert kept(tmp_path, first, replace(second, id="other")) == [RUN, replace(RUN, id="other")]
    results = KeptResults(tmp_path, "toy", LOADED)
    assert results.facts == replace(LOADED.facts, peak_bytes=7)
    assert [path.name.split("--")[0] for path in tmp_path.iterdir()] == ["a-b-c"]


def test_a_query_is_found_by_what_models_see(make_set: MakeSet, tmp_path: Path) -> None:
    """Not by judgements; a text, the order or the instruction that differs makes another query."""
    judged = make_set(1)
    keep(tmp_path, judged)
    (query,) = judged.queries
    same = replace(
        query, candidates=tuple(replace(one, gain=None, id="x") for one in query.candidates), others={"z": 1.0}
    )
    others = [
        replace(query, text="what"),
        replace(query, instruction="Find it"),
        replace(query, candidates=query.candidates[::-1]),
        replace(query, candidates=(Candidate("d", "new"), *query.candidates[1:])),
    ]
    assert kept(tmp_path, same, *others) == [RUN, None, None, None, None]


@pytest.mark.parametrize(
    "other",
    [
        replace(LOADED, fingerprint="f2"),
        replace(LOADED, options={}),
        replace(LOADED, facts=replace(LOADED.facts, versions={"rerank-core": "2"})),
        replace(LOADED, facts=replace(LOADED.facts, machine="n")),
    ],
    ids=["weights", "options", "versions", "machine"],
)
def test_another_model_or_machine_starts_anew(other: Loaded, make_set: MakeSet, tmp_path: Path) -> None:
    judged = make_set(1)
    keep(tmp_path, judged)
    assert kept(tmp_path, *judged.queries, loaded=other) == [None]


@pytest.mark.parametrize("cut", [1, 2, 60])
def test_a_torn_line_is_passed_over(cut: int, make_set: MakeSet, tmp_path: Path) -> None:
    """And the next line does not continue it."""
    judged = make_set(3)
    keep(tmp_path, replace(judged, queries=judged.queries[:2]))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    assert [one is None for one in kept(tmp_path, *judged.queries)] == [False, cut > 1, True]
    keep(tmp_path, replace(judged, queries=judged.queries[2:]))
    assert [one is None for one in kept(tmp_path, *judged.queries)] == [False, cut > 1, False]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another folder"):
        KeptResults(tmp_path / "file" / "kept", "toy", LOADED)


def test_contents_differ(make_set: MakeSet) -> None:
    """Texts cannot run into each other."""
    one = JudgedQuery("a", "x", (Candidate("1", "yz"),))
    two = JudgedQuery("a", "x", (Candidate("1", "y"), Candidate("2", "z")))
    assert len({content_of(one), content_of(two), *map(content_of, make_set(2).queries)}) == 4


def run(judged: JudgedSet, results: Path, model: str) -> tuple[ModelRun, int]:
    watcher = Silent()
    (one,) = run_models(choices_of([model], {}), [judged], results=results, watcher=watcher)
    return one, watcher.kept


def test_a_killed_run_goes_on(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """Killed with signal 9 in the middle, the next call computes the rest alone; the scores are those of one run."""
    judged, log = make_set(12), tmp_path / "log"
    model = f"toy-words,delay=0.05,log={log}"
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
            import pickle, sys
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_runs_kept import Silent, choices_of, run_models
            judged = pickle.loads(Path({str(tmp_path / "set")!r}).read_bytes())
            results = Path({str(tmp_path / "kept")!r})
            run_models(choices_of([{model!r}], {{}}), [judged], results=results, watcher=Silent())
        """)
    )
    (tmp_path / "set").write_bytes(pickle.dumps(judged))
    process = subprocess.Popen([sys.executable, str(script)], env=dict(os.environ))
    end = time.monotonic() + 60
    while time.monotonic() < end and (not log.exists() or log.read_text().count("\n") < 4):
        time.sleep(0.005)
    process.kill()
    assert process.wait() < 0
    time.sleep(0.2)  # the model's process ends after its query, when its input has ended
    before = log.read_text().count("\n")
    assert 4 <= before < 12
    resumed, already = run(judged, tmp_path / "kept", model)
    assert before - 1 <= already <= before
    assert log.read_text().count("\n") == before + 12 - already
    whole, _ = run(judged, tmp_path / "other", model)
    assert [one.scores for one in resumed.queries] == [one.scores for one in whole.queries]
    assert [one.id for one in resumed.queries] == [query.id for query in judged.queries]
    unchanged, already = run(judged, tmp_path / "kept", model)
    assert (unchanged.queries, already) == (resumed.queries, 12)


def test_a_new_model_adds_only_itself(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    judged, log = make_set(3), tmp_path / "log"
    model = f"toy-words,log={log}"
    run(judged, tmp_path / "kept", model)
    watcher = Silent()
    both = run_models(choices_of([model, "toy-lists"], {}), [judged], results=tmp_path / "kept", watcher=watcher)
    assert [len(one.queries) for one in both] == [3, 3]
    assert (watcher.kept, log.read_text().count("\n")) == (3, 3)
