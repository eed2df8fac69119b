"""The members of an `Ensemble`: what is refused, whose an error is, what is opened and closed."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.models.two_models import DOCUMENTS, QUERY, TEXTS, Short, fake
from helpers.plugin_factory import install
from rerank_core import (
    Batch,
    CheckpointError,
    Combine,
    Ensemble,
    InputError,
    NonFiniteScoreError,
    Output,
    Reranker,
    RerankError,
    UnknownModelError,
)
from rerank_core.plugins import registry
from rerank_core.testing import FakeCascade, FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer


# ---------------------------------------------------------------------- errors
class Nan(FakeScorer):
    """NaN for a document with the word poison."""

    def forward(self, batch: Batch) -> Output:
        bad = self.tokenize(["poison"], "doc")[0].ids[0]
        return Output({"score": [math.nan if bad in row.ids else 1.0 for row in batch.rows]})


def test_an_error_names_the_member_and_comes_in_its_turn() -> None:
    """A stream gives the rankings before the request that fails for any member."""
    ensemble = Ensemble([fake(FakeScorer(), "good"), fake(Nan(), "bad")])
    stream = ensemble.rerank_stream([("q", ["a"]), ("q", ["b"]), ("q", ["poison"]), ("q", ["c"])])

    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(NonFiniteScoreError, match=r"^member 'bad': .*0 of query 2") as raised:
        next(stream)
    assert raised.value.documents == ((2, 0),)
    with pytest.raises(InputError, match=r"member 'api': .*longdoc"):
        Ensemble([fake(FakeTextScorer(), "api")]).rerank(QUERY, ["a"], longdoc="firstp")


def test_ranks_are_not_averaged() -> None:
    """A weighted mean with a listwise model or a cascade is refused when the ensemble is made, and in a call."""
    for scorer in (FakeListRanker(), FakeCascade([2])):
        members = [fake(FakeScorer(), "a"), fake(scorer, "b")]
        with pytest.raises(InputError, match=r"member 1 .*'b' gives .*Combine\.rrf"):
            Ensemble(members, Combine.weighted())
        with pytest.raises(InputError, match=r"'b' gives .*Combine\.rrf"):
            Ensemble(members).rerank(QUERY, DOCUMENTS, combine=Combine.weighted())


def test_what_one_model_alone_can_do_is_refused() -> None:
    """Pairs, activations, explanations and indexes belong to one model."""
    ensemble = Ensemble([fake(FakeSeparate(), "late"), fake(FakeScorer(), "cross")])
    with pytest.raises(InputError, match="combined score depends on all documents"):
        ensemble.score([(QUERY, "panda")])
    for option in ({"activation": "sigmoid"}, {"explain": True}):
        with pytest.raises(InputError, match="of one model's scores"):
            ensemble.rerank(QUERY, ["a"], **option)
    index = ensemble.members[0].reranker.index(TEXTS)
    with pytest.raises(InputError, match=r"list\(index\)"):
        ensemble.rerank(QUERY, index)
    assert ensemble.rerank(QUERY, list(index)).scores() == ensemble.rerank(QUERY, TEXTS).scores()
    with pytest.raises(InputError, match=r"request 0|document 0 of query 0 has 'x'"):
        ensemble.rerank_many([(QUERY, ["a"], ["x"])])


@pytest.mark.parametrize(
    ("members", "given", "said"),
    [
        ([], {}, "needs a member"),
        ("mini", {}, "members is 'mini'"),
        ([("mini", 0)], {}, r"weight of member 0 \('mini'\) is 0"),
        ([("mini", "1")], {}, "weight of member 0"),
        ([("mini", math.inf)], {}, "weight of member 0"),
        ([("mini", True)], {}, "weight of member 0"),
        ([("mini", 1e308), ("mini", 1e308)], {}, "too large for their sum"),
        ([("mini", 1, {}, 2)], {}, "member 0 is"),
        ([3], {}, "member 0 is 3"),
        ([()], {}, "member 0 is"),
        ([("mini", 1, "cpu")], {}, "options of member 0"),
        ([("mini", 1, {3: 4})], {}, "options of member 0"),
        (["mini"], {"by": "rrf"}, r"by is 'rrf'.*Combine\.rrf\(\)"),
        (["mini"], {"name": ""}, "name is ''"),
        ([("mini", 1, {"device": "cpu", "dtyp": "int8"})], {}, r"member 0 \('mini'\): unknown option 'dtyp'"),
    ],
)
def test_members_are_checked(members: Any, given: dict[str, Any], said: str) -> None:
    """What is no member, weight or option is an InputError that names it; nothing is loaded."""
    with pytest.raises(InputError, match=said):
        Ensemble(members, **given)


def test_options_of_loaded_members_are_refused() -> None:
    """Options of `load` have no effect on what is loaded."""
    with pytest.raises(InputError, match=r"loaded already, so \['device'\]"):
        Ensemble([fake(FakeScorer())], device="cpu")
    with pytest.raises(InputError, match=r"member 0 .* is loaded already"):
        Ensemble([(fake(FakeScorer()), 1, {"device": "cpu"})])


# ---------------------------------------------------------------------- life cycle
ACME = """
    from rerank_core import Head, ModelOption, ModelSpec, hookimpl

    @hookimpl
    def rerank_register_models(register):
        options = (ModelOption("layer", "int", "the layer to stop at", default=28),)
        register(ModelSpec(name="acme", head=Head.classifier(), scorer="rerank_acme:make", max_length=16,
                           options=options))

    def make(spec, options):
        from rerank_core.testing import FakeScorer
        return FakeScorer()
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model without weights that `load` finds by its name."""
    install(tmp_path / "site", "acme", ACME)
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry.default.cache_clear()
    yield
    registry.default.cache_clear()


@pytest.mark.usefixtures("acme")
def test_it_closes_what_it_opened() -> None:
    """Members given by name are loaded, with options for all and for one, and closed; a given reranker stays open."""
    given = fake(FakeScorer(), "given")
    with Ensemble([("acme", 2), ("acme", 1, {"layer": 16}), given], max_length=12) as ensemble:
        assert [member.name for member in ensemble.members] == ["acme", "acme#2", "given"]
        assert [member.weight for member in ensemble.members] == [2, 1, 1]
        options = [member.reranker.options for member in ensemble.members]
        assert [one.max_length for one in options] == [12, 12, None]
        assert [one.model.get("layer") for one in options] == [28, 16, None]
        assert repr(ensemble) == "<Ensemble 'acme+acme#2+given'>"
        scorers = [member.reranker.scorer for member in ensemble.members]
        assert len(ensemble.rerank(QUERY, TEXTS)) == 5
    ensemble.close()
    assert [scorer.closed for scorer in scorers] == [True, True, False]  # type: ignore[union-attr]
    assert repr(ensemble) == "<Ensemble 'acme+acme#2+given' (closed)>"
    assert len(given.rerank(QUERY, TEXTS)) == 5
    with pytest.raises(RerankError, match="closed"):
        ensemble.rerank(QUERY, TEXTS)


@pytest.mark.usefixtures("acme")
def test_a_member_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error keeps its class, and those loaded before are closed again."""
    closed: list[str] = []
    monkeypatch.setattr(FakeScorer, "close", lambda self: closed.append("acme"))
    with pytest.raises(UnknownModelError, match=r"member 1 .*acne"):
        Ensemble(["acme", "acne"])
    with pytest.raises(CheckpointError, match="member 1 "):
        Ensemble(["acme", (tmp_path / "nowhere", 1)])
    with pytest.raises(RerankError, match=r"member 0 .*closed"):
        Ensemble([_closed()])
    assert closed == ["acme", "acme"]


def _closed() -> Reranker:
    reranker = fake(FakeScorer())
    reranker.close()
    return reranker


def test_it_can_be_pickled_and_named() -> None:
    """Another process gets the same members, weights and method; `name` is the ranking's model."""
    ensemble = Ensemble([(fake(FakeScorer(), "a"), 1), (fake(Short(), "b"), 2)], Combine.rrf(10), name="both")
    copy = pickle.loads(pickle.dumps(ensemble))

    assert copy.rerank(QUERY, TEXTS).scores() == ensemble.rerank(QUERY, TEXTS).scores()
    assert copy.rerank(QUERY, TEXTS).model == "both"
