"""Layers beside an encoder make the score that sentence-transformers gives: every pooling, module and activation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.encoder_folders import WIDTH, add_modules, dense, encoder_folder, write
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from rerank_core import CheckpointError, Head, InputError, ModelSpec, Template, write_spec
from rerank_core.testing import ScorerConformance

NORM = ("LayerNorm", {"dimension": WIDTH})
# The ettin rerankers: Dense(H, H, GELU), LayerNorm, Dense(H, 1).
ETTIN = (dense(WIDTH, WIDTH, "GELU", bias=False), NORM, dense(WIDTH, 1))
POOLINGS = {"cls": "cls", "mean": "mean", "last": "lasttoken"}


def folder(directory: Path, modules: Sequence[tuple[str, Any]], pooling: Any = "cls", **settings: Any) -> Path:
    """A modular cross-encoder with the reranker.json that describes it."""
    encoder_folder(directory, **settings)
    names = add_modules(directory, POOLINGS[pooling], modules)
    head = Head.dense(pooling, names)
    write_spec(ModelSpec(name="modular", template=Template.pair(), head=head, max_length=512), directory)
    return directory


def scores(directory: Path, documents: Sequence[str] = DOCUMENTS, **options: Any) -> list[float]:
    return rerank_core.load(str(directory), device="cpu", **options).rerank(QUERIES[0], list(documents)).scores()


def theirs(directory: Path, documents: Sequence[str] = DOCUMENTS) -> list[float]:
    """sentence-transformers' scores, one pair at a time."""
    library = pytest.importorskip("sentence_transformers", reason="its scores are compared with ours")
    model = library.CrossEncoder(str(directory), device="cpu", max_length=512)
    return [float(model.predict([(QUERIES[0], document)], convert_to_tensor=True)[0]) for document in documents]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", ["modernbert", "bert"])
def test_an_ettin_head_scores_as_in_sentence_transformers(family: str, pooling: str, tmp_path: Path) -> None:
    """Each pooling, rows packed and padded; short, empty and duplicate documents, and a long one cut at 512 tokens."""
    directory = folder(tmp_path, ETTIN, pooling, family=family)
    documents = (*DOCUMENTS, DOCUMENTS[0], LONG)
    expected = theirs(directory, documents)
    loaded = rerank_core.load(str(directory), device="cpu", longdoc="firstp")
    found = loaded.rerank(QUERIES[0], documents).scores()

    assert max(expected) - min(expected) > 0.1
    assert loaded.scorer.packed
    assert_close(expected, found)
    loaded.scorer.packed = False
    assert_close(expected, loaded.rerank(QUERIES[0], documents).scores())


@pytest.mark.parametrize(
    "modules",
    [
        (dense(WIDTH, 1),),
        (dense(WIDTH, 1, "Sigmoid", bias=False),),
        (dense(WIDTH, 8, "Tanh"), dense(8, 16, "SiLU", use_residual=True), dense(16, 1)),
        (NORM, ("Dropout", {"dropout": 0.5}), ("Normalize", {}), dense(WIDTH, 1, "ReLU", use_residual=True)),
        (dense(WIDTH, 6, "ELU"), dense(6, 6, "LeakyReLU"), dense(6, 6, "Mish"), dense(6, 6, "Softsign"), dense(6, 1)),
        (dense(WIDTH, 6, "ReLU6"), dense(6, 6, "SELU"), dense(6, 1, "Softplus")),
    ],
    ids=lambda modules: "-".join(kind for kind, _ in modules),
)
def test_modules_score_as_in_sentence_transformers(modules: Any, tmp_path: Path) -> None:
    """Dense with and without bias and residual, LayerNorm, Dropout and Normalize; each activation that is known."""
    directory = folder(tmp_path, modules, "mean", family="bert")

    assert_close(theirs(directory), scores(directory))


def decoder(directory: Path, template: Template) -> Path:
    """A causal model with a Dense over its last token."""
    rerank_core.testing.tiny_causal_lm(directory, "qwen2")
    width = json.loads((directory / "config.json").read_text("utf-8"))["hidden_size"]
    names = add_modules(directory, "lasttoken", [dense(width, 8, "Tanh"), dense(8, 1)])
    write(directory / "1_Pooling", {"embedding_dimension": width, "pooling_mode": "lasttoken"})
    write_spec(ModelSpec(name="causal", template=template, head=Head.dense("last", names), max_length=512), directory)
    return directory


def test_a_decoder_with_layers_shares_its_prefix(tmp_path: Path) -> None:
    """The last token of a causal model: packed rows behind the shared prefix, the scores of plain transformers."""
    template = Template(before="{bos}", query="Q: {query}", between="\n", doc="D: {doc}", after="\n?")
    directory = decoder(tmp_path, template)
    from transformers import AutoModel, AutoTokenizer

    loaded = rerank_core.load(str(directory), device="cpu")
    auto: Any = AutoModel
    model, tokenizer = auto.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    stack, expected = loaded.scorer.score_head.stack, []
    for document in DOCUMENTS:
        pieces = [tokenizer.bos_token or "", f"Q: {QUERIES[0]}", "\n", f"D: {document}", "\n?"]
        ids = [id_ for piece in pieces if piece for id_ in tokenizer.encode(piece, add_special_tokens=False)]
        with torch.inference_mode():
            expected.append(float(stack(model(torch.tensor([ids])).last_hidden_state[:, -1])))

    assert (loaded.scorer.layout, loaded.scorer.packed) == ("prefix", True)
    assert max(expected) - min(expected) > 0.1
    assert_close(expected, loaded.rerank(QUERIES[0], list(DOCUMENTS)).scores())
    loaded.scorer.packed = False
    assert_close(expected, loaded.rerank(QUERIES[0], list(DOCUMENTS)).scores())


def test_a_decoder_with_layers_scores_pairs_as_sentence_transformers(tmp_path: Path) -> None:
    """The tokenizer's pair layout, without any text around."""
    directory = decoder(tmp_path, Template.pair())
    documents = tuple(document for document in DOCUMENTS if document)

    assert_close(theirs(directory, documents), scores(directory, documents))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_folder_is_recognised_without_a_reranker_json(pooling: str, tmp_path: Path) -> None:
    """modules.json alone gives the same head, and so the same scores."""
    directory = folder(tmp_path, (*ETTIN[:2], ("Dropout", {"dropout": 0.1}), ETTIN[2]), pooling)
    expected = scores(directory)
    (directory / "reranker.json").unlink()

    assert_close(expected, scores(directory))
    assert_close(theirs(directory), scores(directory))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_other_precisions_stay_near(dtype: str, tmp_path: Path) -> None:
    """Packed rows in each of them; the layers of the head compute in float32."""
    directory = folder(tmp_path, ETTIN, std=0.1)
    expected, loaded = scores(directory), rerank_core.load(str(directory), device="cpu", dtype=dtype)

    assert loaded.scorer.packed
    assert loaded.rerank(QUERIES[0], list(DOCUMENTS)).scores() == pytest.approx(expected, abs=0.05)


def broken(directory: Path, **changes: Any) -> Path:
    """The config of the first module with changes; a value None removes a setting."""
    file = directory / "2_Dense" / "config.json"
    settings = json.loads(file.read_text("utf-8")) | changes
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}), "utf-8")
    return directory


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_function": "torch.nn.modules.activation.GLU"}, "activation_function"),
        ({"activation_function": "os.system"}, "activation_function"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"module_output_name": "other"}, "reads 'sentence_embedding'.*writes 'other'"),
        ({"in_features": 31}, "in_features"),
        ({"out_features": 31}, "out_features"),
        ({"bias": True}, "bias"),
        ({"in_features": None}, "none of the modules"),
    ],
)
def test_modules_that_are_not_understood_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """An unknown activation, another input, sizes that do not fit: a CheckpointError, not other scores."""
    directory = broken(folder(tmp_path, ETTIN), **changes)
    with pytest.raises(CheckpointError, match=said):
        rerank_core.load(str(directory), device="cpu")


def test_modules_without_safetensors_are_refused_with_advice(tmp_path: Path) -> None:
    """A pickled module is not opened; the message says how to convert it."""
    for name in ("2_Dense", "3_LayerNorm"):
        directory = folder(tmp_path / name, ETTIN)
        (directory / name / "model.safetensors").rename(directory / name / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=rf"{name}.*safetensors(.|\n)*save_file"):
            rerank_core.load(str(directory), device="cpu")


def test_a_stack_that_ends_in_several_numbers_is_refused(tmp_path: Path) -> None:
    """A score is one number."""
    directory = folder(tmp_path, (dense(WIDTH, 3),))
    with pytest.raises(CheckpointError, match="end in 3 numbers"):
        rerank_core.load(str(directory), device="cpu")


def test_names_outside_the_folder_are_refused(tmp_path: Path) -> None:
    """A module's folder is inside the checkpoint."""
    directory = folder(tmp_path / "model", (dense(WIDTH, 1),))
    spec = ModelSpec(name="modular", head=Head.dense("cls", ["../model/2_Dense"]))
    write_spec(spec, directory)
    with pytest.raises(CheckpointError, match="inside its own folder"):
        rerank_core.load(str(directory), device="cpu")


@pytest.mark.parametrize("wrong", [{"modules": ()}, {"modules": "2_Dense"}, {"modules": ("",)}, {"pooling": "max"}])
def test_heads_with_wrong_modules_are_refused(wrong: dict[str, Any]) -> None:
    """At least one folder name, and a pooling that is known."""
    with pytest.raises(InputError, match=r"Head\.(dense|pooling)"):
        Head.dense(**{"pooling": "cls", "modules": ("2_Dense",), **wrong})
    with pytest.raises(InputError, match="takes no modules"):
        Head("classifier", modules=("2_Dense",))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> rerank_core.Reranker:
    """A tiny ettin reranker."""
    directory = folder(tmp_path_factory.mktemp("ettin"), ETTIN)
    return rerank_core.load(str(directory), device="cpu", max_length=64)


class TestDense(ScorerConformance):
    """The conformance suite over a Dense head."""
