"""Adapters score as peft makes them score, or are refused by the names of the tensors that are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, PlainCausal, PlainCrossEncoder, assert_close
from rerank_core import CheckpointError, Head, ModelSpec, Reranker, Template
from rerank_core.options import Options
from rerank_core.reranker import opened
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

DOCS = DOCUMENTS[:4]
SPEC = ModelSpec(
    name="adapted",
    template=Template(query="Q: {query}", between="\n", doc="D: {doc}"),
    head=Head.last_token("yes", "no"),
)


def randomised(module: Any, **settings: Any) -> Any:
    """peft's model around a module, everything that it would train drawn at random."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    made = peft.get_peft_model(module, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in made.parameters():
            if part.requires_grad:
                part.add_(torch.randn(part.shape, generator=generator) * 0.2)
    return made.eval()


def write(made: Any, base: Path, folder: Path) -> Path:
    """Save an adapter that names its base."""
    made.save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base)}))
    return folder


def load(directory: Path, spec: ModelSpec = SPEC) -> Reranker:
    """A folder under a spec, on the CPU."""
    chosen = Options.of(spec, {"checkpoint": str(directory), "device": "cpu"})
    return opened(spec, chosen)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model whose output layer is its own."""
    return tiny_causal_lm(tmp_path_factory.mktemp("causal") / "base", "qwen2", layers=2, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(tmp_path_factory.mktemp("classifier") / "base", "bert")


VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "all linear": {"target_modules": "all-linear"},
    "patterns": {
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"q_proj": 2, r".*\.0\.self_attn\.v_proj": 6},
        "alpha_pattern": {"v_proj": 3},
    },
    "expression": {"target_modules": r".*\.(q|up)_proj"},
    "some layers": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1]},
    "layers by name": {"target_modules": ["o_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
    "excluded": {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    "biases": {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only", "lora_bias": True},
    "all biases": {"target_modules": ["o_proj"], "bias": "all"},
    "whole output layer": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "task_type": "CAUSAL_LM"},
    "embeddings": {"target_modules": ["embed_tokens", "lm_head", "v_proj"]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_peft(variant: str, causal: Path, tmp_path: Path) -> None:
    """Every way to write low-rank adapters that is taken is taken to the same scores as peft's own forward pass."""
    plain = PlainCausal(causal)
    texts = [[f"Q: {QUERIES[0]}", "\n", f"D: {doc}"] for doc in DOCS]
    before = [plain.score(row, "yes", "no") for row in texts]
    made = randomised(plain.model, **VARIANTS[variant])
    folder = write(made, causal, tmp_path / "adapter")
    plain.model = made
    expected = [plain.score(row, "yes", "no") for row in texts]

    assert max(abs(a - b) for a, b in zip(before, expected, strict=True)) > 1e-2
    assert_close(expected, load(folder).rerank(QUERIES[0], DOCS).scores())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tied", ["q_proj", "embed_tokens", "lm_head"])
def test_a_tied_output_layer_is_adapted_apart(tied: str, tmp_path: Path) -> None:
    """Where table and output layer share their weights, an adapter of the one leaves the other as it was."""
    base = tiny_causal_lm(tmp_path / "base", "qwen2", layers=1, tie_word_embeddings=True)
    plain = PlainCausal(base)
    plain.model = randomised(plain.model, target_modules=[tied])
    folder = write(plain.model, base, tmp_path / "adapter")
    expected = [plain.score([f"Q: {QUERIES[0]}", "\n", f"D: {doc}"], "yes", "no") for doc in DOCS]

    assert_close(expected, load(folder).rerank(QUERIES[0], DOCS).scores())


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"bias": "all"}], ids=["plain", "dora", "biases"])
def test_classifier_by_its_own_path(settings: dict[str, Any], classifier: Path, tmp_path: Path) -> None:
    """The folder that peft leaves of a fine-tuned cross-encoder loads by its path (g08), with its head."""
    plain = PlainCrossEncoder(classifier)
    plain.model = randomised(plain.model, target_modules=["query", "dense"], task_type="SEQ_CLS", **settings)
    folder = write(plain.model, classifier, tmp_path / "adapter")
    expected = [plain.score(QUERIES[0], doc) for doc in DOCS]

    assert_close(expected, rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCS).scores())


def changed(folder: Path, into: Path, change: Callable[[dict[str, torch.Tensor]], Any], **settings: Any) -> Path:
    """A copy of an adapter with other tensors and settings."""
    shutil.copytree(folder, into)
    file = into / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file)
    config = into / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    return into


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def without(*parts: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: (
        {name: own for name, own in tensors.items() if not any(part in name for part in parts)}
        or {"base_model.model.nothing.lora_A.weight": torch.zeros(4, 4)}
    )


SPOILT: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "none": (without("lora_", "lm_head"), r"lacks 9 tensors.*layers\.0\.self_attn\.q_proj\.lora_A\.weight.*and 5 more"),
    "no second matrix": (without("lora_B"), r"lacks 4 tensors.*lora_B\.weight"),
    "no first matrix": (without("lora_A"), r"lacks 4 tensors.*lora_A\.weight"),
    "half of the layers": (without("layers.1."), r"lacks 4 tensors.*layers\.1\.self_attn\.q_proj"),
    "one kind of layer": (without("v_proj"), r"lacks 4 tensors.*v_proj"),
    "no head": (without("lm_head"), r"lacks 1 tensors.*lm_head\.weight"),
    "another prefix": (renamed("base_model.model.", ""), "no tensor of an adapter"),
    "renamed": (renamed("self_attn", "attention"), r"lacks 8.*holds 8.*attention\.q_proj\.lora_A"),
    "of another name": (renamed("lora_A", "lora_A.default"), r"lacks 4.*holds 4.*lora_A\.default"),
    "norms": (lambda t: t | {f"{_Q}lora_magnitude_vector": torch.ones(32)}, "holds 1.*lora_magnitude_vector"),
    "another rank": (lambda t: t | {f"{_Q}lora_A.weight": torch.ones(2, 32)}, r"lora_A\.weight is \[2, 32\], not \[4"),
    "another width": (lambda t: t | {f"{_Q}lora_B.weight": torch.ones(64, 4)}, r"is \[64, 4\], not \[32, 4\]"),
    "more": (lambda t: t | {"base_model.model.model.norm.weight": torch.ones(32)}, r"holds 1.*model\.norm\.weight"),
    "integers": (lambda t: t | {f"{_Q}lora_A.weight": torch.ones(4, 32).char()}, "int8"),
    "no numbers": (lambda t: t | {f"{_Q}lora_B.weight": torch.full((32, 4), torch.nan)}, r"lora_B\.weight holds NaN"),
    "another head": (lambda t: t | {"base_model.model.lm_head.weight": torch.ones(9, 32)}, r"\[9, 32\].*merge"),
}
_Q = "base_model.model.model.layers.0.self_attn.q_proj."


@pytest.fixture(scope="module")
def saved(causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with an output layer that was trained beside it, not to be changed."""
    made = randomised(PlainCausal(causal).model, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"])
    return write(made, causal, tmp_path_factory.mktemp("saved") / "adapter")


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("initial", [True, False])
def test_tensors_that_are_wrong_are_named(spoilt: str, initial: bool, saved: Path, tmp_path: Path) -> None:
    """No adapter scores as its base does, or at random: what its file lacks or has too much of is named."""
    change, said = SPOILT[spoilt]
    folder = changed(saved, tmp_path / "spoilt", change, init_lora_weights=initial)

    with pytest.raises(CheckpointError, match=said):
        load(folder)
