"""An index gives the scores of its documents, from memory or from a folder, and a folder is whole or refused."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rerank_core
from helpers.forked import run_python
from helpers.models.late import NEW, TEXTS, reading, saved, shards
from helpers.plain import DOCUMENTS, LONG, QUERIES, Plain, assert_close
from rerank_core import Head, InputError, ModelSpec, Reranker
from rerank_core.index import index as index_module
from rerank_core.index.index import Index


@pytest.fixture(scope="session")
def direct(tiny: Reranker) -> list[list[float]]:
    """Scores of TEXTS without an index, for each query."""
    return [tiny.rerank(query, TEXTS).scores() for query in QUERIES]


def scores(reranker: Reranker, index: Index) -> list[list[float]]:
    return [reranker.rerank(query, index).scores() for query in QUERIES]


def vectors(index: Index) -> list[torch.Tensor]:
    """The token vectors of every window."""
    places = [window.embedding for text in index._stored for window in text.windows]
    return [place.block.embedding(place.number)["vectors"] for place in places]


@pytest.mark.parametrize("where", ["memory", "new folder", "opened folder"])
def test_scores_are_those_of_the_documents(
    tiny: Reranker, direct: list[list[float]], stored: Path, tmp_path: Path, where: str
) -> None:
    """Empty, odd and long documents score and cut as without an index, wherever it is."""
    places = {"memory": None, "new folder": tmp_path / "new", "opened folder": stored}
    index = tiny.index(TEXTS, places[where])

    assert dict(index.drift) == {}
    assert index.precision == "float32"
    for query, expected in zip(QUERIES, direct, strict=True):
        ranking = tiny.rerank(query, index)
        assert_close(expected, ranking.scores())
        passages = {hit.index: [(p.start, p.stop) for p in hit.passages] for hit in tiny.rerank(query, TEXTS)}
        assert {hit.index: [(p.start, p.stop) for p in hit.passages] for hit in ranking} == passages
        assert len(passages[TEXTS.index(LONG)]) > 10


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_was_not_read_is_remembered(folder: Path, tmp_path: Path, where: str) -> None:
    """Hits of an index say which documents were cut, as those of the documents do, also when opened again."""
    first = rerank_core.load(folder, device="cpu", longdoc="firstp")
    expected = {hit.index: (hit.truncated, hit.passages[0].stop) for hit in first.rerank(QUERIES[0], TEXTS)}
    for _ in range(2):
        index = first.index(TEXTS, None if where == "memory" else tmp_path / "index")
        assert {hit.index: (hit.truncated, hit.passages[0].stop) for hit in first.rerank(QUERIES[0], index)} == expected
    assert {truncated for truncated, _ in expected.values()} == {True, False}


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_drift_bounds_what_scores_move_by(
    tiny: Reranker, direct: list[list[float]], folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, precision: str, where: str,
) -> None:  # fmt: skip
    """Drift is how far vectors moved, over all shards, and no score moves by more than that for each query token."""
    exact = tiny.index(TEXTS)
    monkeypatch.setattr(index_module, "_SHARD_DOCUMENTS", 10)
    index = tiny.index(TEXTS, None if where == "memory" else tmp_path / "index", precision=precision)
    moved = torch.cat([(a - b).norm(dim=-1) for a, b in zip(vectors(exact), vectors(index), strict=True)])
    plain = Plain(folder)

    assert index.precision == precision
    assert index.drift["mean"] == pytest.approx(float(moved.mean()), rel=1e-3)
    assert index.drift["max"] == pytest.approx(float(moved.max()), rel=1e-3)
    assert 0 < index.drift["max"] < 0.02
    for query, before, after in zip(QUERIES, direct, scores(tiny, index), strict=True):
        apart = max(abs(a - b) for a, b in zip(before, after, strict=True))
        assert 1e-6 < apart <= (len(plain.ids(query)) + 2) * index.drift["max"] + 1e-5


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_lower_precision_is_what_a_folder_says(tiny: Reranker, tmp_path: Path, precision: str) -> None:
    """Opened again without a word on precision, a folder gives the scores and the drift that it was made with."""
    made = tiny.index(TEXTS, tmp_path / "index", precision=precision)
    opened = tiny.index(TEXTS, tmp_path / "index")

    assert (opened.precision, opened.drift) == (precision, made.drift)
    assert scores(tiny, opened) == scores(tiny, made)


def test_a_lower_precision_takes_fewer_bytes(tmp_path: Path) -> None:
    """Half the bytes in float16 and about a quarter in int8, of thousands of vectors as wide as a real model's."""
    reranker = rerank_core.load(saved(tmp_path / "wide", hidden=128, layers=1), device="cpu")
    size = {}
    for precision in ("float32", "float16", "int8"):
        reranker.index([f"{number} {LONG}" for number in range(3)], tmp_path / precision, precision=precision)
        size[precision] = sum(path.stat().st_size for path in shards(tmp_path / precision))

    assert size["float32"] > 3000 * 128 * 4
    assert 0.49 < size["float16"] / size["float32"] < 0.52
    assert 0.25 < size["int8"] / size["float32"] < 0.30


def test_texts_in_the_folder_are_not_read_again(tiny: Reranker, folder: Path, kept: Path) -> None:
    """Opening reads one fixed text; what is new makes one shard and is read once, however often it is given."""
    with reading(tiny) as opening:
        tiny.index([], kept)
    with reading(tiny) as again:
        tiny.index([*TEXTS, *TEXTS], kept)
    before = shards(kept)
    with reading(tiny) as more:
        index = tiny.index([*NEW, *TEXTS, *NEW], kept)
    plain = Plain(folder)

    assert len(opening) == 1
    assert again == opening
    assert sum(more) == sum(opening) + sum(len(plain.ids(text)) + 2 for text in NEW)
    assert len(before) == 1
    assert shards(kept)[:-1] == before
    for query in QUERIES:
        assert_close(tiny.rerank(query, [*NEW, *TEXTS, *NEW]).scores(), tiny.rerank(query, index).scores())


def test_another_process_opens_the_folder(
    tiny: Reranker, direct: list[list[float]], folder: Path, stored: Path, tmp_path: Path
) -> None:
    """A process of its own gets equal scores, and leaves the folder as it is."""
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    (tmp_path / "asked.json").write_text(json.dumps([TEXTS, QUERIES]), encoding="ascii")
    code = (
        "import json, sys, rerank_core; model, index, asked = sys.argv[1:]; texts, queries = json.load(open(asked)); "
        "reranker = rerank_core.load(model, device='cpu'); index = reranker.index(texts, index); "
        "print(json.dumps([reranker.rerank(query, index).scores() for query in queries]))"
    )
    (tmp_path / "rank.py").write_text(code, encoding="ascii")
    done = run_python(str(tmp_path / "rank.py"), str(folder), str(stored), str(tmp_path / "asked.json"))

    assert done.returncode == 0, done.stderr
    for expected, found in zip(direct, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert_close(expected, found)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps says where the files of a process are mapped")
def test_vectors_lie_in_the_file(tiny: Reranker, kept: Path) -> None:
    """Vectors are views of the mapped shard, of an index just made and of one opened: none is a copy in memory."""
    for texts in (TEXTS, [*TEXTS, *NEW]):
        index = tiny.index(texts, kept)
        parts = [window.embedding.block.parts["vectors"] for text in index._stored for window in text.windows]
        lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
        mapped = {str(path): [line[0].split("-") for line in lines if line[-1] == str(path)] for path in shards(kept)}
        found = {
            path
            for part in parts
            for path, spans in mapped.items()
            for start, stop in spans
            if int(start, 16) <= part.data.data_ptr() < int(stop, 16)
        }

        assert found == set(mapped)
        assert all(
            any(int(a, 16) <= part.data.data_ptr() < int(b, 16) for spans in mapped.values() for a, b in spans)
            for part in parts
        )


def test_windows_that_are_combined_otherwise_are_the_same(folder: Path, kept: Path) -> None:
    """MaxP, MeanP and KMaxP read the same windows, so they share a folder, each with its own scores."""
    for longdoc in ("meanp", "kmaxp:2"):
        other = rerank_core.load(folder, device="cpu", longdoc=longdoc)
        with reading(other) as seen:
            index = other.index(TEXTS, kept)

        assert len(seen) == 1
        assert_close(other.rerank(QUERIES[0], TEXTS).scores(), other.rerank(QUERIES[0], index).scores())


def test_a_selection_is_an_index_of_its_own(tiny: Reranker, direct: list[list[float]], stored: Path) -> None:
    """Scores, order and hits are those of the chosen places, counted from the selection; none at all is fine."""
    index = tiny.index(TEXTS, stored)
    places = [len(TEXTS) - 2, 0, 7, 3]
    chosen = index.select(places)
    ranking = tiny.rerank(QUERIES[0], chosen)

    assert [document.text for document in chosen] == [TEXTS[place] for place in places]
    assert_close([direct[0][place] for place in places], ranking.scores())
    assert all(hit.document.text == TEXTS[places[hit.index]] for hit in ranking)
    assert [document.text for document in chosen.select([2])] == [TEXTS[7]]
    assert list(tiny.rerank(QUERIES[0], index.select([]))) == []


def test_places_may_repeat(tiny: Reranker, direct: list[list[float]], stored: Path) -> None:
    """A document keeps its score beside any others and beside itself."""
    index = tiny.index(TEXTS, stored)
    for places in product([0, 1, 2, len(DOCUMENTS), len(TEXTS) - 1], repeat=3):
        assert_close([direct[0][place] for place in places], tiny.rerank(QUERIES[0], index.select(places)).scores())


@pytest.mark.parametrize("place", [-1, len(TEXTS), True, 1.0, "0", None])
def test_a_place_that_is_none_is_refused(tiny: Reranker, stored: Path, place: Any) -> None:
    """A place outside the index, or no integer, is named in the message."""
    with pytest.raises(InputError, match="is no position in Index"):
        tiny.index(TEXTS, stored).select([0, place])


def test_places_may_be_numpys(tiny: Reranker, stored: Path) -> None:
    """What a first stage sorts out with numpy is taken, as ``top_k`` takes numpy's integers."""
    chosen = tiny.index(TEXTS, stored).select(np.argsort([2, 0, 1]))

    assert [document.text for document in chosen] == [TEXTS[1], TEXTS[2], TEXTS[0]]


def test_an_index_of_nothing(tiny: Reranker, tmp_path: Path) -> None:
    """No documents are an index too, in memory, in a new folder and in one that was made so."""
    for where in (None, tmp_path / "index", tmp_path / "index"):
        index = tiny.index([], where)

        assert len(index) == 0
        assert list(tiny.rerank(QUERIES[0], index, explain=True)) == []
    assert len(tiny.index(NEW, tmp_path / "index")) == 2


@pytest.mark.parametrize("options", [{"longdoc": "firstp"}, {"overlap": 0}])
def test_what_an_index_settles_is_not_asked_again(tiny: Reranker, stored: Path, options: dict[str, Any]) -> None:
    """How documents are cut was settled when they were encoded, so a call that says otherwise is refused."""
    with pytest.raises(InputError, match="fixed when an index is made; pass them to load"):
        tiny.rerank(QUERIES[0], tiny.index(TEXTS, stored), **options)


class Lengths:
    def score(self, query: str, docs: Any) -> list[float]:
        return [float(len(doc)) for doc in docs]


def test_a_scorer_of_texts_cannot_be_indexed(tmp_path: Path) -> None:
    """What takes whole texts says so, and makes no folder."""
    reranker = Reranker.from_scorer(Lengths(), ModelSpec(name="lengths", head=Head.classifier()))

    with pytest.raises(InputError, match="has no embeddings to index"):
        reranker.index(TEXTS, tmp_path / "index")
    assert not (tmp_path / "index").exists()
