"""`Reranker.fingerprint`: equal where nothing that changes scores differs, and different where something does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import rerank_core
from rerank_core import (
    Combine,
    Ensemble,
    Head,
    InputError,
    KMaxP,
    ModelOption,
    ModelSpec,
    PluginError,
    Reranker,
    Template,
)
from rerank_core.backends.source_files import note, noted
from rerank_core.identity.fingerprint import fingerprint_of
from rerank_core.options import Options
from rerank_core.reranker import opened
from rerank_core.rules import compat_profile
from rerank_core.testing import FakeScorer, FakeTextScorer, fake_spec, tiny_causal_lm, tiny_cross_encoder, tiny_encoder

LLM = ModelSpec(
    name="asked",
    template=Template(query="{instruction}Q: {query}", between="\n", doc="D: {doc}"),
    head=Head.last_token("yes", "no"),
    options=(
        ModelOption("instruction", "str", "the task", default="", when="call", written="{}. "),
        ModelOption("timeout", "float", "seconds", default=60.0, changes_scores=False),
        ModelOption("key", "str", "a secret", default="", secret=True),
    ),
)


PLAIN = ModelSpec(name="classifier", template=Template.pair(), head=Head.classifier())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder's folder, not to be changed."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "classifier", "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model's folder, not to be changed."""
    return tiny_causal_lm(tmp_path_factory.mktemp("models") / "decoder", "qwen2")


def loaded(source: Path | str, **options: Any) -> str:
    """The fingerprint of a model that is loaded with these options."""
    with rerank_core.load(source, **{"device": "cpu", **options}) as reranker:
        return reranker.fingerprint


def of(folder: Path, spec: ModelSpec = PLAIN, **options: Any) -> str:
    """The fingerprint of a spec with the files of a folder, without reading the weights into a model."""
    chosen = Options.of(spec, options)
    with noted() as files:
        note(folder, spec)
    return fingerprint_of(spec, chosen, chosen.rules(spec), compat_profile(spec, chosen.compat), FakeScorer(), files)


def of_spec(spec: ModelSpec, folder: Path) -> str:
    """The fingerprint of a spec that is loaded with the weights of a folder."""
    with opened(spec, Options.of(spec, {"checkpoint": str(folder), "device": "cpu"})) as reranker:
        return reranker.fingerprint


def copied(folder: Path, target: Path, change: Callable[[Path], object] = lambda _: None) -> Path:
    """A copy of a folder, changed."""
    shutil.copytree(folder, target)
    change(target)
    return target


def set_json(name: str, **values: Any) -> Callable[[Path], object]:
    """Sets values of a JSON file in a folder."""
    return lambda folder: (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **values}))


def test_it_is_the_same_in_every_process_and_place(classifier: Path, tmp_path: Path) -> None:
    """In another process with another hash seed, in a copy of the folder of another name, and after pickling."""
    first = loaded(classifier)
    assert len(first) == 64
    assert set(first) <= set("0123456789abcdef")
    code = f"import rerank_core; print(rerank_core.load({str(classifier)!r}, device='cpu').fingerprint)"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == first
    with rerank_core.load(copied(classifier, tmp_path / "elsewhere"), device="cpu", threads=1) as again:
        assert again.fingerprint == first
        assert pickle.loads(pickle.dumps(again)).fingerprint == first
    assert loaded(classifier, dtype="bfloat16", max_length=64) != first


def test_options_that_change_no_score_do_not_count(classifier: Path) -> None:
    same: dict[str, Any] = {"dtype": "float32", "longdoc": "maxp", "device": "cuda", "calibration": "c.json"}
    for option, value in {**same, "threads": 1, "token_budget": 64, "activation": "sigmoid", "offline": True}.items():
        assert of(classifier, **{option: value}) == of(classifier), option


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 64},
        {"max_query_length": 8},
        {"longdoc": "firstp"},
        {"longdoc": "kmaxp:2"},
        {"longdoc": KMaxP(4)},
        {"overlap": 3},
        {"dtype": "bfloat16"},
        {"dtype": "int8"},
        {"compat": "flagembedding"},
        {"compat": "bcembedding"},
        {"parse_special_tokens": True},
    ],
    ids=str,
)
def test_each_option_that_changes_scores_changes_it(classifier: Path, options: dict[str, Any]) -> None:
    assert of(classifier, **options) != of(classifier)


def test_the_longdoc_strategies_differ_from_each_other(classifier: Path) -> None:
    names = ("firstp", "maxp", "meanp", "kmaxp", "kmaxp:2", KMaxP(4))
    assert len({of(classifier, longdoc=name) for name in names}) == len(names)
    assert of(classifier, longdoc="kmaxp:3") == of(classifier, longdoc="kmaxp") == of(classifier, longdoc=KMaxP(3))


def test_the_spec_and_the_models_own_options_count(decoder: Path) -> None:
    """Template, head, limits, and each option that changes scores with the words around it; not names and texts about
    the model, a time limit or a secret."""
    first = of(decoder, LLM)
    for same in (
        replace(LLM, name="other", description="d", license="MIT", languages=("en",), parameters=5, aliases=("o",)),
        replace(LLM, activation="sigmoid"),
    ):
        assert of(decoder, same) == first
    for changed in (
        replace(LLM, template=replace(LLM.template, query="{instruction}q: {query}")),
        replace(LLM, head=Head.last_token("no", "yes")),
        replace(LLM, head=Head.last_token("yes")),
        replace(LLM, max_length=100),
        replace(LLM, longdoc="firstp"),
        replace(LLM, options=(replace(LLM.options[0], written="{}! "), *LLM.options[1:])),
    ):
        assert of(decoder, changed) != first
    assert of(decoder, LLM, instruction="find") != first
    assert of(decoder, LLM, timeout=1) == first
    assert of(decoder, LLM, key="a secret") == first


def test_layers_and_cascades_differ(decoder: Path) -> None:
    """Of a model with a head at each layer, the layers that score and the number of documents that go on."""
    spec = replace(LLM, head=Head.layers(first=1), options=())
    options: list[dict[str, Any]] = [{}, {"layer": 2}, {"layer": [1, 2]}]
    options += [{"layer": 2, "cascade": {1: keep}} for keep in (3, 4)]
    kept = [of(decoder, spec, **one) for one in options]
    assert len(set(kept)) == len(kept)


def test_an_adapter_counts_with_its_base(decoder: Path, tmp_path: Path) -> None:
    """The adapter's weights and those of the base, wherever that is."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    import torch
    from transformers import AutoModelForCausalLM

    def adapted(name: str, base: Path, seed: int) -> Path:
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(str(decoder)), config)
        model.save_pretrained(str(tmp_path / name))
        set_json("adapter_config.json", base_model_name_or_path=str(base))(tmp_path / name)
        return tmp_path / name

    spec = replace(LLM, template=Template(query="Q: {query}", between="\n", doc="D: {doc}"), options=())
    first = of_spec(spec, adapted("a", decoder, 1))
    assert of_spec(spec, adapted("b", copied(decoder, tmp_path / "moved"), 1)) == first
    assert of_spec(spec, adapted("c", decoder, 2)) != first
    other = copied(decoder, tmp_path / "other", set_json("config.json", rms_norm_eps=1e-3))
    assert len({first, of_spec(spec, adapted("d", other, 1)), of_spec(spec, decoder)}) == 3


def test_a_model_of_the_hub_is_the_model_of_its_folder(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit does not count where the files are the same."""
    from huggingface_hub import constants

    from helpers.hubs.hub_cache import snapshot

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, revision in (("acme/one", "a" * 40), ("acme/two", "b" * 40)):
        shutil.copytree(classifier, snapshot(tmp_path, name, revision), dirs_exist_ok=True)
    assert loaded("acme/one", offline=True) == loaded("acme/two", offline=True) == loaded(classifier)


def test_weights_inside_a_package() -> None:
    pytest.importorskip("rerank_mini")
    assert loaded("mini") != loaded("mini", longdoc="firstp")


def test_vectors_have_one_too(tmp_path: Path) -> None:
    """Late interaction and embeddings; whether documents are in an index does not matter."""
    folder = tiny_encoder(tmp_path / "encoder", "bert")
    kinds = [Head.maxsim("sum"), Head.maxsim("mean"), Head.cosine("cls"), Head.cosine("mean")]
    specs = [ModelSpec(name="late", template=Template.each(), head=head) for head in kinds]
    assert len({of(folder, spec) for spec in specs}) == len(specs)


@dataclass(frozen=True)
class Halves:
    """A strategy of a caller's own."""

    share: float = 0.5
    name: ClassVar[str] = "halves"

    def windows(self, length: int, room: int, overlap: int) -> list[tuple[int, int]]:
        return [(0, min(length, int(room * self.share) or 1))]

    def combine(self, scores: Any) -> float:
        return float(scores[0])


class Unreadable(Halves):
    """Its state is no plain data."""

    def __init__(self) -> None:
        object.__setattr__(self, "share", object())


def test_a_strategy_of_the_callers_own(classifier: Path) -> None:
    """By the name of its class and its state; state that cannot be read is an error."""
    assert of(classifier, longdoc=Halves()) == of(classifier, longdoc=Halves(0.5)) != of(classifier)
    assert of(classifier, longdoc=Halves(0.4)) != of(classifier, longdoc=Halves())
    with pytest.raises(InputError, match="no fingerprint; make it a dataclass"):
        of(classifier, longdoc=Unreadable())


class Remote(FakeTextScorer):
    """A text scorer that says which endpoint it asks."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint

    def identity(self) -> dict[str, str]:
        return {"endpoint": self.endpoint}


def test_scorers_of_the_caller_say_what_they_are() -> None:
    """Weights in memory are unknown, unless the scorer has a method for it."""
    spec = fake_spec()
    with pytest.raises(InputError, match=r"FakeTextScorer, was made by the caller.*identity\(\)"):
        Reranker.from_scorer(FakeTextScorer(), spec).fingerprint  # noqa: B018
    one, two = (Reranker.from_scorer(Remote(url), spec).fingerprint for url in ("http://a", "http://b"))
    assert one != two
    assert one == Reranker.from_scorer(Remote("http://a"), spec, token_budget=None).fingerprint


def test_a_plugin_that_reads_its_weights_elsewhere_is_told() -> None:
    """A loaded model with a checkpoint of which no file was read through `locate`."""
    spec = fake_spec(checkpoint="acme/model", scorer="acme:scorer")
    with pytest.raises(PluginError, match=r"'acme/model'.*read none of them.*locate\(\).*identity\(\)"):
        Reranker(FakeTextScorer(), spec, Options(), files={}).fingerprint  # noqa: B018
    rules = replace(spec, checkpoint="")
    assert Reranker(FakeTextScorer(), rules, Options(), files={}).fingerprint


def test_an_ensemble_has_that_of_its_members_and_their_weights() -> None:
    def made(*weights: float, by: Combine | None = None, url: str = "b") -> str:
        members = [Reranker.from_scorer(Remote(name), fake_spec()) for name in ("a", url)]
        return Ensemble(list(zip(members, weights, strict=True)), by).fingerprint

    first = made(1, 1)
    assert first == made(1.0, 1.0, by=Combine.rrf())
    others = [made(1, 2), made(1, 1, by=Combine.weighted()), made(1, 1, by=Combine.rrf(10)), made(1, 1, url="c")]
    assert len({first, *others}) == 5
