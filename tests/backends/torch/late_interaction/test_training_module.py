"""A loaded embedding or late-interaction model, opened for training: its vectors stay, every weight has a gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, assert_close
from helpers.training import batch_of
from rerank_core import Head, InputError, ModelSpec, Reranker, Template, TokenVectors, write_spec
from rerank_core.backends.torch import scorer_of, training_module
from rerank_core.backends.torch.linear.onednn import PrepackedLinear
from rerank_core.testing import tiny_cross_encoder, tiny_encoder


def saved(directory: Path, head: Head) -> Path:
    tiny_encoder(directory, "bert")
    write_spec(ModelSpec(name="tiny", template=Template.each(), head=head), directory)
    return directory


def test_the_projection_becomes_the_modules_own(tmp_path: Path) -> None:
    """The layers beside the encoder are its submodule ``projection``, saved with it, and need a gradient."""
    directory = saved(tmp_path, Head.maxsim("sum", TokenVectors(projection=("linear.weight",))))
    weights = load_file(directory / "model.safetensors")
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    save_file({**weights, "linear.weight": torch.randn(6, width)}, directory / "model.safetensors", {"format": "pt"})
    reranker = rerank_core.load(str(directory), device="cpu")
    before = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    spec, scorer = reranker.spec, reranker.scorer
    module: Any = training_module(scorer)

    assert module.projection[0].weight.requires_grad
    assert "projection.0.weight" in module.state_dict()
    live = scorer_of(module, scorer.tokenizer, spec)
    assert_close(before, Reranker.from_scorer(live, spec).rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_stay(tmp_path: Path, dtype: str) -> None:
    """The module's own scorer gives the scores of the loaded model, in float32."""
    reranker = rerank_core.load(str(saved(tmp_path, Head.maxsim("mean"))), device="cpu", dtype=dtype)
    before = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    spec, scorer = reranker.spec, reranker.scorer
    module: Any = training_module(scorer)
    live = scorer_of(module, scorer.tokenizer, spec)

    assert not any(isinstance(part, PrepackedLinear) for part in module.modules())
    assert all(one.requires_grad and one.dtype == torch.float32 for one in module.parameters())
    assert live.packed
    after = Reranker.from_scorer(live, spec).rerank(QUERIES[0], DOCUMENTS).scores()
    if dtype == "float32":
        assert_close(before, after)
    batch = batch_of(live)
    live.parts_from(module(**live.forward_inputs(batch, packed=True)), batch)["vectors"][:, 0].sum().backward()
    missing = [name for name, one in module.named_parameters() if one.grad is None]
    assert all("pooler" in name for name in missing)


def test_cross_encoders_are_refused(tmp_path: Path) -> None:
    scorer: Any = rerank_core.load(str(tiny_cross_encoder(tmp_path, "bert")), device="cpu").scorer
    with pytest.raises(InputError, match="together"):
        training_module(scorer)


def test_int8_is_refused(tmp_path: Path) -> None:
    scorer: Any = rerank_core.load(str(saved(tmp_path, Head.cosine("mean"))), device="cpu", dtype="int8").scorer
    with pytest.raises(InputError, match="int8"):
        training_module(scorer)
