"""Embedding models as sentence-transformers saves them give the vectors and scores of sentence-transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.embedders import DOCUMENTS, QUERIES, library, modules, with_end
from helpers.plain import assert_close
from rerank_core import CheckpointError, Head, InputError
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder, tiny_encoder_decoder

PROMPTS = {"query": "query: ", "document": "passage: "}
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a random model with these modules, by sentence-transformers itself."""

    def saved(family: Any, pooling: str, *layers: Any, tokenizer: Any = None, **settings: Any) -> Path:
        if family == "t5":
            folder = tiny_encoder_decoder(tmp_path / "tiny", family)
        elif family == "qwen3":
            folder = with_end(tiny_causal_lm(tmp_path / "tiny", family, tokenizer=tokenizer or "bytes"))
        else:
            folder = tiny_encoder(tmp_path / "tiny", family, tokenizer=tokenizer)
        body = modules().Transformer(str(folder), max_seq_length=512)
        width = body.get_embedding_dimension()
        stack = [body, modules().Pooling(width, pooling), *(layer(width) for layer in layers)]
        model = library().SentenceTransformer(modules=stack, device="cpu", **settings)
        model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
        return tmp_path / "saved"

    return saved


def normalize(_: int) -> Any:
    return modules().Normalize()


def dense(width: int) -> Any:
    torch.manual_seed(1)
    return modules().Dense(width, 12)


def plain_dense(width: int) -> Any:
    torch.manual_seed(2)
    return modules().Dense(width, 12, bias=False, activation_function=torch.nn.Identity())


def assert_equal(folder: Path, **options: Any) -> Any:
    """Our scores are those of `encode_query`, `encode_document` and `similarity`; an index gives them too."""
    model = library().SentenceTransformer(str(folder), device="cpu", **options)
    queries, documents = model.encode_query(list(QUERIES)), model.encode_document(list(DOCUMENTS))
    expected = model.similarity(queries, documents).tolist()
    loaded = rerank_core.load(folder, device="cpu", **options)
    index = loaded.index(DOCUMENTS)
    for query, scores in zip(QUERIES, expected, strict=True):
        assert max(scores) - min(scores) > 1e-3
        assert_close(scores, loaded.rerank(query, DOCUMENTS).scores())
        assert_close(scores, loaded.rerank(query, index).scores())
    assert loaded.scorer.packed
    return loaded


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        (family, pooling)
        for family in ("bert", "xlm-roberta", "qwen3")
        for pooling in ("cls", "mean", "lasttoken")
        if (family, pooling) != ("qwen3", "cls")  # a decoder's first token sees only itself
    ],
)
def test_poolings_and_prompts(save: Save, family: str, pooling: str) -> None:
    """Every pooling, with the prompts of both sides; a decoder reads its end token."""
    loaded = assert_equal(save(family, pooling, normalize, prompts=PROMPTS))

    assert loaded.spec.head == Head.cosine({"lasttoken": "last"}.get(pooling, pooling))
    assert loaded.spec.raw_space == "cosine"
    assert loaded.spec.max_length == 512


@pytest.mark.data
@pytest.mark.parametrize(
    ("family", "pooling", "tokenizer"),
    [
        ("bert", "cls", "bert-base-uncased"),
        ("bert", "cls", "bert-base-chinese"),
        ("xlm-roberta", "mean", "xlm-roberta"),
        ("qwen3", "lasttoken", "qwen"),
    ],
)
def test_real_tokenizers(save: Save, family: str, pooling: str, tokenizer: str) -> None:
    """Prompts and odd texts become the tokens of sentence-transformers."""
    if "RERANK_DATA" not in os.environ:
        pytest.skip("RERANK_DATA is not set: it names the folder with the tokenizers")
    file = Path(os.environ["RERANK_DATA"]) / "tokenizers" / tokenizer / "tokenizer.json"
    prompts = {"query": "Instruct: Given a web search query, find passages\nQuery:", "document": "passage: "}
    assert_equal(save(family, pooling, normalize, tokenizer=file, prompts=prompts))


@pytest.mark.parametrize("layers", [(dense,), (dense, normalize), (normalize, plain_dense), (plain_dense, dense)])
def test_layers_after_the_pooling(save: Save, layers: Any) -> None:
    """Dense layers of any activation, and Normalize between them, in their order."""
    if layers == (plain_dense, dense):
        layers = (plain_dense, lambda _: dense(12))
    assert len(assert_equal(save("bert", "mean", *layers)).spec.head.modules) == len(layers) - (layers[-1] is normalize)


@pytest.mark.parametrize("layers", [(), (normalize,)])
def test_products_of_vectors(save: Save, layers: Any) -> None:
    """The similarity dot: vectors keep their length unless a Normalize module ends the stack."""
    loaded = assert_equal(save("bert", "cls", *layers, similarity_fn_name="dot"))
    assert loaded.spec.raw_space == ("cosine" if layers else "dot")
    assert loaded.rerank(QUERIES[0], DOCUMENTS).score_space == loaded.spec.raw_space


def test_the_encoder_of_t5(save: Save) -> None:
    """sentence-t5's and gtr-t5's folders have the encoder alone, and a linear layer after the pooling."""
    assert_equal(save("t5", "mean", plain_dense, normalize))


def test_products_of_shortened_vectors(save: Save) -> None:
    """They are not scaled to length 1 again: with the similarity dot, the product is the score."""
    loaded = assert_equal(save("bert", "mean", normalize, similarity_fn_name="dot", truncate_dim=12))
    assert loaded.spec.raw_space == "dot"


def test_shortened_vectors(save: Save) -> None:
    """`truncate_dim` at load, or saved in the folder; a saved one can be undone."""
    folder = save("bert", "mean", normalize, truncate_dim=12)
    assert_equal(folder)
    assert_equal(folder, truncate_dim=7)
    assert_equal(folder, truncate_dim=32)
    for wrong in (0, 33):
        with pytest.raises(InputError, match="truncate_dim"):
            rerank_core.load(folder, device="cpu", truncate_dim=wrong)


def test_prompts_are_an_option_of_the_query(save: Save) -> None:
    """Another prompt for a call; the documents' own prompt stays."""
    folder = save("bert", "mean", normalize, prompts=PROMPTS)
    model = library().SentenceTransformer(str(folder), device="cpu")
    query = model.encode([QUERIES[0]], prompt="find: ")
    expected = model.similarity(query, model.encode_document(list(DOCUMENTS)))[0].tolist()
    loaded = rerank_core.load(folder, device="cpu")
    before = loaded.rerank(QUERIES[0], DOCUMENTS).scores()

    assert_close(expected, loaded.rerank(QUERIES[0], DOCUMENTS, instruction="find: ").scores())
    assert_close(before, loaded.rerank(QUERIES[0], DOCUMENTS).scores())


def test_the_default_prompt_is_before_every_text(save: Save) -> None:
    """As sentence-transformers' `encode` puts it there, where the folder has no prompt of a side."""
    folder = save("bert", "mean", normalize, prompts={"task": "task: "}, default_prompt_name="task")
    change(folder / "config_sentence_transformers.json", prompts={"task": "task: "})
    model = library().SentenceTransformer(str(folder), device="cpu")
    expected = model.similarity(model.encode([QUERIES[0]]), model.encode(list(DOCUMENTS)))[0].tolist()
    assert_close(expected, rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize(("name", "prompt"), [("query", "query: "), ("passage", "passage: ")])
def test_the_default_prompt_of_one_side_is_that_sides(save: Save, name: str, prompt: str) -> None:
    """A query's prompt is not put before documents because it is the default, nor a document's before queries."""
    folder = save("bert", "mean", normalize)
    change(folder / "config_sentence_transformers.json", prompts={name: prompt}, default_prompt_name=name)
    spec = rerank_core.load(folder, device="cpu").spec
    query = next(option.default for option in spec.options if option.name == "instruction")
    assert (query, spec.template.doc.removesuffix("{doc}")) == ((prompt, "") if name == "query" else ("", prompt))


def test_older_folders(save: Save) -> None:
    """Settings of older releases: class names, the pooling's flags, a Normalize without a file, no kind of model."""
    folder = save("bert", "cls", normalize, prompts=PROMPTS)
    expected = rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCUMENTS).scores()
    names = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{name}" if at else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for at, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags), encoding="utf-8")
    (folder / "2_Normalize" / "config.json").unlink()
    settings = {"max_seq_length": 512, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    old = {"__version__": {"sentence_transformers": "2.2.2"}, "prompts": PROMPTS}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(old), encoding="utf-8")

    assert_equal(folder)
    assert_close(expected, rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCUMENTS).scores())


def test_a_classifier_beside_modules_stays_a_classifier(save: Save, tmp_path: Path) -> None:
    """Its trained score head decides, unless the folder says that it is a SentenceTransformer."""
    folder = save("bert", "mean", normalize)
    classifier = tiny_cross_encoder(tmp_path / "classifier", "bert")
    for name in ("modules.json", "1_Pooling", "2_Normalize"):
        (folder / name).rename(classifier / name)
    assert rerank_core.load(classifier, device="cpu").spec.head == Head.classifier()


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "the pooling is .*max"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "the pooling is"),
        ("1_Pooling/config.json", {"pooling_mode": [["cls"]]}, "the pooling is"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "similarity_fn_name"),
        ("config_sentence_transformers.json", {"truncate_dim": -1}, "truncate_dim"),
        ("config_sentence_transformers.json", {"truncate_dim": 99}, "truncate_dim"),
        ("config_sentence_transformers.json", {"default_prompt_name": "none"}, "default_prompt_name"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "sparse"),
        ("config_sentence_transformers.json", {"surprise": 1}, "surprise"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "task"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min", "length": 24}}, "query_expansion"),
        ("2_Dense/config.json", {"in_features": 5}, "in_features"),
        ("2_Dense/config.json", {"activation_function": "my.module.GELU"}, "activation_function"),
        ("2_Dense/config.json", {"activation_function": None}, "activation_function"),
        ("2_Dense/config.json", {"module_output_name": "other"}, "makes 'other' of 'sentence_embedding'"),
        ("3_Normalize/config.json", {"module_output_name": "other"}, "makes 'other' of 'sentence_embedding'"),
    ],
)
def test_what_is_not_supported_is_refused(save: Save, file: str, values: dict[str, Any], message: str) -> None:
    """The message names the setting; nothing is scored without it."""
    folder = save("bert", "mean", dense, normalize)
    change(folder / file, **values)
    with pytest.raises((CheckpointError, InputError), match=message):
        rerank_core.load(folder, device="cpu")


def test_modules_that_are_unknown_are_refused(save: Save) -> None:
    folder = save("bert", "mean", normalize)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for kind, message in (("custom_code.Pooler", "never run"), ("sentence_transformers.models.LSTM", "supported is")):
        modules[2]["type"] = kind
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            rerank_core.load(folder, device="cpu")


def test_two_modules_of_one_name_are_refused(save: Save) -> None:
    """sentence-transformers keeps the second alone."""
    folder = save("bert", "mean", dense, normalize)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[2]["name"] = modules[3]["name"]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(CheckpointError, match="two modules have the name '3'"):
        rerank_core.load(folder, device="cpu")


def test_weights_of_other_names_are_refused(save: Save) -> None:
    """The message says how the weights are named."""
    folder = save("bert", "mean", normalize)
    weights = load_file(folder / "model.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"rename the weights, without 'model\.'"):
        rerank_core.load(folder, device="cpu")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="Download it again"):
        rerank_core.load(folder, device="cpu")


def test_a_name_with_weights_of_another_model_is_refused(save: Save) -> None:
    """A name brings its pooling; a folder that was trained with another one would get other vectors."""
    pytest.importorskip("rerank_bge", reason="rerank-bge is not installed")
    folder = save("bert", "mean", plain_dense, normalize)
    with pytest.raises(CheckpointError, match=r"pooling is 'mean' and not 'cls', modules is .*by itself"):
        rerank_core.load("bge-small-en-v1.5", checkpoint=folder, device="cpu")
