"""Folders of sentence-transformers' MultiVectorEncoder, and odd ones of PyLate, score as there, or are refused.

`make parity` compares more texts, on folders that PyLate saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import CheckpointError
from rerank_core.testing import tiny_encoder

QUERIES = ("what do pandas eat?", "a bear, a bird")
DOCS = ("Pandas eat bamboo, for most of the day.", "paris", "a bear, a bear; a bird?")
FIXED = {"strategy": "fixed", "length": 24}
Save = Callable[..., Path]


def opened(folder: Path) -> Any:
    """The folder in sentence-transformers."""
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(str(folder), device="cpu")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A folder that sentence-transformers saves, with other settings written over its own, by file."""
    pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    def saved(order: str = "DMN", files: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Path:
        torch.manual_seed(3)
        body = Transformer(str(tiny_encoder(tmp_path / "tiny", "bert")), max_seq_length=64)
        made = {
            "D": Dense(
                32, 8, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
            ),
            "M": MultiVectorMask(skiplist_words=[",", "?"]),
            "N": Normalize(module_input_name="token_embeddings"),
        }
        model: Any = MultiVectorEncoder(modules=[body, *(made[letter] for letter in order)], device="cpu", **settings)
        folder = tmp_path / "saved"
        model.save_pretrained(str(folder), create_model_card=False)
        for name, values in (files or {}).items():
            change(folder / name, **values)
        return folder

    return saved


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), encoding="utf-8")


def assert_equal(folder: Path) -> None:
    """Each text alone, because padding has a vector in some releases there."""
    theirs = opened(folder)
    documents = [theirs.encode_document([doc])[0] for doc in DOCS]
    ours = rerank_core.load(folder, device="cpu", parse_special_tokens=True)
    for query in QUERIES:
        (vectors,) = theirs.encode_query([query])
        expected = [float(theirs.similarity([vectors], [document])[0][0]) for document in documents]
        assert max(expected) - min(expected) > 1e-2
        assert ours.rerank(query, DOCS).scores() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("2_MultiVectorMask", {"skiplist_tasks": []}),
        ("2_MultiVectorMask", {"skiplist_tasks": "document"}),
        ("2_MultiVectorMask", {"skiplist_tasks": ["query", "document"]}),
        ("sentence_bert_config.json", {"query_expansion": FIXED}),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min", "length": 9, "attend": True}}),
        ("config_sentence_transformers.json", {"prompts": {"query": "the ", "document": "", "passage": "of "}}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "meanmaxsim"}),
        ("config_sentence_transformers.json", {"query_prefix": "the ", "document_prefix": "of "}),
        ("config_sentence_transformers.json", {"document_prefix": "of ", "query_expansion": None}),
    ],
    ids=str,
)
def test_settings_are_followed(save: Save, file: str, values: dict[str, Any]) -> None:
    name = file if file.endswith(".json") else f"{file}/config.json"
    assert_equal(save(files={name: values}))


@pytest.mark.parametrize("order", ["DMN", "DM", "MN", "DN"])
def test_modules_are_followed(save: Save, order: str) -> None:
    """Without a layer, a mask or a scale."""
    assert_equal(save(order))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Dense/config.json", {"module_output_name": "x"}, "makes 'x' of 'token_embeddings'"),
        ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "of 'sentence_embedding'"),
        ("1_Dense/config.json", {"in_features": 5}, "in_features is 5"),
        ("1_Dense/config.json", {"activation_function": "own.Identity"}, "activation_function is 'own.Identity'"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["query"]}, "in queries alone"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "keep_only_token_ids"),
        ("3_Normalize/config.json", {"module_input_name": "sentence_embedding"}, "this Normalize makes"),
        ("3_Normalize/config.json", {"module_output_name": "x"}, "this Normalize makes 'x'"),
        ("sentence_bert_config.json", {"query_expansion": {**FIXED, "strategy": "all"}}, "strategy .* is 'all'"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "fixed"}}, "length .* is 0"),
        ("sentence_bert_config.json", {"query_expansion": {**FIXED, "more": 1}}, "'more'"),
        ("sentence_bert_config.json", {"query_expansion": {**FIXED, "attend": "yes"}}, "attend is 'yes'"),
        ("sentence_bert_config.json", {"surprise": 1}, "surprise"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"add_special_tokens": False}}}, "add_special"),
        ("sentence_bert_config.json", {"config_kwargs": {"num_hidden_layers": 1}}, "num_hidden_layers"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "other"}, "tokenizer_name_or_path"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused(save: Save, file: str, values: dict[str, Any], message: str) -> None:
    """Nothing is scored without the setting that the message names."""
    with pytest.raises(CheckpointError, match=message):
        rerank_core.load(save(files={file: values}), device="cpu")


@pytest.mark.parametrize("order", ["NDM", "NDMN", "DMMN"])
def test_modules_in_another_order_are_refused(save: Save, order: str) -> None:
    """A scale before the layer gives other vectors; a second mask skips more tokens."""
    with pytest.raises(CheckpointError, match=r"Normalize before a Dense|second MultiVectorMask"):
        rerank_core.load(save(order), device="cpu")


@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        (0, {"type": "own.Transformer"}, "never run"),
        (1, {"type": "own.Dense"}, "never run"),
        (2, {"name": "1"}, "two modules have the name '1'"),
        (1, {"kwargs": ["task"]}, "kwargs"),
    ],
)
def test_modules_of_others_are_refused(save: Save, module: int, values: dict[str, Any], message: str) -> None:
    """A class of the authors is no Dense because it has that name."""
    folder = save()
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules[module] |= values
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        rerank_core.load(folder, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"query_expansion": None},
        {"query_expansion": {"strategy": "min", "length": 16, "attend": True}},
        {"attend_to_mask_tokens": True},
        {"query_prefix": "the ", "document_prefix": "of ", "prompts": {"query": "the ", "document": "of a"}},
        {"similarity_fn_name": "meanmaxsim"},
    ],
    ids=str,
)
def test_pylates_folders_with_settings_of_sentence_transformers(
    pylate: Callable[..., Path], settings: dict[str, Any]
) -> None:
    """Such as those that were converted, or saved again."""
    pytest.importorskip("sentence_transformers")
    assert_equal(pylate(**settings))
