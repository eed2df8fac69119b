"""Publishing: what is written scores as the model did, in every library that reads it, or is not there at all."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from safetensors import safe_open
from tokenizers.normalizers import BertNormalizer

import rerank_core
from rerank_core import InputError, Reranker, Template
from rerank_core.backends.torch import packing
from rerank_core.longdoc import FirstP
from rerank_core.rows import Job, RowPlan, Rules
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_core.types import Document
from rerank_trainers import publishing
from rerank_trainers.calibration import Scaling
from rerank_trainers.card import CardFacts
from rerank_trainers.config import LoraOptions, ModelConfig, PublishConfig
from rerank_trainers.errors import PublishError
from rerank_trainers.evaluating import Result
from rerank_trainers.model import Model, open_model
from rerank_trainers.publishing import TOLERANCE, Published, publish

PAIRS = [
    ("what is a panda?", "The giant panda is a bear native to the mountains of central China."),
    ("what is a panda?", "The capital of France is Paris."),
    ("大熊猫吃什么？", "熊猫每天吃很多竹子，也吃鱼、鸟和蛋。"),
    ("what do pandas eat?", "bamboo " * 300),
]
OWN = {"before": "<|im_start|>", "query": "query: {query}", "between": "\n", "doc": "document: {doc}", "after": "\n"}


def trained(module: Any) -> None:
    """Move every trainable weight, as training would, and leave the module in training mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    module.train()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A classifier trained whole, one with adapters and a fresh head, a language model with adapters, and one that
    follows an installed plugin's template."""
    place = tmp_path_factory.mktemp("origins")
    headless = tiny_cross_encoder(place / "headless", "bert", head=False, std=0.2)
    lora = LoraOptions(r=4)
    llm = ModelConfig(
        kind="llm", checkpoint=str(tiny_causal_lm(place / "qwen2", std=0.15)), max_length=128, lora=lora, template=OWN,
        answers=("yes", "no"),
    )  # fmt: skip
    configs = {
        "whole": ModelConfig(checkpoint=str(tiny_cross_encoder(place / "xlmr", std=0.2)), max_query_length=24),
        "adapters": ModelConfig(checkpoint=str(headless), max_length=128, lora=lora),
        "llm": llm,
        "like": replace(
            llm, checkpoint=str(tiny_causal_lm(place / "qwen3", "qwen3", std=0.15)), max_length=256,
            like="qwen3-reranker-0.6b", template=None, answers=(),
        ),
    }  # fmt: skip
    made = {name: open_model(config, name=f"Tiny {name}") for name, config in configs.items()}
    for model in made.values():
        trained(model.module)
    return made


@pytest.fixture(scope="module")
def folders(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Each of them published in float32, the first while accelerate makes the live one compute in bfloat16."""
    place = tmp_path_factory.mktemp("published")
    found = {}
    for name in ("whole", "adapters", "like"):
        model = models[name]
        with autocast(model.module) if name == "whole" else contextlib.nullcontext():
            found[name] = publish(model, place / name, probes=PAIRS[:2])
    return found


@contextlib.contextmanager
def autocast(module: Any) -> Iterator[None]:
    """What accelerate does to a module under mixed precision."""
    module._original_forward = module.forward
    module.forward = MethodType(torch.autocast("cpu", dtype=torch.bfloat16)(module.forward.__func__), module)
    module.forward = MethodType(convert_outputs_to_fp32(module.forward.__func__), module)
    try:
        yield
    finally:
        del module.forward, module._original_forward


def live(model: Model, pairs: list[tuple[str, str]] = PAIRS) -> list[float]:
    return Reranker.from_scorer(model.scorer, model.spec).score(pairs)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Other libraries tell of loading as they like."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ["whole", "adapters", "like"])
def test_the_folder_scores_as_the_live_model(
    models: dict[str, Model], folders: dict[str, Published], name: str
) -> None:
    """Loaded by its path alone it gives the scores of the model in training, which goes on as it was."""
    model, found = models[name], folders[name]
    assert found.deviation <= TOLERANCE
    assert found.probes >= 8
    with rerank_core.load(found.directory, device="cpu") as reranker:
        assert reranker.score(PAIRS) == pytest.approx(live(model), rel=1e-5, abs=1e-5)
        assert reranker.spec.name == f"tiny-{name}"
        assert reranker.spec.max_length == model.spec.max_length
    assert model.module.training
    assert hasattr(model.module, "peft_config") == (name != "whole")
    assert any(weight.requires_grad for weight in model.module.parameters())


def test_a_followed_model_brings_its_options(models: dict[str, Model], folders: dict[str, Published]) -> None:
    """The folder of a model with options names the installed model that has them, and follows an instruction."""
    model, folder = models["like"], folders["like"].directory
    assert json.loads((folder / "reranker.json").read_text("utf-8"))["base"].endswith(":qwen3-reranker-0.6b")
    with rerank_core.load(folder, device="cpu") as reranker:
        told = reranker.score(PAIRS[:2], instruction="Find animals")
        assert told != pytest.approx(reranker.score(PAIRS[:2]), abs=1e-3)
    asked = Reranker.from_scorer(model.scorer, model.spec)
    assert told == pytest.approx(asked.score(PAIRS[:2], instruction="Find animals"), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["whole", "adapters", "like"])
def test_nothing_of_this_machine_is_in_the_files(folders: dict[str, Published], name: str) -> None:
    """Safetensors and text files only, and none of them has a path of this machine or a trace of how we computed."""
    folder = folders[name].directory
    wanted = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "reranker.json",
        "README.md",
    }
    assert wanted <= names(folder) <= wanted | {"generation_config.json", "chat_template.jinja"}
    for path in folder.iterdir():
        data = path.read_bytes()
        for trace in (
            str(folder.parent.parent),
            "attn_implementation",
            packing.NAME,
            "name_or_path",
            "lora_",
            "is_local",
        ):
            assert trace.encode() not in data, f"{trace} in {path.name}"
    if name in ("whole", "adapters"):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        assert config["id2label"] == {"0": "LABEL_0"}
        assert config["dtype"] == "float32"
    assert f"`{'headless' if name == 'adapters' else 'xlmr' if name == 'whole' else 'qwen'}" in (
        folder / "README.md"
    ).read_text("utf-8")


@pytest.mark.parametrize("name", ["whole", "adapters"])
def test_plain_transformers_gives_the_same_logit(
    models: dict[str, Model], folders: dict[str, Published], name: str
) -> None:
    """`AutoModelForSequenceClassification` and the tokenizer beside it, cut at the tokenizer's own limit."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(folders[name].directory)
    with silent():
        module, tokenizer = (
            AutoModelForSequenceClassification.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )
    inputs = tokenizer(
        *map(list, zip(*PAIRS, strict=True)), padding=True, truncation="only_second", return_tensors="pt"
    )
    with torch.no_grad():
        found = module(**inputs).logits[:, 0].tolist()
    firsts = Reranker.from_scorer(models[name].scorer, models[name].spec).score(PAIRS, longdoc="firstp")
    assert inputs["input_ids"].shape[1] <= models[name].spec.max_length
    assert found == pytest.approx(firsts, rel=1e-5, abs=1e-5)


def test_plain_transformers_gives_the_same_words(models: dict[str, Model], folders: dict[str, Published]) -> None:
    """The log-odds of the two words after the row that the pipeline lays down, by `AutoModelForCausalLM`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, folder = models["like"], str(folders["like"].directory)
    with silent():
        module, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    jobs = [Job(query, (Document(doc),), at) for at, (query, doc) in enumerate(PAIRS[:3])]
    plan = RowPlan(model.scorer, jobs, Rules(FirstP(), 256))
    found = []
    for window in plan.windows:
        ids = torch.tensor([[*plan.query_rows[window.query].ids, *plan.row(window).ids]])
        with torch.no_grad():
            logits = module(input_ids=ids).logits[0, -1]
        found.append((logits[yes] - logits[no]).item())
    firsts = Reranker.from_scorer(model.scorer, model.spec).score(PAIRS[:3], longdoc="firstp")
    assert found == pytest.approx(firsts, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["whole", "adapters"])
def test_sentence_transformers_gives_the_same_score(
    models: dict[str, Model], folders: dict[str, Published], name: str
) -> None:
    """`CrossEncoder` scores alike, and without being told takes the folder's own activation, none."""
    library = pytest.importorskip("sentence_transformers")
    with silent():
        model = library.CrossEncoder(str(folders[name].directory), device="cpu")
        found = model.predict(PAIRS[:3], activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()
        by_default = model.predict(PAIRS[:3], show_progress_bar=False).tolist()
    assert found == pytest.approx(live(models[name], PAIRS[:3]), rel=1e-5, abs=1e-5)
    assert by_default == found


def test_half_precision_is_proven_on_its_own_weights(
    models: dict[str, Model], folders: dict[str, Published], tmp_path: Path
) -> None:
    """bfloat16 weights score to 1e-5 as the rounded model does, what rounding did is reported, and the folder takes the
    place of an older one."""
    shutil.copytree(folders["whole"].directory, tmp_path / "half")
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
    models: dict[str, Model], folders: dict[str, Published], tmp_path: Path
) -> None:
    """A reranker.json that says other than training did fails, names a pair, and leaves an older folder intact."""
    model, target = models["llm"], tmp_path / "out"
    shutil.copytree(folders["whole"].directory, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    other = replace(model, spec=replace(model.spec, template=Template(**{**OWN, "query": "Query: {query}"})))
    with pytest.raises(PublishError, match=r"loaded in a fresh process, the folder scores 'what is a panda\?'"):
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
    with pytest.raises(InputError, match="there already"):
        publish(models["whole"], tmp_path / "theirs")
    with pytest.raises(InputError, match=r"no published folder \(it has no reranker.json\)"):
        publish(models["whole"], tmp_path / "theirs", overwrite=True)
    assert names(tmp_path / "theirs") == {"thesis.tex"}


def test_only_a_classifier_can_be_calibrated(models: dict[str, Model], tmp_path: Path) -> None:
    """A language model's logits take no scale and offset; without dev labels there is nothing to fit to."""
    scored = Result({}, {}, [(1.0, 1), (0.0, 0), (0.5, 1), (0.7, 0)])
    with pytest.raises(InputError, match="reads its score off a language model"):
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
    assert isinstance(found.scaling, Scaling)
    assert found.scaling.scale == pytest.approx(3, rel=0.3)
    wanted = list(map(found.scaling, raw))
    with rerank_core.load(tmp_path / "out", device="cpu") as reranker:
        assert reranker.score(PAIRS) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
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
    monkeypatch.setattr(publishing, "TOLERANCE", 1e-12)
    found = publish(models["whole"], tmp_path / "out")
    assert 1e-12 < found.deviation <= found.tolerance < 1e-4
