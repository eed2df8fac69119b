"""sentence-transformers opens a published embedding model, and its vectors are rerank-core's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.separate_folders import DOCS, PAIRS, QUERIES, WIDTH, layer, our_scores, our_vectors, published
from safetensors.torch import load_file, save_file

import rerank_core
from rerank_core import Head, InputError, ModelOption, ModelSpec, Template
from rerank_trainers.publish.folders.embedding import write_embedding
from rerank_trainers.publish.folders.prompts import prompts_of

PROMPTS = Template.each("query: {query}", "passage: {doc}")


def opened(folder: Path) -> Any:
    """The folder in sentence-transformers."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )


def vectors(model: Any, texts: Sequence[str], prompt: str) -> torch.Tensor:
    """The vectors of texts with a prompt."""
    result: torch.Tensor = model.encode(list(texts), prompt_name=prompt, convert_to_tensor=True)
    return result


FAMILIES = ["bert", "xlm-roberta", "modernbert", "qwen2", "qwen3"]
PLAIN = [(family, pooling, False) for family in FAMILIES for pooling in ("cls", "mean", "last")]
PROJECTED = [("bert", "cls", True), ("modernbert", "mean", True), ("qwen3", "last", True)]


@pytest.mark.parametrize(("family", "pooling", "projected"), PLAIN + PROJECTED)
def test_the_vectors_are_ours(family: str, pooling: Any, projected: bool, tmp_path: Path) -> None:
    """For every pooling, with layers and without, of encoders and of decoders with an end token."""
    layers = [layer(WIDTH, 16, activation="Tanh"), layer(16, 8, bias=False)] if projected else []
    names = ["2_Dense", "3_Dense"][: len(layers)]
    spec = published(tmp_path, family, Head.cosine(pooling, names), layers, names, template=PROMPTS)
    write_embedding(tmp_path, spec)
    model = opened(tmp_path)

    for texts, side, prompt in ((QUERIES, "query", "query"), (DOCS, "doc", "document"), (DOCS, "doc", "passage")):
        ours = torch.cat(our_vectors(tmp_path, texts, side))
        assert ours.std() > 0.01
        torch.testing.assert_close(vectors(model, texts, prompt), ours, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.similarity(model.encode_query(QUERIES), model.encode_document(DOCS)),
        torch.tensor(our_scores(tmp_path)).view(len(QUERIES), len(DOCS)),
        atol=1e-5, rtol=0,
    )  # fmt: skip


TEXTS = ["What's a panda?", "大熊猫，吃什么？", "naïve café — 1998's final", "a\tb\n c", "ＡＢＣ ﬁsh", "🐼 bamboo"]
_BGE_ZH = "为这个句子生成表示以用于检索相关文章：{query}"
REAL = [
    ("bert", "bert-base-uncased", "query: {query}"),
    ("bert", "bert-base-chinese", _BGE_ZH),
    ("bert", "bert-base-chinese", "{query}"),
    ("xlm-roberta", "xlm-roberta", "query: {query}"),  # its vocabulary takes ten seconds
]


@pytest.mark.data
@pytest.mark.parametrize(("family", "name", "query"), REAL)
def test_real_tokenizers(family: str, name: str, query: str, data: Path, tmp_path: Path) -> None:
    """A prompt is tokenized together with the text behind it, in both libraries."""
    template = Template.each(query, "passage: {doc}")
    tokenizer = data / "tokenizers" / name
    spec = published(tmp_path, family, Head.cosine("mean"), template=template, tokenizer=tokenizer)
    write_embedding(tmp_path, spec)
    model = opened(tmp_path)

    for side, prompt in (("query", "query"), ("doc", "document")):
        ours = torch.cat(our_vectors(tmp_path, TEXTS, side))
        torch.testing.assert_close(vectors(model, TEXTS, prompt), ours, atol=1e-5, rtol=0)


def test_a_layer_norm_of_the_start_is_written(tmp_path: Path) -> None:
    """As some embedding models of sentence-transformers have one."""
    norm = torch.nn.LayerNorm(8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    names = ["2_Dense", "3_LayerNorm"]
    spec = published(tmp_path, "bert", Head.cosine("mean", names), [layer(WIDTH, 8), norm], names, template=PROMPTS)
    write_embedding(tmp_path, spec)

    ours = torch.cat(our_vectors(tmp_path, DOCS, "doc"))
    torch.testing.assert_close(vectors(opened(tmp_path), DOCS, "document"), ours, atol=1e-5, rtol=0)


def test_a_folder_in_half_precision(tmp_path: Path) -> None:
    """Read in float32 by both libraries."""
    names = ["2_Dense"]
    spec = published(tmp_path, "bert", Head.cosine("mean", names), [layer(WIDTH, 8).half()], names, template=PROMPTS)
    weights = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    write_embedding(tmp_path, spec)

    ours = torch.cat(our_vectors(tmp_path, DOCS, "doc"))
    torch.testing.assert_close(vectors(opened(tmp_path), DOCS, "document"), ours, atol=1e-5, rtol=0)


def test_a_folder_without_our_settings_is_the_same_model(tmp_path: Path) -> None:
    """The recogniser of sentence-transformers' folders reads all that is written."""
    names = ["2_Dense"]
    spec = published(tmp_path, "bert", Head.cosine("cls", names), [layer(WIDTH, 8)], names, template=PROMPTS)
    write_embedding(tmp_path, spec, widths=(8, 4))
    expected = our_scores(tmp_path)
    (tmp_path / "reranker.json").unlink()

    assert our_scores(tmp_path) == pytest.approx(expected, abs=1e-6)
    with rerank_core.load(tmp_path, device="cpu") as reranker:
        assert reranker.spec.head == spec.head
        assert reranker.spec.max_length == spec.max_length


def test_products_without_normalisation(tmp_path: Path) -> None:
    """A model that is trained for products keeps the length of its vectors."""
    spec = published(tmp_path, "bert", Head.cosine("cls", normalize=False), template=Template.each())
    write_embedding(tmp_path, spec)
    model = opened(tmp_path)

    assert model.similarity_fn_name == "dot"
    torch.testing.assert_close(vectors(model, DOCS, "document"), torch.cat(our_vectors(tmp_path, DOCS, "doc")))
    torch.testing.assert_close(
        model.similarity(model.encode_query(QUERIES), model.encode_document(DOCS)).flatten(),
        torch.tensor(our_scores(tmp_path)),
    )


def test_trained_widths_survive_sentence_transformers(tmp_path: Path) -> None:
    """They are where vLLM reads them, also after sentence-transformers has saved the model again, and a shorter vector
    is the start of a longer one."""
    spec = published(tmp_path / "ours", "bert", Head.cosine("mean"), template=PROMPTS)
    write_embedding(tmp_path / "ours", spec, widths=(8, 16))
    model = opened(tmp_path / "ours")
    model.save_pretrained(str(tmp_path / "theirs"))

    for folder in ("ours", "theirs"):
        config = json.loads((tmp_path / folder / "config.json").read_text("utf-8"))
        assert config["matryoshka_dimensions"] == [32, 16, 8]
        assert config["is_matryoshka"] is True
    whole, short = vectors(model, DOCS, "document"), model.encode_document(DOCS, truncate_dim=8, convert_to_tensor=True)
    assert torch.equal(whole[:, :8], short)
    with pytest.raises(InputError, match="width 64"):
        write_embedding(tmp_path / "ours", spec, widths=(64,))


def test_a_default_width_is_theirs_too(tmp_path: Path) -> None:
    """Vectors that are cut by default have the same cosines in both libraries."""
    spec = published(tmp_path, "bert", Head.cosine("mean"), template=PROMPTS)
    option = ModelOption("truncate_dim", "int", "keep the first values", default=8)
    write_embedding(tmp_path, replace(spec, options=(option,)))
    model = opened(tmp_path)

    assert vectors(model, DOCS, "document").shape[1] == 8
    with rerank_core.load(tmp_path, device="cpu", truncate_dim=8) as reranker:
        expected = reranker.score(PAIRS)
    torch.testing.assert_close(
        model.similarity(model.encode_query(QUERIES), model.encode_document(DOCS)).flatten(), torch.tensor(expected),
        atol=1e-5, rtol=0,
    )  # fmt: skip


def test_an_instruction_of_an_option_is_in_the_prompt() -> None:
    """With its default, as Qwen3-Embedding writes queries."""
    option = ModelOption("instruction", "str", "the task", default="find the answer", when="call")
    template = Template.each("Instruct: {instruction}\nQuery:{query}", "{doc}")
    spec = ModelSpec("tiny", head=Head.cosine("last"), template=template, options=(option,))

    assert prompts_of(spec) == ("Instruct: find the answer\nQuery:", "")


def test_a_chat_template_is_left_out(tmp_path: Path) -> None:
    """sentence-transformers would write every text with it."""
    spec = published(tmp_path, "qwen2", Head.cosine("last"), template=PROMPTS)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }} <|im_end|>", encoding="utf-8")
    write_embedding(tmp_path, spec)

    torch.testing.assert_close(
        vectors(opened(tmp_path), DOCS, "document"), torch.cat(our_vectors(tmp_path, DOCS, "doc")), atol=1e-5, rtol=0
    )


def test_a_template_that_prompts_cannot_express_is_refused(tmp_path: Path) -> None:
    spec = published(tmp_path, "qwen2", Head.cosine("last"), template=Template.each("{query} Answer:"))

    marked = ModelSpec("tiny", head=Head.cosine(), template=Template.each(query_marker="[unused0]"))
    with pytest.raises(InputError, match=r"the marker '\[unused0\]'"):
        write_embedding(tmp_path, marked)
    with pytest.raises(InputError, match=r"text after \{query\}.*model.template.query"):
        write_embedding(tmp_path, spec)


def test_only_an_embedding_model_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Head.cosine\(\)"):
        write_embedding(tmp_path, ModelSpec("late", head=Head.maxsim(), template=Template.each()))
    spec = published(tmp_path, "bert", Head.cosine("cls"), template=Template.each())
    missing = ModelSpec("tiny", head=Head.cosine("cls", ["2_Dense"]), template=spec.template)
    with pytest.raises(InputError, match=r"'2_Dense'.*write it first"):
        write_embedding(tmp_path, missing)
