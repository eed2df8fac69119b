"""The packed engine gives what the padded one gives, computes no padding, and is used only where it is right."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification, MPNetConfig, MPNetModel

import rerank_core
from helpers.models.small_classifiers import LOCAL, SMALL
from rerank_core import Head, ModelSpec, Reranker, Template, write_spec
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.encoder.products import Prepared
from rerank_core.backends.torch.encoder.straight_layer import StraightLayer
from rerank_core.backends.torch.execution import Execution
from rerank_core.testing import fake_spec, tiny_cross_encoder, tiny_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "roberta": {**SMALL, "pad_token_id": 1},
    "xlm-roberta": {**SMALL, "pad_token_id": 1},
    "camembert": {**SMALL, "pad_token_id": 1},
    "electra": {**SMALL, "embedding_size": 32},
    "ernie": SMALL,
    "modernbert": {**SMALL, **LOCAL, "bos_token_id": 1, "eos_token_id": 2},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64, "num_labels": 1},
}
# DeBERTa computes its own attention; Qwen2's classifier reads the last token, not the first.
PADDED = {
    "deberta-v2": {**SMALL, "relative_attention": True, "pos_att_type": "p2c|c2p"},
    "qwen2": {**SMALL, "num_key_value_heads": 2},
}


def scorer(family: str, config: dict[str, Any]) -> ClassifierScorer:
    """A random classifier of an architecture, its rows packed if they can be."""
    tokenizer = tiny_tokenizer("bert")
    size = max(tokenizer.get_vocab().values()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, vocab_size=size, **config))
        for weights in module.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=0.3)
    return ClassifierScorer(module.eval(), TextTokenizer(tokenizer), fake_spec(), execution=Execution())


def rows_of(lengths: list[int]) -> list[list[int]]:
    """Rows of ordinary token ids of these lengths, all different."""
    numbers = itertools.count(7)
    return [[2, *(5 + next(numbers) * 13 % 200 for _ in range(length - 2)), 3] for length in lengths]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_score_as_alone_and_as_padded(family: str) -> None:
    """Architectures that hand arguments down to their attention are packed; long rows, equal ones and short ones
    score what they score alone, local attention windows included."""
    made = scorer(family, FAMILIES[family])
    rows = rows_of([70, 33, 33, 33, 9, 4])
    types = [None] * len(rows)

    assert made.packed
    alone = torch.stack([made.read([row], [None], packed=False)[0] for row in rows])
    assert float(alone.std()) > 0.1
    assert torch.allclose(alone, made.read(rows, types, packed=True), atol=1e-5, rtol=1e-5)
    assert torch.allclose(alone, made.read(rows, types, packed=False), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_last_layer_computes_only_what_is_read(family: str) -> None:
    """In the last layer of a BERT-like encoder only the first token of each row reaches the feed-forward block."""
    made: Any = scorer(family, FAMILIES[family])
    seen: list[int] = []
    for layer in made.module.base_model.encoder.layer:
        layer.norm.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    rows = rows_of([20, 11, 11, 5])
    made.read(rows, [None] * 4, packed=True)

    assert seen == [47, 47, 4]


def test_linear_layers_are_prepacked_on_cpu() -> None:
    """On CPU in float32 no ordinary linear layer is left in the encoder."""
    made: Any = scorer("bert", FAMILIES["bert"])
    encoder = made.module.base_model.encoder

    assert not [part for part in encoder.modules() if type(part) is torch.nn.Linear]
    assert [type(layer) for layer in encoder.layer] == [StraightLayer] * len(encoder.layer)
    assert isinstance(encoder.layer[0].inner, Prepared)


def test_approximate_gelu_stays_outside_the_product() -> None:
    """Another activation is not taken for GELU; products are prepared all the same."""
    made: Any = scorer("bert", {**SMALL, "hidden_act": "gelu_new"})
    intermediate = made.module.base_model.encoder.layer[0].intermediate

    assert type(intermediate.dense) is not torch.nn.Linear
    assert not isinstance(intermediate.intermediate_act_fn, torch.nn.Identity)


@pytest.mark.parametrize("family", PADDED)
def test_other_architectures_are_padded(family: str) -> None:
    """What cannot be packed is found out by trying, and keeps its own attention implementation."""
    made = scorer(family, PADDED[family])
    assert not made.packed
    assert made.module.config._attn_implementation != packing.NAME
    assert len(made.read(rows_of([9, 5]), [None] * 2, packed=False)) == 2


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny typed cross-encoder."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("packing"), "bert")


@pytest.fixture(scope="module")
def loaded(directory: Path) -> Reranker:
    """It, loaded."""
    return rerank_core.load(directory, device="cpu")


@given(lengths=st.lists(st.integers(3, 120), min_size=1, max_size=12))
@settings(deadline=None, max_examples=25)
def test_any_mixture_of_lengths_packs(loaded: Reranker, lengths: list[int]) -> None:
    """Neighbours of any length, in any order, change nothing, token types included."""
    made: Any = loaded.scorer
    rows = rows_of(lengths)
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in rows]

    packed, padded = (made.read(rows, types, packed=way) for way in (True, False))
    assert torch.allclose(packed, padded, atol=1e-5, rtol=1e-5)


def test_no_padding_is_computed(loaded: Reranker) -> None:
    """The tokens that reach the first layer are those of the rows, as `usage` counts them, and not one more."""
    seen: list[int] = []
    module: Any = loaded.scorer.module  # type: ignore[union-attr]
    embeddings = module.base_model.embeddings
    hook = embeddings.register_forward_hook(lambda module, given, out: seen.append(out.shape[0] * out.shape[1]))
    try:
        ranking = loaded.rerank("what is a panda?", ["a bear", "a bear " * 40, "竹子", "", "a bear " * 9])
    finally:
        hook.remove()
    assert sum(seen) == ranking.usage.tokens


def test_live_module_keeps_its_own_attention(directory: Path) -> None:
    """A module that is not ours is padded and not changed; one loaded with our attention is packed."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    plain = AutoModelForSequenceClassification.from_pretrained(directory)
    ours = AutoModelForSequenceClassification.from_pretrained(directory, attn_implementation=packing.NAME)
    scorers: list[Any] = [scorer_of(module, tokenizer, fake_spec()) for module in (plain, ours)]

    assert [made.packed for made in scorers] == [False, True]
    assert plain.config._attn_implementation == "sdpa"
    batch = tokenizer(["a bear", "a"], ["x", "y y y"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.allclose(plain.eval()(**batch).logits, ours.eval()(**batch).logits, atol=1e-6)


def out_of_device_memory() -> None:
    raise torch.OutOfMemoryError("a test's memory")


def out_of_cpu_memory() -> None:
    """As torch does on a CPU: a plain RuntimeError."""
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("fail", [out_of_device_memory, out_of_cpu_memory])
def test_out_of_memory_halves_the_budget_and_loses_nothing(directory: Path, fail: Callable[[], None]) -> None:
    """Above what fits, a batch is scored in halves, the smaller budget is remembered, and scores are unchanged."""
    documents = ["a bear " * count for count in range(1, 30)]
    expected = rerank_core.load(directory, device="cpu").rerank("what is a panda?", documents).scores()
    tight = rerank_core.load(directory, device="cpu")
    made: Any = tight.scorer
    tried: list[int] = []

    def too_much(module: Any, args: Any, kwargs: Any) -> None:
        tokens = kwargs["input_ids"].numel()
        tried.append(tokens)
        if tokens > 300:
            fail()

    made.module.register_forward_pre_hook(too_much, with_kwargs=True)
    before = made.token_budget
    assert tight.rerank("what is a panda?", documents).scores() == pytest.approx(expected, abs=1e-5)
    failed = sum(tokens > 300 for tokens in tried)
    assert made.token_budget < before

    tried.clear()
    tight.rerank("what is a panda?", documents)
    assert sum(tokens > 300 for tokens in tried) < failed


def test_a_budget_that_does_not_fit_is_not_tried_again(directory: Path) -> None:
    """A caller's own token_budget is above what fits in every call; only the first one runs out of memory."""
    documents = ["a bear " * count for count in range(1, 30)]
    expected = rerank_core.load(directory, device="cpu").rerank("what is a panda?", documents).scores()
    tight = rerank_core.load(directory, device="cpu", token_budget=100_000)
    made: Any = tight.scorer
    failed: list[int] = []

    def too_much(module: Any, args: Any, kwargs: Any) -> None:
        tokens = kwargs["input_ids"].numel()
        if tokens > 300:
            failed.append(tokens)
            raise torch.OutOfMemoryError(f"{tokens} tokens")

    made.module.register_forward_pre_hook(too_much, with_kwargs=True)
    assert tight.rerank("what is a panda?", documents).scores() == pytest.approx(expected, abs=1e-5)
    assert failed

    failed.clear()
    assert tight.rerank("what is a panda?", documents).scores() == pytest.approx(expected, abs=1e-5)
    assert failed == []


def test_other_errors_are_not_taken_for_a_lack_of_memory(directory: Path) -> None:
    """A RuntimeError of another kind comes through unchanged, after one try."""
    broken = rerank_core.load(directory, device="cpu")
    made: Any = broken.scorer
    tries: list[int] = []

    def fail(module: Any, args: Any) -> None:
        tries.append(1)
        raise RuntimeError("shape mismatch")

    made.module.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        broken.rerank("what is a panda?", ["a", "b"])
    assert tries == [1]


def test_a_module_with_its_own_attention_loads_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """MPNet computes its own attention: its rows are padded, and nothing is logged or printed about it."""
    folder = tiny_encoder(tmp_path)
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    config = MPNetConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    MPNetModel(config).save_pretrained(folder)
    write_spec(ModelSpec(name="mpnet", template=Template.each(), head=Head.maxsim(), max_length=128), folder)
    capfd.readouterr()
    caplog.clear()
    reranker = rerank_core.load(folder, device="cpu")

    assert len(reranker.rerank("a panda", ["bamboo", ""])) == 2
    assert not reranker.scorer.packed  # type: ignore[union-attr]
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")
