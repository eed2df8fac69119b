"""zerank and ContextualAI's rerankers: one logit after a prompt, equal to plain transformers on the whole string."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rerank_core
from helpers.models.whole_string import WholeString
from rerank_core import Reranker
from rerank_core.testing import ScorerConformance, tiny_causal_lm

QUERY = "what does a panda eat?"
DOCS = [
    "Pandas eat bamboo for most of the day.",
    "a",
    "",
    "大熊猫吃竹子。",
    "  two  blanks \n",
    "bear " * 40,
    "e\u0301",
    "a",
]


def zerank(query: str, doc: str) -> str:
    """The chat template of zerank: the query is the system's turn, the document the user's."""
    return f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{doc}<|im_end|>\n<|im_start|>assistant\n"


def ctxl(query: str, doc: str, instruction: str = "") -> str:
    """The prompt of ContextualAI's model card."""
    query = f"{query} {instruction}" if instruction else query
    check = "Check whether a given document contains information helpful to answer the query."
    return f"{check}\n<Document> {doc}\n<Query> {query} ??"


def near(expected: list[float], found: Any) -> None:
    assert max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, found, strict=True)) <= 1e-5


def row_ids(reranker: Reranker, query: str, doc: str) -> list[int]:
    """All tokens that the model reads of a document."""
    scorer: Any = reranker.scorer
    (asked,), (read,) = scorer.tokenize([query], "query"), scorer.tokenize([doc], "doc")
    prefix = scorer.query_row(asked)
    return [*(prefix.ids if prefix else ()), *scorer.row(asked, read, 0, len(read), (0, 0, 0)).ids]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3, as zerank and the small ctxl models are."""
    return tiny_causal_lm(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 with Qwen's own tokenizer."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the real tokenizers")
    tokenizer = Path(folder) / "tokenizers" / "qwen"
    return tiny_causal_lm(tmp_path_factory.mktemp("real"), "qwen3", tokenizer=tokenizer, layers=2, hidden=8)


@pytest.mark.parametrize("name", ["zerank-1-small", "zerank-2"])
def test_zerank_is_the_logit_of_yes(name: str, tiny: Path) -> None:
    """After the chat template; a classifier of two words would give another score."""
    plain, reranker = WholeString(tiny), rerank_core.load(name, checkpoint=tiny, device="cpu")
    (yes,) = plain.ids("Yes")
    expected = [plain.logit(plain.ids(zerank(QUERY, doc)), yes) for doc in DOCS]
    ranking = reranker.rerank(QUERY, DOCS)
    near(expected, ranking.scores())
    assert (ranking.score_space, ranking.activation) == ("logit", "none")


@pytest.mark.parametrize("name", ["ctxl-rerank-v2-1b", "ctxl-rerank-v2-2b"])
def test_ctxl_is_the_logit_of_token_0(name: str, tiny: Path) -> None:
    """The document comes before the query, so nothing is shared; the instruction comes after the query."""
    plain, reranker = WholeString(tiny), rerank_core.load(name, checkpoint=tiny, device="cpu")
    for more in ({}, {"instruction": "Prefer recent ones."}):
        expected = [plain.logit(plain.ids(ctxl(QUERY, doc, **more)), 0) for doc in DOCS]
        near(expected, reranker.rerank(QUERY, DOCS, **more).scores())
    assert reranker.scorer.layout == "joint"  # type: ignore[union-attr]


def test_the_largest_ctxl_begins_with_a_token_of_its_own(tmp_path: Path) -> None:
    """It is a Mistral, whose tokenizer puts <s> before the prompt."""
    plain = WholeString(tiny_causal_lm(tmp_path, "mistral", tokenizer="sentencepiece"))
    reranker = rerank_core.load("ctxl-rerank-v2-6b", checkpoint=tmp_path, device="cpu")
    head = "Check whether a given document contains information helpful to answer the query.\n<Document>"
    texts = [["<s>", head, f" {doc}\n", "<Query>", f" {QUERY} ??"] for doc in DOCS]
    rows = [[id_ for text in pieces for id_ in plain.ids(text)] for pieces in texts]
    assert row_ids(reranker, QUERY, DOCS[0]) == rows[0]
    assert rows[0][0] == 1
    near([plain.logit(row, 0) for row in rows], reranker.rerank(QUERY, DOCS).scores())


_PIECES = [
    "a panda",
    "?",
    " ",
    "\n",
    "\r\n",
    ":",
    "<",
    ">",
    "'s",
    "１２",
    "大熊猫",
    "\u0301",
    "\u3000",
    ".",
    "12",
    "??",
    "/",
]
_ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
# Hypothesis also draws strings of this repository's code: special tokens, which a text never becomes, are left out.
_ODD_TEXT = (_ANY | st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)).filter(lambda text: "<|" not in text)


@pytest.mark.data
@pytest.mark.parametrize(("name", "string"), [("zerank-2", zerank), ("ctxl-rerank-v2-1b", ctxl)])
def test_ids_equal_the_whole_string_at_every_seam(name: str, string: Callable[[str, str], str], real: Path) -> None:
    """Texts may begin and end with punctuation, blanks, line breaks and combining marks."""
    plain, reranker = WholeString(real), rerank_core.load(name, checkpoint=real, device="cpu")

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(query=_ODD_TEXT, doc=_ODD_TEXT)
    def check(query: str, doc: str) -> None:
        assert row_ids(reranker, query, doc) == plain.ids(string(query, doc))

    check()
    label = plain.ids("Yes")[0] if name == "zerank-2" else 0
    near([plain.logit(plain.ids(string(QUERY, doc)), label) for doc in DOCS], reranker.rerank(QUERY, DOCS).scores())


# The templates of both families' folders for sentence-transformers, written from their prompts.
CHAT = {
    "zerank-2": (
        "{% for m in messages %}{% if m.role == 'query' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n"
        "{% elif m.role == 'document' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}"
    ),
    "ctxl-rerank-v2-1b": (
        "{% set ns = namespace(query='', document='') %}{% for m in messages %}{% if m.role == 'query' %}"
        "{% set ns.query = m.content %}{% elif m.role == 'document' %}{% set ns.document = m.content %}{% endif %}"
        "{% endfor %}Check whether a given document contains information helpful to answer the query.\n"
        "<Document> {{ ns.document }}\n<Query> {{ ns.query }} ??"
    ),
}


@pytest.mark.data
@pytest.mark.parametrize(("name", "label"), [("zerank-2", 9454), ("ctxl-rerank-v2-1b", 0)])
def test_scores_equal_those_of_sentence_transformers(name: str, label: int, real: Path, tmp_path: Path) -> None:
    """A folder with LogitScore and a chat template, as their authors publish them since 2026."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is missing")
    folder = Path(shutil.copytree(real, tmp_path / "folder"))
    score = folder / "1_LogitScore"
    score.mkdir()
    forward = {"method": "forward", "method_output_name": "logits"}
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {
                "idx": 1, "name": "1", "path": score.name,
                "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
            },
        ],
        "sentence_bert_config.json": {
            "transformer_task": "text-generation",
            "modality_config": {"text": forward, "message": {**forward, "format": "flat"}},
            "module_output_name": "causal_logits",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
        "1_LogitScore/config.json": {"true_token_id": label, "false_token_id": None},
        "config_sentence_transformers.json": {
            "model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"
        },
    }  # fmt: skip
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT[name], encoding="utf-8")
    settings_file = folder / "tokenizer_config.json"
    told = {**json.loads(settings_file.read_text(encoding="utf-8")), "pad_token": "<|endoftext|>"}
    settings_file.write_text(json.dumps(told), encoding="utf-8")
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    pairs = [(QUERY, doc) for doc in DOCS]
    expected = model.predict(pairs, show_progress_bar=False).tolist()
    near(expected, rerank_core.load(name, checkpoint=real, device="cpu").score(pairs))


@pytest.mark.data
def test_windows_of_a_long_document_keep_the_line_break(real: Path) -> None:
    """A full stop and the line break after the document are one token; windows before the last have the line break."""
    plain = WholeString(real)
    reranker = rerank_core.load("ctxl-rerank-v2-1b", checkpoint=real, device="cpu", max_length=100)
    text = "A giant panda eats bamboo, and sleeps. " * 30 + "The end."
    (hit,) = reranker.rerank(QUERY, [text])
    head = plain.ids("Check whether a given document contains information helpful to answer the query.\n<Document>")
    ids, tail = plain.ids(f" {text}\n"), plain.ids(f"\n<Query> {QUERY} ??")
    assert ids[-1] != plain.ids("\n")[0]
    room = 100 - len(head) - len(tail)
    step, windows = room - room // 4, []
    for start in range(0, len(ids), step):
        last = start + room >= len(ids)
        end = tail[1:] if last else tail
        windows.append([*head, *ids[start : start + room], *end])
        if last:
            break
    assert len(windows) > 3
    assert max(map(len, windows)) <= 100
    assert reranker.rerank(QUERY, [text]).usage.tokens == sum(map(len, windows))
    near([plain.logit(window, 0) for window in windows], [passage.score for passage in hit.passages])


@pytest.fixture(scope="module", params=["zerank-2", "ctxl-rerank-v2-1b"])
def reranker(request: pytest.FixtureRequest, tiny: Path) -> Reranker:
    return rerank_core.load(request.param, checkpoint=tiny, device="cpu", max_length=300)


class TestConformance(ScorerConformance):
    """The conformance suite over tiny models."""
