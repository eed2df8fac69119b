"""Publishing: what is written scores as the model did, in every library that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.publishable import PAIRS, autocast, live, names, open_models, silent

import rerank_core
from helpers.forked import interpreted
from rerank_core import Reranker
from rerank_core.backends.torch.attention import packing
from rerank_core.planning.longdoc import FirstP
from rerank_core.planning.row_plan import Job, RowPlan, Rules
from rerank_core.testing import tiny_cross_encoder
from rerank_core.types import Document
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.errors import PublishError
from rerank_trainers.kinds import KINDS
from rerank_trainers.model.trained_model import Model, open_model
from rerank_trainers.publish import publish as publishing
from rerank_trainers.publish.publish import TOLERANCE, Published, publish


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A classifier trained whole, one with adapters and a fresh head, a language model with adapters, and one that
    follows an installed plugin's template."""
    return open_models(tmp_path_factory.mktemp("origins"))


@pytest.fixture(scope="module")
def folders(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Each of them published in float32; the first while accelerate makes the live one compute in bfloat16, and proven
    in a new interpreter as users have it."""
    place = tmp_path_factory.mktemp("published")
    with autocast(models["whole"].module), interpreted(publishing):
        found = {"whole": publish(models["whole"], place / "whole", probes=PAIRS[:2])}
    return found | {name: publish(models[name], place / name, probes=PAIRS[:2]) for name in ("adapters", "like")}


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


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with token types, whose tokenizer's settings do not say so, and a template with words of its own."""
    origin = tiny_cross_encoder(tmp_path_factory.mktemp("origin") / "bert", "bert", std=0.2)
    settings = origin / "tokenizer_config.json"
    told = {k: v for k, v in json.loads(settings.read_text("utf-8")).items() if k != "model_input_names"}
    settings.write_text(json.dumps(told))
    words = {"query": "query: {query}", "doc": "{doc} (passage)"}
    return open_model(ModelConfig(checkpoint=str(origin), template=words), KINDS["cross-encoder"], name="typed")


def test_every_library_scores_as_the_card_says(
    models: dict[str, Model], folders: dict[str, Published], typed: Model, tmp_path: Path
) -> None:
    """The code on the card, run as it stands, gives the score; the proof has asked each library beforehand."""
    folders = {**folders, "typed": publish(typed, tmp_path / "typed")}
    for name, library in (("whole", 2), ("adapters", 2), ("like", 1), ("typed", 2)):
        found = folders[name]
        assert len(found.elsewhere) == library, name
        assert max(found.elsewhere.values()) <= found.tolerance, name
        card = (found.directory / "README.md").read_text("utf-8")
        code = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    "))
        told: dict[str, Any] = {}
        with silent():
            exec(code.replace("path/to/this/folder", str(found.directory)), told)
        model = typed if name == "typed" else models[name]
        assert told["score"] == pytest.approx(live(model, [(told["query"], told["doc"])])[0], rel=1e-5, abs=1e-5), name
    assert "written as in that call" in card


def test_a_folder_that_scores_otherwise_elsewhere_is_not_published(
    typed: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rerank-core reads token types off the model; without a word of them in the tokenizer's settings others do not."""
    amend = publishing._amend
    monkeypatch.setattr(publishing, "_amend", lambda path, more: amend(path, {} if "token" in path.name else more))
    with pytest.raises(PublishError, match=r"in a fresh process, transformers scores '.*probes differ"):
        publish(typed, tmp_path / "out")

    assert names(tmp_path) == set()
