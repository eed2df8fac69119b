"""CrossEncoder folders as sentence-transformers writes them give the scores of sentence-transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.chat_templates import FLAT, STRUCTURED, TURNED, decoder_classifier
from helpers.plain import assert_close
from rerank_core import CheckpointError, Head, ModelSpec, Options, Reranker, Template
from rerank_core.backends import build
from rerank_core.testing import ScorerConformance, tiny_causal_lm, tiny_cross_encoder, tiny_encoder

QUERY = "what do pandas eat?"
DOCUMENTS = (
    "pandas eat bamboo", "Paris is a city.", "", " \n blank at both ends\n", "大熊猫吃竹子。", "pandas eat bamboo",
    "a long document about fish. " * 40, "x",
)  # fmt: skip


@functools.cache
def library() -> Any:
    """sentence-transformers, which takes seconds to import."""
    return pytest.importorskip("sentence_transformers")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Loads a folder as a CrossEncoder, saves it, and gives the new folder with the model."""

    def save(folder: Path, **settings: Any) -> tuple[Path, Any]:
        settings = {"device": "cpu", "local_files_only": True, **settings}
        model = library().CrossEncoder(str(folder), **settings)
        model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
        return tmp_path / "saved", model

    return save


def assert_equal(folder: Path, model: Any, *, documents: Sequence[str] = DOCUMENTS, **options: Any) -> None:
    """Our scores of a folder are those of the model, the folder's activation included. A document that does not fit is
    cut, as sentence-transformers does it."""
    prompt = {"prompt": options["instruction"]} if "instruction" in options else {}
    expected = model.predict([(QUERY, document) for document in documents], **prompt).tolist()
    loaded = rerank_core.load(folder, device="cpu", longdoc="firstp", **options)

    assert max(expected) - min(expected) > 1e-3
    assert_close(expected, loaded.rerank(QUERY, documents).scores())
    assert loaded.scorer.packed or loaded.spec.head.kind == "dense"


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_pairs_with_prompts(family: Any, tmp_path: Path, saved: Callable[..., tuple[Path, Any]]) -> None:
    """The default prompt is part of the query, and the option `instruction` replaces it, at load and per call."""
    prompts = {"task": "what is the answer: ", "other": "which text fits "}
    folder, model = saved(
        tiny_cross_encoder(tmp_path / "tiny", family), prompts=prompts, default_prompt_name="task", max_length=64
    )

    assert_equal(folder, model)
    assert_equal(folder, model, instruction="which text fits ")
    assert_equal(folder, model, instruction="")
    loaded = rerank_core.load(folder, device="cpu")
    assert loaded.spec.max_length == 64
    (option,) = loaded.spec.options
    assert "which text fits" in option.help
    given = loaded.rerank(QUERY, DOCUMENTS[:2], instruction="which text fits ").scores()
    assert_close(model.predict([(QUERY, doc) for doc in DOCUMENTS[:2]], prompt_name="other").tolist(), given)


def test_two_labels(tmp_path: Path, saved: Callable[..., tuple[Path, Any]]) -> None:
    """Of LABEL_0 and LABEL_1 in a CrossEncoder the second is the relevant one."""
    folder, model = saved(tiny_cross_encoder(tmp_path / "tiny", "bert", labels=2))
    logits = model.predict([(QUERY, document) for document in DOCUMENTS])

    loaded = rerank_core.load(folder, device="cpu", longdoc="firstp")
    assert_close((logits[:, 1] - logits[:, 0]).tolist(), loaded.rerank(QUERY, DOCUMENTS).scores())


@pytest.mark.parametrize("template", [FLAT, STRUCTURED, TURNED], ids=["flat", "structured", "document first"])
@pytest.mark.parametrize("instruction", [None, "find answers: 12 "])
def test_a_classifier_with_a_chat_template(
    template: str, instruction: str | None, tmp_path: Path, saved: Callable[..., tuple[Path, Any]]
) -> None:
    """Query and document are messages, the prompt is the system message, and the template's end is never cut."""
    (decoder_classifier(tmp_path / "tiny") / "chat_template.jinja").write_text(template, encoding="utf-8")
    prompts = {} if instruction is None else {"prompts": {"task": instruction}, "default_prompt_name": "task"}
    folder, model = saved(tmp_path / "tiny", max_length=100, activation_fn=torch.nn.Identity(), **prompts)

    # Where the document comes first, sentence-transformers cuts a long row before the query; here the document is cut.
    documents = DOCUMENTS[:6] if template == TURNED else DOCUMENTS
    assert_equal(folder, model, documents=documents)
    assert_equal(folder, model, documents=documents, instruction="find answers: 12 ")
    assert rerank_core.load(folder, device="cpu").rerank(QUERY, ["x"]).activation == "none"


@pytest.mark.parametrize("negative", ["no", None])
def test_a_language_model_with_two_or_one_token(
    negative: str | None, tmp_path: Path, saved: Callable[..., tuple[Path, Any]]
) -> None:
    """LogitScore: the logit of a token, less that of another, after the template with its variables."""
    tiny = tiny_causal_lm(tmp_path / "tiny", "qwen3")
    (tiny / "chat_template.jinja").write_text(FLAT, encoding="utf-8")
    modules = pytest.importorskip("sentence_transformers.cross_encoder.modules")
    kwargs = {"chat_template": {"add_generation_prompt": True, "enable_thinking": False}}
    first = library().base.modules.Transformer(
        str(tiny),
        transformer_task="text-generation",
        processing_kwargs=kwargs,
        processor_kwargs={"model_max_length": 128},
    )
    ids = first.tokenizer.convert_tokens_to_ids
    score = modules.LogitScore(ids("yes"), None if negative is None else ids(negative))
    folder, model = tmp_path / "saved", library().CrossEncoder(modules=[first, score], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)

    assert_equal(folder, model)
    assert_equal(folder, model, instruction="find answers")
    assert rerank_core.load(folder, device="cpu").spec.head == Head.last_token(
        ids("yes"), None if negative is None else ids(negative)
    )


def dense_layers(model: Any, pooling: str, width: int) -> list[Any]:
    """Pooling and the layers of ettin's rerankers, with random weights that spread the scores."""
    parts = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    names = {"module_input_name": "sentence_embedding"}
    torch.manual_seed(1)
    layers = [
        parts.Pooling(width, pooling_mode=pooling),
        parts.Dense(width, 24, activation_function=torch.nn.GELU(), **names),
        parts.LayerNorm(24),
        parts.Dense(24, 1, activation_function=torch.nn.Identity(), module_output_name="scores", **names),
    ]
    for layer in layers[1:]:
        for weight in layer.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return [model, *layers]


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_a_head_of_dense_layers(pooling: str, tmp_path: Path) -> None:
    """Pooling, Dense with GELU, LayerNorm and Dense, with a prompt before the query."""
    first = library().base.modules.Transformer(
        str(tiny_encoder(tmp_path / "tiny", "bert")), processor_kwargs={"model_max_length": 90}
    )
    model = library().CrossEncoder(
        modules=dense_layers(first, pooling, 32), device="cpu", prompts={"p": "find: "}, default_prompt_name="p"
    )
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)

    assert_equal(tmp_path / "saved", model)
    assert_equal(tmp_path / "saved", model, instruction="")


def test_a_head_of_dense_layers_with_a_chat_template(tmp_path: Path) -> None:
    """The template's end is never cut, so that the last token is its own."""
    tiny = tiny_causal_lm(tmp_path / "tiny", "qwen3")
    (tiny / "chat_template.jinja").write_text(FLAT, encoding="utf-8")
    first = library().base.modules.Transformer(str(tiny), processor_kwargs={"model_max_length": 110})
    layers = dense_layers(first, "lasttoken", first.get_embedding_dimension())
    model = library().CrossEncoder(modules=layers, device="cpu")
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)

    assert_equal(tmp_path / "saved", model)


def test_a_classifier_without_settings_follows_its_chat_template(tmp_path: Path) -> None:
    """A folder of transformers alone, whose tokenizer has a template for pairs, is scored through it."""
    folder = decoder_classifier(tmp_path)
    (folder / "chat_template.jinja").write_text(FLAT, encoding="utf-8")
    model = library().CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), max_length=1024)

    assert_equal(folder, model, documents=DOCUMENTS[:6])


@pytest.mark.parametrize("activation", ["Identity", "Sigmoid"])
@pytest.mark.parametrize("age", ["before 4", "4 and 5"])
def test_a_folder_of_an_older_release(age: str, activation: str, tmp_path: Path) -> None:
    """Its activation is in config.json, and its layout the tokenizer's pair."""
    folder = tiny_cross_encoder(tmp_path, "bert")
    name = type(getattr(torch.nn, activation)())
    path = f"{name.__module__}.{name.__qualname__}"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    older = {"sbert_ce_default_activation_function": path}
    newer = {"sentence_transformers": {"activation_fn": path, "version": "4.1.0"}}
    (folder / "config.json").write_text(json.dumps({**config, **(older if age == "before 4" else newer)}), "utf-8")

    assert_equal(folder, library().CrossEncoder(str(folder), device="cpu"), documents=DOCUMENTS[:6])


def test_a_reranker_json_may_name_the_chat_template(tmp_path: Path) -> None:
    """Format and variables are read back, and the scores are those of the spec that was written."""
    folder = tiny_causal_lm(tmp_path, "qwen3")
    (folder / "chat_template.jinja").write_text(FLAT, encoding="utf-8")
    template = Template.chat("flat", {"add_generation_prompt": True, "enable_thinking": False})
    spec = ModelSpec(name="own", checkpoint=str(folder), template=template, head=Head.last_token("yes", "no"))
    options = Options.of(spec, {"device": "cpu"})
    expected = Reranker.from_scorer(build(spec, options), spec).rerank(QUERY, DOCUMENTS[:6]).scores()

    rerank_core.write_spec(spec, folder)
    loaded = rerank_core.load(folder, device="cpu")

    assert loaded.spec.template == template
    assert_close(expected, loaded.rerank(QUERY, DOCUMENTS[:6]).scores())
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="its tokenizer has none"):
        rerank_core.load(folder, device="cpu")


class TestChatClassifier(ScorerConformance):
    """A templated classifier passes the suite of all scorers."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, tmp_path_factory: pytest.TempPathFactory) -> Reranker:
        folder = decoder_classifier(tmp_path_factory.mktemp("chat"))
        (folder / "chat_template.jinja").write_text(FLAT, encoding="utf-8")
        return rerank_core.load(folder, device="cpu")
