"""The file: what is in it, what is not, and its size."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from operator import lt
from pathlib import Path

import pytest

from helpers.reports import evaluation_of, judged_set, run_of
from rerank_core import InputError
from rerank_core.measures import Interval
from rerank_eval.advice.advice import Advice
from rerank_eval.advice.advise import advise
from rerank_eval.figures.evaluate import evaluate
from rerank_eval.figures.evaluation import Evaluation, Kind, Row
from rerank_eval.report import write_report, writing
from rerank_eval.runs.model_run import ModelRun, QueryRun
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}\x00\x07\u202e\ud800"


class Page(HTMLParser):
    """Tags with their attributes, and the texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("style", "script"):
            self.raw.setdefault(self.tags[-1][0], data)
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A report in which every text, id and name is hostile."""
    judged = judged_set(
        f"set {HOSTILE}", text=f"query {{}} {HOSTILE.replace('{', '').replace('}', '')}", doc=f"doc {HOSTILE}"
    )
    candidates = [tuple(replace(one, id=one.id + HOSTILE) for one in query.candidates) for query in judged.queries]
    queries = tuple(
        replace(query, id=query.id + HOSTILE, candidates=own)
        for query, own in zip(judged.queries, candidates, strict=True)
    )
    judged = replace(judged, queries=queries, first_stage=HOSTILE)
    path = tmp_path_factory.mktemp("report") / "report.html"
    evaluation = evaluation_of(judged, names=(f"good {HOSTILE}", f"poor {HOSTILE}"))
    write_report(evaluation, path, advice=advise(evaluation))
    return Page(path)


def test_hostile_texts_are_texts(hostile: Page) -> None:
    """They are shown as they are, hidden characters spelt out, and add no tag."""
    tags = [tag for tag, _ in hostile.tags]
    assert tags.count("script") == tags.count("style") == 1
    assert "img" not in tags
    assert not [
        name for _, attributes in hostile.tags for name in attributes if name.startswith("on") or name == "style"
    ]
    for what in ("set", "query 3", "good", "doc"):
        assert f"{what} </script><script>alert(1)</script><img src=x onerror=alert(1)>" in hostile.text
    assert "49" not in hostile.raw
    assert "⟨U+0000⟩⟨U+0007⟩⟨U+202E⟩⟨U+D800⟩" in hostile.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", hostile.source)


def test_nothing_is_loaded(hostile: Page) -> None:
    """No attribute names another resource, and the policy allows this style sheet and this script alone."""
    links = [
        value
        for _, attributes in hostile.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster")
    ]
    assert [link for link in links if not (link or "").startswith("#")] == []
    assert "url(" not in hostile.raw["style"]
    assert "@import" not in hostile.raw["style"]
    policy = next(own["content"] for tag, own in hostile.tags if own.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for name, text in hostile.raw.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_the_page_begins_with_the_advice(hostile: Page, tmp_path: Path) -> None:
    """Its headline, its choice, and how sure that is; its reasons follow. Without an advice the report makes one."""
    tags = [tag for tag, _ in hostile.tags]
    assert tags.count("h1") == 1
    assert "Use good" in hostile.text
    assert "Why, and with which settings It is " in hostile.text
    assert "It is not shown to be better than poor" in hostile.text
    evaluation = evaluation_of(judged_set(queries=40))
    write_report(evaluation, tmp_path / "report.html")
    text = Page(tmp_path / "report.html").text
    for sentence in advise(evaluation).sentences:
        assert sentence in text
    assert f"Use good {advise(evaluation).sentences[0]} {advise(evaluation).sentences[1]}" in text


def test_the_answer_and_its_evidence(tmp_path: Path) -> None:
    """The page begins with the answer; each figure says its set, its number of queries, its interval and tie rule."""
    evaluation = evaluation_of(judged_set(queries=40), judged_set("中文", queries=8))
    write_report(evaluation, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    tags = [tag for tag, _ in page.tags]
    assert "Use good" in page.text
    assert "small : good is better than every other model." in page.text
    assert "中文 : good has the highest mean; poor may be as good." in page.text
    for title in (
        "Quality and latency",
        "Does each query gain?",
        "Queries that reranking made worse",
        "How many candidates to re-rank",
        "Queries on which the models disagree most",
        "Scores and labels",
        "Where the best passage of relevant documents is",
        "Length against loss",
    ):
        assert page.text.count(title) == 2, title
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page.source, re.S)
    assert len(captions) == tags.count("figure") >= 16
    for caption in captions:
        text = re.sub("<[^>]*>", "", caption)
        assert text.startswith(("small:", "中文:"))
        assert re.search(r"\b(40|8) queries", text)
        assert "interval" in text
        assert "equal" in text
    values = {row.name: row.per_query["nDCG@10"] for row in evaluation.rows_of("small")}
    for name in ("good", "poor"):
        worse = sum(map(lt, values[name], values["first stage: toy search"]))
        assert f"{name} : {worse} of 40 queries worse" in page.text
    assert 'lang="zh"' in page.source
    assert "<mark>" in page.source


def test_runs_that_stopped_and_calls_that_failed(tmp_path: Path) -> None:
    """A stopped run has a line with its reason; a failed call has no rank."""
    judged = judged_set(queries=8)
    good = run_of(judged, "good", lambda query, at, gain: gain)
    failed = [
        replace(one, scores=(), error="no answer", passages={}) if one.id == "q3" else one for one in good.queries
    ]
    runs = [
        replace(good, queries=tuple(failed)),
        replace(good, model="slow", queries=good.queries[:2], stopped="budget", reason="2.0 s a query"),
        run_of(judged, "poor", lambda query, at, gain: float(at)),
    ]
    write_report(evaluate([judged], runs, ["nDCG@10"]), tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "too slow, stopped: 2.0 s a query" in page.text
    assert "failed queries" in page.text


@pytest.mark.parametrize("models", [0, 1])
def test_little_to_tell(tmp_path: Path, models: int) -> None:
    """One model or none, no first stage, short texts, two queries: the parts without figures are left out."""
    made = JudgedSet(
        "tiny", tuple(replace(query, candidates=query.candidates[:3]) for query in judged_set().queries[:2])
    )
    runs = [run_of(made, "only", lambda query, at, gain: gain)] * models
    write_report(evaluate([made], runs, ["nDCG@10"]), tmp_path / "report.html")
    text = Page(tmp_path / "report.html").text
    assert ("only is the only model." if models else "No model was evaluated on this set.") in text
    assert "made worse" not in text
    assert "disagree most" not in text


NO_ADVICE = Advice("nDCG@10", 0, None, 0.01)
"""For figures out of the air, of which none is compared."""


def big(queries: int, candidates: int, models: int) -> Evaluation:
    """An evaluation with figures out of the air, since a thousand queries take long to measure."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["alpha", "beta", "检索", "排序", "<&>"], k=500)) for _ in range(50)]
    made = tuple(
        JudgedQuery(
            f"q{at}",
            " ".join(draw.choices(["who", "what", "谁"], k=20)),
            tuple(
                Candidate(f"d{at}-{one}", texts[(at + one) % 50], float(one % 20 == 0), -one)
                for one in range(candidates)
            ),
        )
        for at in range(queries)
    )
    judged = JudgedSet("big", made)
    rows = [row(judged, f"model {number}", "model", draw) for number in range(models)]
    return Evaluation((judged,), ("nDCG@10",), (*rows, row(judged, "first stage: search", "first stage", draw)), ())


def row(judged: JudgedSet, name: str, kind: Kind, draw: random.Random) -> Row:
    values = [draw.random() for _ in judged.queries]
    runs: Sequence[QueryRun] = ()
    if kind == "model":
        runs = [
            QueryRun(
                one.id,
                tuple(draw.random() for _ in one.candidates),
                0.1,
                passages=dict.fromkeys(range(100), (900, 1400)),
            )
            for one in judged.queries
        ]
    run = ModelRun(name, name, {}, "f", judged.digest, tuple(runs)) if runs else None
    return Row("big", name, kind, {"nDCG@10": values}, {"nDCG@10": Interval(0.5, 0.4, 0.6)}, run)


def test_the_file_stays_small(tmp_path: Path) -> None:
    """A thousand queries with a hundred candidates fit, and the page says how many it shows."""
    write_report(big(1000, 100, 2), tmp_path / "report.html", advice=NO_ADVICE)
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    assert "12 of 1,000 queries are shown" in Page(tmp_path / "report.html").text


def test_fewer_queries_are_shown_where_the_file_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of queries is halved until the page fits, down to none; then it is an error, and no file is left."""
    evaluation = big(20, 20, 2)
    sizes = {}
    for limit in (6_000_000, 200_000, 120_000):
        monkeypatch.setattr(writing, "MOST_BYTES", limit)
        write_report(evaluation, tmp_path / "report.html", advice=NO_ADVICE)
        page = Page(tmp_path / "report.html")
        found = re.search(r"(\d+) of 20 queries are shown", page.text)
        sizes[limit] = int(found.group(1)) if found else 0
        assert len(page.source.encode()) <= limit
    assert 12 == sizes[6_000_000] > sizes[200_000] > sizes[120_000] >= 0
    monkeypatch.setattr(writing, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match="evaluate fewer sets or models"):
        write_report(evaluation, tmp_path / "other.html", advice=NO_ADVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
