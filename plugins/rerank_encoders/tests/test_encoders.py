"""Each family's spec scores a tiny checkpoint of its architecture as sentence-transformers does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

import rerank_core
from rerank_core import Reranker
from rerank_core.pipeline.display import sigmoid
from rerank_core.testing import ScorerConformance, tiny_cross_encoder, tiny_encoder

QUERY = "what does a panda eat?"
TEXTS = (
    "Pandas eat bamboo for most of the day.", "大熊猫主要以竹子为食。", "", " ", "paris", "🐼🎋", "paris",
    "The giant panda eats bamboo, fish and eggs; 大熊猫每天吃很多竹子 and sleeps. " * 12,
)  # fmt: skip
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
MODERN = {
    **SMALL, "local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3,
    "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
DEBERTA = {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
CLASSIFIER = "AutoModelForSequenceClassification"


def written(folder: Path, family: str, kind: str, settings: dict[str, Any], start: Callable[..., Path]) -> Path:
    """A random module over a tiny tokenizer, with weights that tell texts apart."""
    start(folder)
    vocabulary = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
    config = transformers.AutoConfig.for_model(family, **{"vocab_size": vocabulary, **settings})
    module = getattr(transformers, kind).from_config(config)
    generator = torch.Generator().manual_seed(0)
    for weights in module.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.3, generator=generator)
    module.save_pretrained(str(folder))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def minilm(folder: Path) -> Path:
    return tiny_cross_encoder(folder, "bert")


def modernbert(folder: Path) -> Path:
    settings = {**MODERN, "num_labels": 1, "classifier_pooling": "mean"}
    return written(folder, "modernbert", CLASSIFIER, settings, lambda path: tiny_encoder(path, "bert"))


def gte(folder: Path) -> Path:
    """mGTE as transformers saves it; tests of the core read the hub's names of settings and tensors."""
    settings = {**SMALL, "num_labels": 1, "pad_token_id": 1, "type_vocab_size": 1}
    return written(folder, "gte", CLASSIFIER, settings, lambda path: tiny_encoder(path, "xlm-roberta"))


def deberta(folder: Path) -> Path:
    settings = {**DEBERTA, "num_labels": 1}
    return written(folder, "deberta-v2", CLASSIFIER, settings, lambda path: tiny_encoder(path, "bert"))


def ettin(folder: Path) -> Path:
    """ModernBERT and the folders of its head, as on the hub."""
    written(folder, "modernbert", "AutoModel", MODERN, lambda path: tiny_encoder(path, "bert"))
    base, pooled = "sentence_transformers.base.modules", "sentence_transformers.sentence_transformer.modules"
    chosen, width = {"module_input_name": "sentence_embedding"}, SMALL["hidden_size"]
    gelu, none = "torch.nn.modules.activation.GELU", "torch.nn.modules.linear.Identity"
    first = {"in_features": width, "out_features": width, "bias": False, "activation_function": gelu, **chosen}
    last = {"in_features": width, "out_features": 1, "bias": True, "activation_function": none, **chosen}
    modules: list[tuple[str, str, dict[str, Any], dict[str, tuple[int, ...]]]] = [
        ("1_Pooling", f"{pooled}.pooling.Pooling", {"embedding_dimension": width, "pooling_mode": "cls"}, {}),
        ("2_Dense", f"{base}.dense.Dense", first, {"linear.weight": (width, width)}),
        (
            "3_LayerNorm",
            f"{pooled}.layer_norm.LayerNorm",
            {"dimension": width},
            {"norm.weight": (width,), "norm.bias": (width,)},
        ),
        (
            "4_Dense",
            f"{base}.dense.Dense",
            {**last, "module_output_name": "scores"},
            {"linear.weight": (1, width), "linear.bias": (1,)},
        ),
    ]
    generator = torch.Generator().manual_seed(1)
    for name, _, settings, shapes in modules:
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        if shapes:
            tensors = {key: torch.randn(shape, generator=generator) * 0.5 for key, shape in shapes.items()}
            save_file(tensors, str(folder / name / "model.safetensors"))
    types = [("", f"{base}.transformer.Transformer"), *((name, kind) for name, kind, *_ in modules)]
    entries = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    said = {"model_type": "CrossEncoder", "activation_fn": none, "prompts": {}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


# A model of each architecture (granite-reranker-r2's is gte-reranker-modernbert's), a checkpoint of it, and whether its
# rows are packed.
FAMILIES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "ms-marco-minilm-l6": (minilm, True),
    "gte-reranker-modernbert": (modernbert, True),
    "gte-multilingual-reranker": (gte, True),
    "ettin-reranker-17m": (ettin, True),
    "mxbai-rerank-xsmall-v1": (deberta, False),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A model's name, and a tiny checkpoint of its architecture."""
    name: str = request.param
    return name, FAMILIES[name][0](tmp_path_factory.mktemp("tiny") / name)


@pytest.fixture(scope="module")
def reranker(folder: tuple[str, Path]) -> Reranker:
    """The tiny checkpoint under the spec of the family."""
    return rerank_core.load(folder[0], checkpoint=folder[1], device="cpu", max_length=64)


class TestEncoders(ScorerConformance):
    """The conformance suite over each family."""

    def test_scores_equal_sentence_transformers(self, folder: tuple[str, Path]) -> None:
        """Logits equal those of a CrossEncoder on the same folder; short, empty, blank, equal and long documents."""
        library = pytest.importorskip("sentence_transformers", reason="its scores are compared with ours")
        name, directory = folder
        model = library.CrossEncoder(str(directory), device="cpu", max_length=128)
        pairs = [(QUERY, text) for text in TEXTS]
        expected = [float(model.predict([pair], activation_fn=torch.nn.Identity())[0]) for pair in pairs]
        loaded = rerank_core.load(name, checkpoint=directory, device="cpu", max_length=128, longdoc="firstp")

        assert loaded.scorer.packed is FAMILIES[name][1]
        assert max(expected) - min(expected) > 0.1
        self.assert_close(expected, loaded.score(pairs))

    def test_shows_what_the_authors_show(self, reranker: Reranker) -> None:
        """A ranking shows a sigmoid where the authors' own call does, else the logit."""
        shown = reranker.rerank(QUERY, TEXTS)
        raw = reranker.score([(QUERY, text) for text in TEXTS])

        assert (shown.activation == "sigmoid") == (reranker.spec.activation == "sigmoid")
        self.assert_close([sigmoid(one) for one in raw] if shown.activation == "sigmoid" else raw, shown.scores())


def test_specs_hold_the_published_facts() -> None:
    """Names, hub ids, licences and limits."""
    specs = {spec.name: spec for spec in rerank_core.models() if spec.license and spec.name in _EXPECTED}

    assert {name: (spec.checkpoint, spec.max_length, spec.activation) for name, spec in specs.items()} == _EXPECTED
    assert {spec.license for spec in specs.values()} == {"Apache-2.0"}
    assert {spec.raw_space for spec in specs.values()} == {"logit"}
    assert "cross-encoder/ms-marco-MiniLM-L-12-v2" in specs["ms-marco-minilm-l12"].names
    assert all(spec.revision is None or len(spec.revision) == 40 for spec in specs.values())


_EXPECTED = {
    "ms-marco-minilm-l6": ("cross-encoder/ms-marco-MiniLM-L6-v2", 512, "none"),
    "ms-marco-minilm-l12": ("cross-encoder/ms-marco-MiniLM-L12-v2", 512, "none"),
    "gte-reranker-modernbert": ("Alibaba-NLP/gte-reranker-modernbert-base", 8192, "sigmoid"),
    "gte-multilingual-reranker": ("Alibaba-NLP/gte-multilingual-reranker-base", 8192, "none"),
    "granite-reranker-r2": ("ibm-granite/granite-embedding-reranker-english-r2", 8192, "sigmoid"),
    **{
        f"ettin-reranker-{size}": (f"cross-encoder/ettin-reranker-{size}-v1", 7999, "none")
        for size in ("17m", "32m", "68m", "150m", "400m", "1b")
    },
    **{
        f"mxbai-rerank-{size}-v1": (f"mixedbread-ai/mxbai-rerank-{size}-v1", 512, "sigmoid")
        for size in ("xsmall", "base", "large")
    },
}
