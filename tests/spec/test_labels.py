"""Which label of a classifier is its score: by the names in config.json, by the option, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError, Head, InputError, write_spec
from rerank_core.spec.labels import classifier_head, label_index, labels_of
from rerank_core.spec.reranker_json import read_spec
from rerank_core.spec.untrusted_files import JsonObject
from rerank_core.testing import fake_spec


def config(*labels: Any, **more: Any) -> JsonObject:
    """The settings of a classifier with these labels."""
    return JsonObject({"id2label": {str(at): label for at, label in enumerate(labels)}, **more}, Path("config.json"))


@pytest.mark.parametrize(
    ("labels", "relevant"),
    [
        (("no", "yes"), "yes"),
        (("Yes", "No"), "Yes"),
        (("irrelevant", "relevant"), "relevant"),
        (("not_relevant", "relevant"), "relevant"),
        (("Not Relevant", "Relevant"), "Relevant"),
        (("NON-RELEVANT", "RELEVANT"), "RELEVANT"),
        (("false", "true"), "true"),
        (("不相关", "相关"), "相关"),
        (("相关", "不相关"), "相关"),
        (("否", "是"), "是"),
        (("negative", "positive"), None),
        (("contradiction", "entailment"), None),
        (("LABEL_0", "LABEL_1"), None),
        (("0", "1"), None),
        (("yes", "relevant"), None),
        (("no", "maybe", "yes"), None),
    ],
)
def test_names_of_two_labels_say_which_is_relevant(labels: tuple[str, ...], relevant: str | None) -> None:
    """Those of rerankers do, in either order; those of sentiment, inference or no names at all do not."""
    assert classifier_head(config(*labels)) == Head.classifier(labels=labels, label=relevant)


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("label 0", "label 1"), ("0", "1")])
def test_of_two_numbered_labels_a_reranker_scores_the_second(labels: tuple[str, ...]) -> None:
    """A folder that says CrossEncoder has the second label as its score; named labels keep their meaning."""
    assert classifier_head(config(*labels), cross_encoder=True).label == labels[1]
    assert classifier_head(config("negative", "positive"), cross_encoder=True).label is None
    assert classifier_head(config("LABEL_1", "LABEL_0"), cross_encoder=True).label is None
    assert classifier_head(config("LABEL_0", "LABEL_1", "LABEL_2"), cross_encoder=True).label is None


def test_one_label_is_a_single_logit_whatever_its_name() -> None:
    """It needs no option; a config that counts its labels gives transformers' names."""
    assert classifier_head(config("positive")) == Head.classifier()
    assert classifier_head(JsonObject({"num_labels": 1}, Path("config.json"))) == Head.classifier()
    assert labels_of(JsonObject({"num_labels": 3}, Path("config.json"))) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels_of(JsonObject({}, Path("config.json"))) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"id2label": {}}, "0 labels"),
        ({"id2label": {str(number): f"x{number}" for number in range(1001)}}, "1001 labels"),
        ({"id2label": {"0": "a", "2": "b"}}, "from 0 to 1"),
        ({"id2label": {"0": "a", "1": "a"}}, "different names"),
        ({"id2label": {"0": "a", "1": 3}}, "must be a string"),
        ({"id2label": ["a", "b"]}, "must be an object"),
        ({"num_labels": 10**9}, "1 to 1000"),
        ({"num_labels": 0}, "1 to 1000"),
        ({"num_labels": "2"}, "must be an integer"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(settings: dict[str, Any], said: str) -> None:
    """An untrusted config is a CheckpointError that names the file."""
    with pytest.raises(CheckpointError, match=said) as caught:
        classifier_head(JsonObject(settings, Path("config.json")))
    assert "config.json" in str(caught.value)


def test_the_option_takes_a_name_or_a_number() -> None:
    """A name goes before a number; the head's own label is the default."""
    head = Head.classifier(labels=("1", "0", "both"), label="both")

    assert [label_index(head, value, "m") for value in ("1", "0", "2", "both", None)] == [0, 1, 2, 2, 2]
    assert label_index(Head.classifier(), None, "m") == 0


@pytest.mark.parametrize("value", ["neutral", "3", "-1", "９", "9" * 50, ""])
def test_an_unknown_label_is_refused_with_the_list(value: str) -> None:
    """The message has every label with its number."""
    head = Head.classifier(labels=("contradiction", "entailment", "other"))
    with pytest.raises(InputError, match=r"0: 'contradiction', 1: 'entailment', 2: 'other'"):
        label_index(head, value, "m")


def test_a_missing_label_is_refused_with_advice() -> None:
    """The message lists the labels, at most twenty, and says label=."""
    with pytest.raises(InputError, match=r"0: 'negative', 1: 'positive'.*label='positive'"):
        label_index(Head.classifier(labels=("negative", "positive")), None, "m")
    with pytest.raises(InputError, match=r"19: 'x19', and 480 more\)"):
        label_index(Head.classifier(labels=tuple(f"x{number}" for number in range(500))), None, "m")


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": "yes"},
        {"labels": ("a", "a")},
        {"labels": ("a", 1)},
        {"labels": ("a", "")},
        {"labels": tuple(map(str, range(1001)))},
        {"labels": ("a", "b"), "label": "c"},
        {"labels": ("a",), "label": "a"},
        {"label": "a"},
    ],
)
def test_heads_with_wrong_labels_are_refused(wrong: dict[str, Any]) -> None:
    """Labels are different names, and the default is one of several."""
    with pytest.raises(InputError, match=r"Head\.classifier\(label"):
        Head.classifier(**wrong)


def test_only_several_labels_bring_the_option() -> None:
    """A spec with several labels has the load-time option `label`, whose default is the head's; others have none."""
    (option,) = fake_spec(head=Head.classifier(labels=("no", "yes"), label="yes")).options

    assert (option.name, option.when, option.default) == ("label", "load", "yes")
    assert option.check(1) == "1"
    assert "['no', 'yes']" in option.help
    assert fake_spec(head=Head.classifier(labels=("score",))).options == ()


def test_labels_travel_through_reranker_json(tmp_path: Path) -> None:
    """The head is read as it was written, and so is its option."""
    spec = fake_spec(head=Head.classifier(labels=("no", "yes"), label="yes"))
    write_spec(spec, tmp_path)
    read = read_spec(tmp_path, lambda name: spec)

    assert (read.head, read.options) == (spec.head, spec.options)
    assert json.loads((tmp_path / "reranker.json").read_text("utf-8"))["head"]["labels"] == ["no", "yes"]
