"""Code of a model's authors is never run, so a folder is refused unless transformers' own class equals it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForSequenceClassification

import rerank_core
from rerank_core import CheckpointError, Head, ModelSpec, Template, write_spec
from rerank_core.backends.custom_code import EQUAL, check_model_code
from rerank_core.spec import JsonObject
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer

PAIR = [("what do pandas eat?", "pandas eat bamboo")]
CLASSIFIER = {"AutoModelForSequenceClassification": "modeling.MeanPooledForSequenceClassification"}
BIDIRECTIONAL = {"AutoModelForCausalLM": "owner/code--modeling_qwen.Qwen3ForCausalLM"}


def change(folder: Path, file: str = "config.json", **values: object) -> Path:
    """Change settings in one of a folder's files."""
    settings = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**settings, **values}), encoding="utf-8")
    return folder


def refused(name: str | Path, **options: Any) -> str:
    """The message with which loading fails."""
    with pytest.raises(CheckpointError) as caught:
        rerank_core.load(name, device="cpu", **options)
    message = str(caught.value)
    assert "trust_remote_code" not in message
    assert "delete auto_map" in message.lower() or "upgrade transformers" in message.lower()
    return message


@pytest.fixture
def copy(made: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made("bert"), tmp_path / "copy"))


def test_a_class_of_the_authors_is_refused_by_path(copy: Path) -> None:
    """A sequence classifier of their own is not replaced by transformers' one of the same type."""
    assert "MeanPooledForSequenceClassification" in refused(change(copy, auto_map=CLASSIFIER))


def test_a_class_of_the_authors_is_refused_under_a_reranker_json(tmp_path: Path) -> None:
    """The spec in the folder says template and head, and not that the network is another one."""
    folder = tiny_causal_lm(tmp_path / "model", "qwen3")
    write_spec(
        ModelSpec(name="own", template=Template(before="q", between="d"), head=Head.last_token("yes", "no")), folder
    )
    assert rerank_core.load(folder, device="cpu").score(PAIR)

    assert "modeling_qwen.Qwen3ForCausalLM" in refused(change(folder, auto_map=BIDIRECTIONAL))


def test_a_class_of_the_authors_is_refused_under_a_name(tmp_path: Path) -> None:
    """checkpoint= gives a named model other weights, and not another network."""
    folder = tiny_causal_lm(tmp_path / "model", "qwen3")

    assert "Qwen3ForCausalLM" in refused("qwen3-reranker-0.6b", checkpoint=change(folder, auto_map=BIDIRECTIONAL))


def test_a_class_of_the_authors_is_refused_in_an_encoder(tmp_path: Path) -> None:
    """An embedder's token vectors come from its own class too."""
    folder = tiny_encoder(tmp_path / "model", "bert")
    write_spec(ModelSpec(name="own", template=Template.each(), head=Head.cosine()), folder)

    assert "modeling.Model" in refused(change(folder, auto_map={"AutoModel": "modeling.Model"}))


@pytest.mark.parametrize(
    "architecture", ["MeanPooledForSequenceClassification", "BertForSequenceClassificationWithMean"]
)
def test_an_architecture_that_transformers_lacks_is_refused(copy: Path, architecture: str) -> None:
    """Without auto_map too, the name of a class that does not exist is not read as the stock class."""
    folder = change(copy, architectures=[architecture])
    write_spec(ModelSpec(name="own", head=Head.classifier()), folder)

    assert architecture in refused(folder)


def test_a_tokenizer_of_the_authors_is_refused(copy: Path) -> None:
    """A tokenizer class may add tokens that tokenizer.json does not have."""
    classes = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizerFast"]}
    assert "OwnTokenizerFast" in refused(change(copy, "tokenizer_config.json", auto_map=classes))

    change(copy, "tokenizer_config.json", auto_map=None)
    assert "OwnTokenizerFast" in refused(change(copy, auto_map=classes))


@pytest.mark.parametrize("value", [5, {"AutoModel": 5}, {"AutoModel": [["x"]]}])
def test_an_auto_map_that_names_no_classes_is_refused(copy: Path, value: object) -> None:
    """Damaged settings are an error of the folder."""
    with pytest.raises(CheckpointError, match="auto_map"):
        rerank_core.load(change(copy, auto_map=value), device="cpu")


def test_a_class_of_a_nested_model_is_refused() -> None:
    """text_config may name code too."""
    own = {"AutoModel": "m.Own"}
    for nested in (
        {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "auto_map": own}},
        {"model_type": "t5gemma", "encoder": {"model_type": "t5_gemma_module", "auto_map": own}},
    ):
        with pytest.raises(CheckpointError, match=r"m\.Own"):
            check_model_code(JsonObject(nested, Path("config.json")), CONFIG_MAPPING, lambda name: True)


# The authors' classes of published checkpoints, with their types.
PUBLISHED = [
    ("gte", "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification"),
    ("gte", "modeling_hf_alibaba_nlp_gte.GteModel"),
    ("eurobert", "modeling_eurobert.EuroBertForSequenceClassification"),
    ("qwen3", "modeling_zeranker.ZEConfig"),
]


@pytest.mark.parametrize(("kind", "reference"), PUBLISHED)
def test_code_that_transformers_equals_is_accepted(kind: str, reference: str) -> None:
    """Each entry of the table accepts the published class for its own type only."""
    settings = {"model_type": kind, "auto_map": {"AutoModel": reference}}
    check_model_code(JsonObject(settings, Path("config.json")), CONFIG_MAPPING, lambda name: True)

    other = JsonObject({**settings, "model_type": "bert"}, Path("config.json"))
    with pytest.raises(CheckpointError, match="never run"):
        check_model_code(other, CONFIG_MAPPING, lambda name: True)


def test_the_table_has_types_that_transformers_has() -> None:
    """An entry for a type that is never loaded would be dead; `new` is read as gte."""
    types = {kind for port in EQUAL for kind in port.types}

    assert types - set(CONFIG_MAPPING) == {"new"}
    assert types - {"new"} == {kind for kind, _ in PUBLISHED}
    assert all(port.why for port in EQUAL)


def test_a_folder_with_code_that_transformers_equals_loads(tmp_path: Path) -> None:
    """Its scores are those of transformers' class."""
    size = len(tiny_tokenizer("bert").get_vocab())
    tiny_cross_encoder(tmp_path, "bert")
    config = AutoConfig.for_model(
        "eurobert", vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_labels=1, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    plain = rerank_core.load(tmp_path, device="cpu").score(PAIR)
    change(tmp_path, auto_map={"AutoModel": "modeling_eurobert.EuroBertModel"})

    assert rerank_core.load(tmp_path, device="cpu").score(PAIR) == plain
