"""With T5's real tokenizer, rows of monoT5 and RankT5 have the ids of the prompts that their authors tokenize whole."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rerank_core
from helpers.gguf.tokenizers import fields, sentencepiece_pieces
from helpers.plain import QUERIES, TEXTS
from rerank_core import MissingDependencyError, ModelSpec
from rerank_core.backends.literal_frame import LiteralFrame, literal_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.spec.template import RenderedTemplate


def spec_of(name: str) -> ModelSpec:
    return next(spec for spec in rerank_core.models() if spec.name == name)


def available(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.fixture(scope="module")
def sentencepiece() -> Path:
    """T5's ``spiece.model``, from the folder of judged data and real tokenizers."""
    if "RERANK_DATA" not in os.environ:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    return Path(os.environ["RERANK_DATA"]) / "tokenizers" / "t5" / "spiece.model"


@pytest.fixture(scope="module")
def t5(sentencepiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of T5's tokenizer, converted by transformers."""
    from transformers import T5Tokenizer

    model = sentencepiece.read_bytes()
    pieces = [(text, score) for text, score, _ in sentencepiece_pieces(model)]
    normalizer = dict(fields(next(value for number, value in fields(model) if number == 3)))
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in reversed(range(100))]
    made = T5Tokenizer(vocab=[*pieces, *sentinels], _spm_precompiled_charsmap=normalizer[2])
    directory = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(str(directory))
    return directory


@pytest.fixture(scope="module")
def whole(t5: Path) -> Any:
    """transformers' tokenizer, for whole prompts."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(t5))


@pytest.fixture(scope="module")
def frames(t5: Path) -> tuple[TextTokenizer, dict[str, LiteralFrame]]:
    """Our tokenizer, and the layouts of monoT5 and RankT5."""
    tokenizer = TextTokenizer.from_directory(t5)
    templates = {name: spec_of(name).template for name in ("monot5-base", "rankt5-base")}
    wordings = {name: RenderedTemplate.of(template, (), {}, None) for name, template in templates.items()}
    return tokenizer, {name: literal_frame(tokenizer, wording, {}) for name, wording in wordings.items()}


def assert_same_ids(query: str, doc: str, whole: Any, frames: tuple[TextTokenizer, dict[str, LiteralFrame]]) -> None:
    """Our pieces, each tokenized alone, have the ids of the prompts that the authors tokenize as one string."""
    tokenizer, layouts = frames
    asked, read = tokenizer.encode([query], "Query: ")[0], tokenizer.encode([doc], "Document: ")[0]
    for name, prompt in (
        ("monot5-base", f"Query: {query} Document: {doc} Relevant:"),
        ("rankt5-base", f"Query: {query} Document: {doc}"),
    ):
        assert list(layouts[name].row(asked, read, 0, len(read), (0, 0, 0)).ids) == whole(prompt).input_ids


def test_ids_are_those_of_one_string(whole: Any, frames: tuple[TextTokenizer, dict[str, LiteralFrame]]) -> None:
    """A seam lies where a space separates words, so the tokenizer cannot merge across it; odd and empty texts too."""
    for query in (*QUERIES, "Document: Relevant:", " a ", "a\n", "12", "."):
        for doc in TEXTS:
            assert_same_ids(query, doc, whole, frames)


@settings(max_examples=300, deadline=None)
@given(query=st.text(min_size=1, max_size=30), doc=st.text(max_size=60))
def test_ids_of_any_text_are_those_of_one_string(
    query: str, doc: str, whole: Any, frames: tuple[TextTokenizer, dict[str, LiteralFrame]]
) -> None:
    """Beside the text of special tokens, which is plain text to us."""
    if not any(token in text for text in (query, doc) for token in whole.all_special_tokens):
        assert_same_ids(query, doc, whole, frames)


def test_labels_are_the_published_ids(whole: Any, frames: tuple[TextTokenizer, dict[str, LiteralFrame]]) -> None:
    tokenizer, _ = frames
    assert [tokenizer.encode([label])[0].ids.tolist() for label in ("true", "false")] == [[1176], [6136]]
    head = spec_of("rankt5-base").head
    assert head is not None
    assert whole.convert_ids_to_tokens(head.positive) == "<extra_id_10>"


def test_sentencepiece_files_are_converted(sentencepiece: Path, t5: Path, tmp_path: Path) -> None:
    """castorini's folders have ``spiece.model`` alone; its ids are those of the same tokenizer. Without the packages
    that convert it, the message names them."""
    shutil.copyfile(sentencepiece, tmp_path / "spiece.model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}), encoding="utf-8")
    if not all(map(available, ("sentencepiece", "google"))):
        with pytest.raises(MissingDependencyError, match="pip install sentencepiece protobuf"):
            TextTokenizer.from_directory(tmp_path)
        return
    texts = [text for text in TEXTS if "\ufffd" not in text]
    ours, theirs = (TextTokenizer.from_directory(directory).encode(texts) for directory in (tmp_path, t5))
    assert [tokens.ids for tokens in ours] == [tokens.ids for tokens in theirs]
