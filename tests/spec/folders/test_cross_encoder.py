"""The spec of a CrossEncoder folder says all that the folder says; any other setting is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError, Head, ModelSpec, Template
from rerank_core.spec.folders.cross_encoder import spec_of_cross_encoder

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def folder(
    path: Path,
    *,
    config: Mapping[str, Any] | None = None,
    saved: Mapping[str, Any] | None = None,
    transformer: Mapping[str, Any] | None = None,
    modules: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """A folder's settings without weights.

    Args:
        config, saved, transformer: changes in config.json, config_sentence_transformers.json and
            sentence_bert_config.json.
        modules: by class name, the settings of each module after the Transformer.
    """
    architecture = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    files: dict[str, Any] = {
        "config.json": {**architecture, "max_position_embeddings": 512, **(config or {})},
        "config_sentence_transformers.json": {
            "model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None, "activation_fn": IDENTITY,
            **(saved or {}),
        },
        "sentence_bert_config.json": {"transformer_task": "sequence-classification", **(transformer or {})},
    }  # fmt: skip
    entries: list[dict[str, Any]] = [TRANSFORMER]
    for at, (kind, settings) in enumerate((modules or {}).items(), 1):
        (path / f"{at}_{kind}").mkdir()
        files[f"{at}_{kind}/config.json"] = settings
        entries.append({"idx": at, "name": str(at), "path": f"{at}_{kind}", "type": f"sentence_transformers.x.{kind}"})
    for name, content in {**files, "modules.json": entries}.items():
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    return path


def spec_of(path: Path, **changes: Any) -> ModelSpec:
    spec = spec_of_cross_encoder(folder(path, **changes))
    assert spec is not None
    return spec


def test_other_folders_are_no_cross_encoders(tmp_path: Path) -> None:
    """Bi-encoders and multi-vector models, folders of transformers alone, and those with a reranker.json."""
    for kind in ("SentenceTransformer", "MultiVectorEncoder", None):
        (tmp_path / str(kind)).mkdir()
        assert spec_of_cross_encoder(folder(tmp_path / str(kind), saved={"model_type": kind})) is None
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}', encoding="utf-8")
    assert spec_of_cross_encoder(plain) is None
    (tmp_path / "own").mkdir()
    (folder(tmp_path / "own") / "reranker.json").write_text("{}", encoding="utf-8")
    assert spec_of_cross_encoder(tmp_path / "own") is None


@pytest.mark.parametrize(
    ("saved", "config", "activation"),
    [
        ({"activation_fn": SIGMOID}, {}, "sigmoid"),
        ({"activation_fn": IDENTITY}, {"sbert_ce_default_activation_function": SIGMOID}, "none"),
        ({"activation_fn": None}, {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1"}}, "none"),
        ({"activation_fn": None}, {"sbert_ce_default_activation_function": IDENTITY}, "none"),
        ({"activation_fn": None}, {}, "sigmoid"),
        ({"activation_fn": SIGMOID}, {"id2label": {"0": "no", "1": "yes"}}, "none"),
    ],
)
def test_the_newest_place_names_the_activation(
    saved: dict[str, Any], config: dict[str, Any], activation: str, tmp_path: Path
) -> None:
    """Where no place names one, it is sentence-transformers' own: a sigmoid for a single label."""
    assert spec_of(tmp_path, saved=saved, config=config).activation == activation


@pytest.mark.parametrize(
    "settings",
    [
        {"sbert_ce_default_activation_function": IDENTITY},
        {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}},
    ],
)
def test_folders_of_older_releases(settings: dict[str, Any], tmp_path: Path) -> None:
    """Before 5.4 a CrossEncoder is a folder of transformers with one more setting in config.json."""
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}, **settings}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    spec = spec_of_cross_encoder(tmp_path)

    assert spec is not None
    assert (spec.activation, spec.head, spec.template.wrap) == ("none", Head.classifier(), "pair")


def test_prompts_are_an_option(tmp_path: Path) -> None:
    """The default prompt is the default; null is no prompt."""
    spec = spec_of(tmp_path, saved={"prompts": {"task": "find: ", "none": None}, "default_prompt_name": "task"})

    (option,) = spec.options
    assert (option.name, option.default, option.when) == ("instruction", "find: ", "call")
    assert spec.template == Template.pair(query="{instruction}{query}")


def test_settings_of_the_transformer(tmp_path: Path) -> None:
    """The chat template with its format and variables, and the shortest of several limits by rank."""
    spec = spec_of(
        tmp_path,
        transformer={
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "logits"},
                "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
            },
            "module_output_name": "scores",
            "processing_kwargs": {
                "text": {"max_length": 300, "truncation": True},
                "chat_template": {"add_generation_prompt": True, "restore_suffix": True},
            },
            "max_seq_length": 200,
            "unpad_inputs": False,
            "model_args": {"torch_dtype": "float16"},
        },
    )

    assert spec.template == Template.chat("flat", {"add_generation_prompt": True})
    assert spec.max_length == 300


def test_a_score_of_two_tokens(tmp_path: Path) -> None:
    """LogitScore names tokens by id."""
    language_model = {"transformer_task": "text-generation"}
    for number, false in enumerate((5, None)):
        path = tmp_path / str(number)
        path.mkdir()
        score = {"true_token_id": 0, "false_token_id": false, "module_input_name": "causal_logits"}
        assert spec_of(path, transformer=language_model, modules={"LogitScore": score}).head == Head.last_token(
            0, false
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"saved": {"truncate_dim": 5}}, "truncate_dim is 5"),
        ({"saved": {"default_prompt_name": "task"}}, "default_prompt_name is 'task'"),
        ({"saved": {"prompts": {"task": 5}}}, "task is 5"),
        ({"saved": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "activation_fn is .*Tanh"),
        ({"saved": {"activation_fn": "modeling.Own"}}, r"activation_fn is .*modeling\.Own"),
        ({"transformer": {"surprise": 1}}, "surprise is 1"),
        ({"transformer": {"transformer_task": "any-to-any"}}, "transformer_task is 'any-to-any'"),
        ({"transformer": {"do_lower_case": True}}, "do_lower_case is True"),
        ({"transformer": {"tokenizer_name_or_path": "other/one"}}, "tokenizer_name_or_path is 'other/one'"),
        ({"transformer": {"processor_kwargs": {"chat_template": "x"}}}, "processor_kwargs.chat_template is 'x'"),
        ({"transformer": {"config_kwargs": {"num_labels": 3}}}, "config_kwargs.num_labels is 3"),
        ({"transformer": {"processing_kwargs": {"text": {"add_special_tokens": False}}}}, "text.add_special_tokens"),
        ({"transformer": {"processing_kwargs": {"other": {"x": 1}}}}, "processing_kwargs.other is"),
        (
            {"transformer": {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler"}}}},
            "reads 'pooler'",
        ),
        ({"transformer": {"modality_config": {"image": {"method": "forward"}}}}, "must have text or message"),
        (
            {"transformer": {"modality_config": {"message": {"method": "forward", "format": "odd"}}}},
            "format of message is 'odd'",
        ),
        ({"transformer": {"transformer_task": "text-generation"}}, "no module that makes a score"),
        ({"modules": {"Router": {}}}, r"\['Router'\]"),
        ({"modules": {"LogitScore": {"true_token_id": 3}}}, "LogitScore reads a language model"),
        ({"config": {"architectures": ["BertModel"]}}, "score head would be random"),
    ],
)
def test_a_setting_that_is_not_understood_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The message names the file and the setting."""
    with pytest.raises(CheckpointError, match=said):
        spec_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ({"true_token_id": -1}, "true_token_id is -1"),
        ({"true_token_id": True}, "true_token_id"),
        ({"true_token_id": 3, "false_token_id": "no"}, "false_token_id"),
        ({"true_token_id": 3, "module_input_name": "scores"}, "module_input_name is 'scores'"),
        ({"true_token_id": 3, "temperature": 5}, "temperature is a setting"),
    ],
)
def test_a_logit_score_that_is_not_understood_is_refused(score: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Its ids are numbers of tokens, and it has no other settings."""
    with pytest.raises(CheckpointError, match=said):
        spec_of(tmp_path, transformer={"transformer_task": "text-generation"}, modules={"LogitScore": score})


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "lists no modules"),
        ([{"type": "custom_st.Transformer", "path": ""}], "code of the model's authors"),
        ([{"type": "sentence_transformers_own.Transformer", "path": ""}], "code of the model's authors"),
        ([{**TRANSFORMER, "path": "0_Transformer"}], "move them to the folder itself"),
        ([{**TRANSFORMER, "kwargs": ["task"]}], "kwargs"),
        ([TRANSFORMER, {"type": "sentence_transformers.x.Dense", "path": "../other"}], "inside its own folder"),
        ([TRANSFORMER, {"type": "sentence_transformers.x.Dense", "path": "2_Dense"}], "is missing"),
    ],
)
def test_modules_that_are_not_understood_are_refused(entries: list[Any], said: str, tmp_path: Path) -> None:
    """Code of the authors, and files elsewhere."""
    folder(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(entries), encoding="utf-8")

    with pytest.raises(CheckpointError, match=said):
        spec_of_cross_encoder(tmp_path)
