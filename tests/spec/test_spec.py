"""Specs are checked when they are written, and travel through reranker.json unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError, Head, InputError, ModelOption, ModelSpec, Template, write_spec
from rerank_core.spec.head_options import truncate_option
from rerank_core.spec.reranker_json import differences, read_spec, spec_of_directory
from rerank_core.testing import fake_spec


def no_base(name: str) -> ModelSpec:
    """A folder that names a base where none is expected."""
    raise AssertionError(name)


@pytest.mark.parametrize(
    "spec",
    [
        fake_spec(),
        fake_spec("colbert-x", template=Template.each(doc="D: {doc}"), head=Head.maxsim("sum"), languages=("zh", "en")),
        fake_spec(activation="sigmoid", longdoc="kmaxp:2", max_query_length=9, license="MIT", description="熊猫"),
        fake_spec(template=Template(before="<s>", query="Q: {query}", between="\n", doc="D: {doc}", after="?")),
        fake_spec(
            template=Template(before=("{bos}", "x"), after=("\n", "{prompt}")), head=Head.last_token("Yes", "No")
        ),
        fake_spec(template=Template(), head=Head.last_token(0, 9454)),
        fake_spec(template=Template(before=("Q {query}", "x"), query="Q {query}", doc="{doc}", order="doc_first")),
        fake_spec(template=Template(), head=Head.layers(first=8, step=2)),
        fake_spec(head=Head.classifier(labels=("irrelevant", "partly", "relevant"))),
    ],
)
def test_spec_round_trips_through_its_file(tmp_path: Path, spec: ModelSpec) -> None:
    """What is written is what is read; the checkpoint becomes the folder."""
    write_spec(spec, tmp_path)
    read = read_spec(tmp_path, no_base)

    assert {**vars(read), "checkpoint": ""} == vars(spec)
    assert read.checkpoint == str(tmp_path)


def test_options_that_the_file_would_lose_are_refused(tmp_path: Path) -> None:
    """``{instruction}`` would be read as text, and another default of truncate_dim would be forgotten."""
    option = ModelOption("instruction", "str", "the prompt", default="query: ", when="call")
    prompted = fake_spec(template=Template.each("{instruction}{query}"), head=Head.cosine("mean"), options=(option,))
    cut = fake_spec(template=Template.each(), head=Head.cosine("mean"), options=(truncate_option(12),))
    for spec, name in ((prompted, "instruction"), (cut, "truncate_dim")):
        with pytest.raises(InputError, match=f"the option '{name}' .* keeps no options.*base="):
            write_spec(spec, tmp_path)
    write_spec(replace(cut, options=()), tmp_path)
    write_spec(prompted, tmp_path, base="acme:acme-small")


def test_native_code_travels_as_a_base_and_never_as_a_path(tmp_path: Path) -> None:
    """A spec with its own scorer needs a base; reading takes the code and options from the installed model."""
    spec = fake_spec("acme-tuned", scorer="acme.model:make", max_length=99, head=None)
    with pytest.raises(InputError, match="base="):
        write_spec(spec, tmp_path)
    write_spec(spec, tmp_path, base="acme:acme-small")
    installed = fake_spec(
        "acme-small", scorer="acme.model:make", options=(ModelOption("layer", "int", "depth", default=8),), revision="1"
    )
    asked: list[str] = []
    read = read_spec(tmp_path, lambda name: asked.append(name) or installed)

    assert asked == ["acme:acme-small"]
    assert (read.name, read.scorer, read.max_length, read.options) == (
        "acme-tuned",
        "acme.model:make",
        99,
        installed.options,
    )
    assert read.revision is None
    assert "acme.model" not in (tmp_path / "reranker.json").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"scorer": "os:system"}, "scorer"),
        ({"head": {"kind": "classifier", "evil": 1}}, "evil"),
        ({"head": {"kind": "magic"}}, "magic"),
        ({"head": None}, "neither a head nor a scorer"),
        ({"max_length": "many"}, "max_length"),
        ({"template": {"query": "no mark"}}, "exactly once"),
        ({"activation": "relu"}, "relu"),
    ],
)
def test_files_that_cannot_be_trusted_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """An unknown version, an unknown key or a bad value is a CheckpointError that names it."""
    path = write_spec(fake_spec(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=said):
        read_spec(tmp_path, no_base)


def test_differences_compare_what_changes_a_score(tmp_path: Path) -> None:
    """A folder contradicts a named spec where template, head, limits or presentation differ; its name may."""
    spec = fake_spec()
    assert differences(spec, tmp_path) == {}
    write_spec(fake_spec("other-name", description="x"), tmp_path)
    assert differences(spec, tmp_path) == {}
    write_spec(fake_spec(max_length=32, activation="sigmoid"), tmp_path)
    assert differences(spec, tmp_path) == {"max_length": (64, 32), "activation": ("none", "sigmoid")}


CONFIG = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}, "max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "neither"),
        ({**CONFIG, "architectures": ["BertModel"]}, "no score head"),
        ({**CONFIG, "architectures": None}, "no score head"),
        ({**CONFIG, "id2label": {}, "num_labels": 1}, "0 labels"),
    ],
)
def test_folders_that_hold_no_reranker_are_refused(tmp_path: Path, config: dict[str, Any] | None, said: str) -> None:
    """A base model, an embedding model or a classifier without labels is never taken for a reranker."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        spec_of_directory(tmp_path, no_base)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 512), (384, 384), (1_000_000_000_000_000_019_884_624_838_656, 512), (1e30, 512)]
)
def test_plain_classifier_folder_gets_a_spec(tmp_path: Path, limit: float | None, expected: int) -> None:
    """A one-label sequence classifier loads by its path; its length limit is the tokenizer's where that is real."""
    folder = tmp_path / "My Reranker_v1.0"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    if limit is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    spec = spec_of_directory(folder, no_base)

    assert (spec.name, spec.max_length, spec.head) == ("my-reranker-v1-0", expected, Head.classifier())


@pytest.mark.parametrize(
    "make",
    [
        lambda: fake_spec("Not Kebab"),
        lambda: fake_spec(head=None),
        lambda: fake_spec(max_length=0),
        lambda: fake_spec(max_length=True),
        lambda: fake_spec(activation="softmax"),
        lambda: fake_spec(head=Head.maxsim()),
        lambda: Head("maxsim"),
        lambda: Head("classifier", reduce="sum"),
        lambda: Head.last_token(True),
        lambda: Head.last_token("Yes", False),
        lambda: Head.last_token(-1),
        lambda: Head.last_token(0, 0),
        lambda: Head.last_token(""),
        lambda: Template(query="query"),
        lambda: Template(doc="{doc} {doc}"),
        lambda: Template(before="[CLS]", wrap="pair"),
        lambda: Template(wrap="both"),  # type: ignore[arg-type]
        lambda: Template(order="query_last"),  # type: ignore[arg-type]
        lambda: Template(order="doc_first", wrap="pair"),
        lambda: Template(query="Q: {query}", after="Query: {query}"),
        lambda: Template(between="{doc}"),
    ],
)
def test_specs_that_cannot_work_are_refused_where_they_are_written(make: Any) -> None:
    """A mistake in a spec is an InputError when the plugin is imported, not when a user loads the model."""
    with pytest.raises(InputError):
        make()


def test_names_include_aliases_and_the_hub_id() -> None:
    """Every exact name, its own first; a package checkpoint is no name."""
    assert fake_spec(aliases=("f", "f"), checkpoint="acme/fake").names == ("fake", "f", "acme/fake")
    assert fake_spec(checkpoint="package:acme/model").names == ("fake",)


def test_defaults_are_values_like_any_other() -> None:
    """A single integer is several where several may be given, in a default too."""
    assert ModelOption("layer", "ints", "which", default=28).default == (28,)
    with pytest.raises(InputError, match="'28'"):
        ModelOption("layer", "ints", "which", default="28")


def test_secrets_show_nowhere() -> None:
    option = ModelOption("key", "str", "of the door", secret=True)
    value = option.check("open sesame")
    assert value == "open sesame"
    assert "sesame" not in repr({"key": value})
    with pytest.raises(InputError) as caught:
        option.check(b"open sesame")
    assert "sesame" not in str(caught.value)
