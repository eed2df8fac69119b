"""Late interaction beside PyLate, sentence-transformers and FlagEmbedding's BGE-M3, on folders that they saved.

They cut long texts, so ours is told to: ``longdoc="firstp"`` and a ``max_query_length``. Texts are encoded one at a
time there, because PyLate and FlagEmbedding let padding win a maximum.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.plain import assert_close
from parity.conftest import Originals
from parity.texts import Case, cases
from rerank_core import Reranker, Scorer
from rerank_core.testing.checkpoints import tiny_encoder

TOKENIZERS = [
    pytest.param(("bert", None), id="bert"),
    pytest.param(("bert", "bert-base-uncased"), id="real-bert-uncased", marks=pytest.mark.data),
    pytest.param(("bert", "bert-base-chinese"), id="real-bert-chinese", marks=pytest.mark.data),
    pytest.param(("xlm-roberta", "xlm-roberta"), id="real-xlm-roberta", marks=pytest.mark.data),
]
# Words that every tokenizer here has: PyLate leaves out unknown tokens too where it does not know one of them.
WORDS = [",", "."]
PYLATE: dict[str, dict[str, Any]] = {
    "default": {},
    "lengths": {"query_length": 48, "document_length": 96},
    "attended": {"attend_to_expansion_tokens": True},
    "not expanded": {"do_query_expansion": False},
    "without prefixes": {"query_prefix": "", "document_prefix": ""},
    "two layers": {"bias": True},
}
NATIVE: dict[str, dict[str, Any]] = {
    "mean": {"similarity": "meanmaxsim"},
    "at least": {"query_expansion": {"strategy": "min", "length": 24, "attend": True}},
    "plain": {"query_expansion": None, "skiplist_words": []},
    "both sides": {"skiplist_tasks": ["query", "document"]},
    "prompts": {"query_expansion": None, "prompts": {"query": "question: ", "document": "text: "}},
}


@pytest.fixture(scope="session")
def requests() -> list[Case]:
    folder = os.environ.get("RERANK_DATA")
    return list(cases(Path(folder) if folder else None))


@pytest.fixture(scope="session", params=TOKENIZERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, real = request.param
    tokenizer = request.getfixturevalue("data") / "tokenizers" / real if real else None
    return tiny_encoder(tmp_path_factory.mktemp("late") / (real or family), family, tokenizer=tokenizer, std=0.25)


@pytest.fixture(scope="session")
def saved(pylate: Originals, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder that PyLate saved, by the name of its settings."""
    folder = tmp_path_factory.mktemp("pylate")

    def of(name: str) -> Path:
        directory = folder / name.replace(" ", "-")
        if not directory.exists():
            settings = {"embedding_size": 16, "skiplist_words": WORDS, **PYLATE[name]}
            made = pylate.send(
                entry="make", framework="pylate", base=str(encoder), directory=str(directory), settings=settings
            )
            assert made == {}, made
        return directory

    return of


def ours(directory: Path | str, longest: int | None = None, **options: Any) -> Reranker:
    given = {} if longest is None else {"max_query_length": longest}
    return rerank_core.load(directory, device="cpu", longdoc="firstp", parse_special_tokens=True, **given, **options)


def assert_same(them: Originals, framework: str, directory: Path, reranker: Reranker, requests: list[Case]) -> None:
    spread = []
    for case in requests:
        answer = them.send(
            entry="score", framework=framework, directory=str(directory), query=case.query, docs=case.docs
        )
        assert "scores" in answer, answer
        found = reranker.rerank(case.query, case.docs).scores()
        assert_close(answer["scores"], found)
        spread.append(max(found) - min(found))
    assert max(spread) > 0.01, "scores so near each other prove little"


@pytest.mark.parametrize("name", PYLATE)
def test_pylates_folders(name: str, saved: Callable[[str], Path], pylate: Originals, requests: list[Case]) -> None:
    """Markers, augmentation attended or not, lengths, the skip-list and the projection are read from its files."""
    directory = saved(name)
    markers = 0 if name == "without prefixes" else 1
    length = PYLATE[name].get("query_length", 32)
    some = requests if name == "default" else requests[:3]
    assert_same(pylate, "pylate", directory, ours(directory, length - 2 - markers), some)


def test_the_same_folder_in_sentence_transformers(
    saved: Callable[[str], Path], multi_vector: Originals, requests: list[Case]
) -> None:
    """It reads PyLate's folders too, and agrees."""
    directory = saved("default")
    assert_same(multi_vector, "sentence-transformers", directory, ours(directory, 29), requests)


@pytest.mark.parametrize("name", NATIVE)
def test_sentence_transformers_folders(
    name: str, saved: Callable[[str], Path], multi_vector: Originals, requests: list[Case], tmp_path: Path
) -> None:
    """What MultiVectorEncoder itself saved: its mask, its two ways to fill a query up, prompts, MeanMaxSim."""
    directory = tmp_path / "native"
    settings = {"query_length": 64 if name != "mean" else 32, **NATIVE[name]}
    if "query_expansion" not in settings:
        settings["query_expansion"] = {"strategy": "fixed", "length": settings["query_length"]}
    made = multi_vector.send(
        entry="make", framework="sentence-transformers", base=str(saved("default")), directory=str(directory),
        settings=settings,
    )  # fmt: skip
    assert made == {}, made
    scorer = ours(directory).scorer
    assert isinstance(scorer, Scorer)
    (one,) = scorer.tokenize(["a"], "query")
    row = scorer.query_row(one)
    assert row is not None
    own = row.span[1] - len(one) + 1  # [CLS], a marker, literal text, [SEP]
    assert_same(
        multi_vector, "sentence-transformers", directory,
        ours(directory, settings["query_length"] - own), requests[:3],
    )  # fmt: skip


def test_stanfords_folder(pylate: Originals, encoder: Path, requests: list[Case], tmp_path: Path) -> None:
    """ColBERTv2's layout: weights under ``bert.``, ``linear.weight`` among them, settings in artifact.metadata."""
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    if config["model_type"] != "bert" or "[unused0]" not in vocabulary:
        pytest.skip("ColBERTv2 is a BERT whose vocabulary has unused tokens")
    directory = tmp_path / "stanford"
    shutil.copytree(encoder, directory)
    weights = {f"bert.{name}": tensor for name, tensor in load_file(encoder / "model.safetensors").items()}
    torch.manual_seed(1)
    weights["linear.weight"] = torch.randn(16, config["hidden_size"]) * 0.3
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}), encoding="utf-8")
    said = {
        "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 32, "doc_maxlen": 180,
        "mask_punctuation": True, "attend_to_mask_tokens": False, "similarity": "cosine", "dim": 16,
    }  # fmt: skip
    (directory / "artifact.metadata").write_text(json.dumps(said), encoding="utf-8")

    assert_same(pylate, "pylate", directory, ours(directory, 29), requests)
    named = rerank_core.load(
        "colbertv2", checkpoint=directory, device="cpu", max_length=180, max_query_length=29, longdoc="firstp",
        parse_special_tokens=True,
    )  # fmt: skip
    assert_same(pylate, "pylate", directory, named, requests)


@pytest.fixture(scope="session")
def m3(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BGE-M3 with the real tokenizer."""
    if json.loads((encoder / "config.json").read_text(encoding="utf-8"))["model_type"] != "xlm-roberta":
        pytest.skip("BGE-M3 is an XLM-R")
    directory = as_m3(encoder, tmp_path_factory.mktemp("m3") / "tiny")
    file = directory / "tokenizer_config.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**said, "tokenizer_class": "XLMRobertaTokenizerFast"}), encoding="utf-8")
    return directory


def as_m3(encoder: Path, directory: Path) -> Path:
    """A copy of an XLM-R with BGE-M3's two files of linear layers."""
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    shutil.copytree(encoder, directory)
    torch.manual_seed(2)
    hidden = config["hidden_size"]
    for name, rows in (("colbert_linear.pt", hidden), ("sparse_linear.pt", 1)):
        torch.save({"weight": torch.randn(rows, hidden) * 0.3, "bias": torch.randn(rows) * 0.3}, directory / name)
    return directory


NAMES = {"colbert": "colbert", "sparse": "sparse", "dense": "dense", "fused": "colbert+sparse+dense"}


@pytest.mark.parametrize("score", NAMES)
def test_bge_m3(score: str, bge_m3: Originals, m3: Path, requests: list[Case]) -> None:
    """Each of its scores, and all three with weights, is FlagEmbedding's; by the folder and by the model's name."""
    weights = {"dense_weight": 0.4, "sparse_weight": 0.2, "colbert_weight": 0.4}
    for name, more in ((str(m3), {}), ("bge-m3-colbert", {"checkpoint": m3, "max_length": 128})):
        reranker = ours(name, 126, **{"max_length": 128, **more}, score=score, **weights)
        for case in requests:
            answer = bge_m3.send(
                entry="score", framework="bge-m3", directory=str(m3), query=case.query, docs=case.docs, max_length=128,
                weights=[0.4, 0.2, 0.4],
            )  # fmt: skip
            assert "colbert" in answer, answer
            ranking = reranker.rerank(case.query, case.docs)
            assert_close(answer[NAMES[score]], ranking.scores())
            if score == "fused":
                (first, *_) = ranking
                assert first.scores["dense"] == pytest.approx(answer["dense"][first.index], abs=1e-5)


def test_rag_retrievals_training_side(requests: list[Case], tmp_path: Path) -> None:
    """A folder of its ColBERT trainer scores as its loss does: a linear layer with bias over all tokens but the first,
    unit vectors, the mean over the query's (training/model code of July 2025, written here from its maths)."""
    from transformers import AutoModel, AutoTokenizer

    directory = as_m3(tiny_encoder(tmp_path / "encoder", "xlm-roberta", std=0.25), tmp_path / "rag")
    (directory / "sparse_linear.pt").unlink()
    auto: Any = AutoModel
    model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(str(directory))
    layer = torch.load(directory / "colbert_linear.pt", weights_only=True)

    @torch.inference_mode()
    def vectors(text: str, length: int) -> torch.Tensor:
        inputs = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state[0, 1:]
        return torch.nn.functional.normalize(hidden @ layer["weight"].T + layer["bias"], dim=-1)

    reranker = ours(directory, 126, max_length=512)
    for case in requests:
        query = vectors(case.query, 128)
        expected = [float((query @ vectors(doc, 512).T).amax(dim=1).mean()) for doc in case.docs]
        assert_close(expected, reranker.rerank(case.query, case.docs).scores())
