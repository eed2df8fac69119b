"""Models with one tokenizer share the tokens of an ensemble's texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rerank_core import Combine, Ensemble, load
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.testing import tiny_cross_encoder

QUERY = "What is a panda?"
TEXTS = ["The giant panda is a bear.", "大熊猫是什么动物？", "", "Paris " * 300, "The giant panda is a bear."]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with the same tokenizer, and one with another."""
    base = tmp_path_factory.mktemp("models")
    kinds: list[tuple[Any, int]] = [("xlm-roberta", 0), ("xlm-roberta", 1), ("bert", 2)]
    return [tiny_cross_encoder(base / f"m{seed}", family, seed=seed) for family, seed in kinds]


def test_each_text_is_tokenized_once_per_tokenizer(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models with two tokenizers tokenize each text twice, and each model scores as it does alone."""
    with Ensemble(folders, Combine.weighted(), device="cpu") as ensemble:
        counts = counted(monkeypatch)
        ranking = ensemble.rerank(QUERY, TEXTS)
        assert counts == dict.fromkeys({QUERY, *TEXTS}, 2)
        for member, folder in zip(ensemble.members, folders, strict=True):
            with load(folder, device="cpu") as alone:
                expected = alone.rerank(QUERY, TEXTS).scores()
            assert [hit.scores[member.name] for hit in sorted(ranking, key=lambda hit: hit.index)] == expected


def test_other_settings_of_a_tokenizer_share_nothing(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one model reads special tokens in texts, both tokenize; another length is no setting of the tokenizer."""
    texts = ["a </s> b", "panda"]
    with Ensemble([folders[0], (folders[0], 1, {"parse_special_tokens": True})], device="cpu") as ensemble:
        counts = counted(monkeypatch)
        ensemble.rerank(QUERY, texts)
        assert counts == dict.fromkeys([QUERY, *texts], 2)
    with Ensemble([folders[0], (folders[0], 1, {"max_length": 32})], device="cpu") as ensemble:
        counts = counted(monkeypatch)
        ensemble.rerank(QUERY, texts)
        assert counts == dict.fromkeys([QUERY, *texts], 1)


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each text is tokenized from now on."""
    counts: Counter[str] = Counter()
    encode = TextTokenizer.encode

    def counting(self: TextTokenizer, texts: Any, *around: str) -> Any:
        counts.update(texts)
        return encode(self, texts, *around)

    monkeypatch.undo()
    monkeypatch.setattr(TextTokenizer, "encode", counting)
    return counts
