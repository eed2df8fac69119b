"""Scores of a GGUF file equal those of the checkpoint that it was written from, or of what its type keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import rerank_core
from helpers.gguf.files import QWEN3_PROMPT, rounded_copy, write_gguf
from helpers.models.causal import SPEC, load
from helpers.plain import assert_close
from rerank_core import CheckpointError, Head, Template
from rerank_core.backends.gguf.folder import gguf_tensors, prepared
from rerank_core.backends.torch.load_weights import load_module
from rerank_core.backends.torch.safetensors_reader import count_weights

QUERY = "what is a panda?"
DOCS = ["Pandas eat bamboo.", "no", "大熊猫吃竹子", "The capital of France is Paris 1998!", "", "bear " * 40]
PAIRS = [(QUERY, doc) for doc in DOCS]
DECODERS = ("llama", "llama-3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
# transformers opens these; it ignores Llama 3's factors, and gguf 0.19 has no names for its Mistral.
OPENED = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text")


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_scores_as_its_checkpoint(name: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    """F32 exactly, whatever the converter did to names and orders of rows. It adds 1 to Gemma's norms, in float32."""
    expected = load(family(name)).score(PAIRS)
    found = load(write_gguf(family(name), tmp_path / "m.gguf")).score(PAIRS)
    assert_close(expected, found)
    assert found == expected or name.startswith("gemma")


@pytest.mark.parametrize("name", ["bert", "qwen3", "gemma"])
def test_the_weights_are_counted_in_either_form(name: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    expected = sum(values.size for file in family(name).glob("*.safetensors") for values in load_file(file).values())
    assert count_weights(family(name)) == expected
    assert count_weights(prepared(write_gguf(family(name), tmp_path / "m.gguf"))) == expected
    assert count_weights(tmp_path) == 0


@pytest.mark.parametrize("name", OPENED)
def test_a_decoder_computes_what_transformers_computes(
    name: str, family: Callable[[str], Path], tmp_path: Path
) -> None:
    """The logits of a file that transformers opens itself."""
    from transformers import AutoModelForCausalLM

    file = write_gguf(family(name), tmp_path / "m.gguf", "Q8_0", metadata={"general.name": name})
    auto: Any = AutoModelForCausalLM
    theirs = auto.from_pretrained(str(tmp_path), gguf_file=file.name, dtype=torch.float32).eval()
    ours: Any = load_module(prepared(file), "causal", device="cpu", dtype="float32")
    ids = torch.tensor([list(range(3, 60))])
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    assert float((expected - found).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_a_classifier_loads_by_itself(name: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    """Head, positions, token types and the layout of pairs, in a folder of its own or by its path."""
    file = write_gguf(family(name), tmp_path / "my model.gguf", rank=True)
    expected = rerank_core.load(family(name), device="cpu").score(PAIRS)
    for source in (file, tmp_path):
        reranker = rerank_core.load(source, device="cpu")
        assert_close(expected, reranker.score(PAIRS))
    assert reranker.spec.name == "my-model"
    assert reranker.spec.max_length == 512
    assert_close(expected, rerank_core.load(family(name), checkpoint=file, device="cpu").score(PAIRS))


def test_a_qwen3_reranker_loads_by_itself(family: Callable[[str], Path], tmp_path: Path) -> None:
    """The rows of its two labels and its prompt: the score of the named model, whose output layer is whole."""
    spec = rerank_core.ModelSpec(
        name="whole",
        template=Template(
            before=QWEN3_PROMPT.partition("<Query>")[0], query="<Query>: {query}\n<Document>:", doc=" {doc}",
            after=QWEN3_PROMPT.partition("{document}")[2],
        ),
        head=Head.last_token("yes", "no"), max_length=1024, activation="sigmoid",
    )  # fmt: skip
    expected = load(family("qwen3"), spec)
    file = write_gguf(family("qwen3"), tmp_path / "m.gguf", rank=True)
    reranker = rerank_core.load(file, device="cpu")
    assert_close(expected.score(PAIRS), reranker.score(PAIRS))
    assert_close(expected.rerank(QUERY, DOCS).scores(), reranker.rerank(QUERY, DOCS).scores())
    # The named spec's template and labels, the file's rows.
    assert_close(load(family("qwen3")).score(PAIRS), load(file).score(PAIRS))
    with pytest.raises(CheckpointError, match=r"holds the output rows of the tokens .* alone"):
        load(
            file,
            rerank_core.ModelSpec(name="t", template=SPEC.template, head=Head.last_token("bear"), options=SPEC.options),
        )
    with pytest.raises(CheckpointError, match="lm_head"):
        load_module(prepared(file), "causal", device="cpu", dtype="float32")


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_the_checkpoint_rounded(kind: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    expected = load(rounded_copy(family("llama"), tmp_path / "rounded", kind)).score(PAIRS)
    file = write_gguf(family("llama"), tmp_path / "m.gguf", kind)
    assert load(file).score(PAIRS) == expected


# The largest difference in a block, in parts of its largest number: half a step of rounding, or for the types without
# an offset a whole step at the end that has one step less.
BOUNDS = {"Q8_0": 0.5 / 127, "Q5_1": 2 * 0.5 / 31, "Q4_1": 2 * 0.5 / 15, "Q5_0": 1 / 16, "Q4_0": 1 / 8}


@pytest.mark.parametrize("kind", BOUNDS)
def test_quantized_weights_are_within_their_bound(kind: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    """And they are the package's own numbers, in each dtype that is asked for."""
    file = write_gguf(family("qwen2"), tmp_path / "m.gguf", kind)
    directory = prepared(file)
    module: Any = load_module(directory, "causal", device="cpu", dtype="float32")
    weights = dict(module.named_parameters())
    half: Any = load_module(directory, "causal", device="cpu", dtype="bfloat16")
    source = gguf_tensors(directory)
    assert source is not None
    quantized = 0
    for name, original in load_file(family("qwen2") / "model.safetensors").items():
        if original.ndim != 2 or source.tensors[name].info.type != kind:
            continue
        quantized += 1
        found = weights[name].detach().numpy()
        type_ = gguf.GGMLQuantizationType[kind]
        package = gguf.dequantize(gguf.quantize(original, type_), type_)
        assert np.array_equal(found, package)
        blocks = np.abs(original.reshape(-1, 32)).max(axis=1, keepdims=True)
        off = np.abs(original - found).reshape(-1, 32)
        assert bool((off <= blocks * (BOUNDS[kind] * 1.05 + 1e-3)).all())
        assert torch.equal(dict(half.named_parameters())[name].detach(), torch.from_numpy(package).bfloat16())
    assert quantized > 10
