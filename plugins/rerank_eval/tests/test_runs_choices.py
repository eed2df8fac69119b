"""The value of ``--model``: a model, its options, its label."""

from __future__ import annotations

import pytest

from rerank_core import InputError
from rerank_eval.runs.model_choice import ModelChoice, choices_of


@pytest.mark.parametrize(
    ("text", "source", "options", "label"),
    [
        ("mini", "mini", {}, ""),
        ("BAAI/bge-reranker-base,dtype=float16", "BAAI/bge-reranker-base", {"dtype": "float16"}, ""),
        ("./a, b/lr=3,layer=28", "./a, b/lr=3", {"layer": 28}, ""),
        ('m,cascade={"8": 30, "12": 5},longdoc=firstp', "m", {"cascade": {"8": 30, "12": 5}, "longdoc": "firstp"}, ""),
        ("m,instruction=Find it, all of it", "m", {"instruction": "Find it, all of it"}, ""),
        ('m,instruction="a,b=c",name=x', "m", {"instruction": "a,b=c"}, "x"),
        ("m,url=http://host/v1?a=b", "m", {"url": "http://host/v1?a=b"}, ""),
        ("m,empty=", "m", {"empty": ""}, ""),
        ("m,name=first passage", "m", {}, "first passage"),
    ],
)
def test_options_follow_commas(text: str, source: str, options: dict[str, object], label: str) -> None:
    assert ModelChoice.parse(text) == ModelChoice(source, options, label)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no name"),
        (" ", "there is no name"),
        ("longdoc=firstp", "there is no name"),
        (",longdoc=firstp", "there is no name"),
        ("mini,layer=1,layer=2", "'layer' is given twice for the model 'mini'"),
    ],
)
def test_a_faulty_value_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelChoice.parse(text)


def test_labels_tell_models_apart() -> None:
    """A model that is given once keeps its name; options are added where two have one, and no secret is shown."""
    choices = choices_of(["mini", "api,api_key=abc,n=1", "api,api_key=abc,n=2", "bge,layer=8"], {"device": "cpu"})
    assert [choice.label for choice in choices] == ["mini", "api,api_key=***,n=1", "api,api_key=***,n=2", "bge"]
    assert choices[2].options == {"device": "cpu", "api_key": "abc", "n": 2}
    assert "abc" not in repr(choices)


def test_an_option_of_a_model_replaces_one_for_all() -> None:
    assert choices_of(["a", "b,dtype=int8"], {"dtype": "float32"})[1].options == {"dtype": "int8"}


@pytest.mark.parametrize("texts", [["mini", "mini"], ["a,name=x", "b,name=x"], ["a", "b,name=a"]])
def test_two_models_of_one_label_are_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="is given twice"):
        choices_of(texts, {})


def test_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="no model is given"):
        choices_of([], {})
