"""Which attention packed rows take is decided beforehand, and every way gives what the padded module gives."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.models.small_classifiers import FAMILIES, HALF, ROWS, batch_of, classifier, scorer
from rerank_core import Head, ModelSpec, Template
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing, varlen
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.encoder.straighten import restore
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.maxsim_scorer import LateInteractionScorer
from rerank_core.backends.torch.load_weights import load_module
from rerank_core.testing import fake_spec, tiny_cross_encoder, tiny_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer

OnMeta = Callable[[str], Any]
NOW = ("query", "key", "value", "scale", "window_size")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("width", [8, 32, 64, 256])
def test_half_precision_on_cuda_takes_one_kernel(dtype: torch.dtype, width: int) -> None:
    """From compute capability 8.0 on, heads that FlashAttention computes attend in one call."""
    for generation in [(8, 0), (8, 9), (9, 0), (12, 0)]:
        assert varlen.possible("cuda", generation, NOW, dtype, width)


@pytest.mark.parametrize(
    ("kind", "generation", "arguments", "dtype", "width"),
    [
        ("cpu", (8, 0), NOW, torch.float16, 64),
        ("mps", (8, 0), NOW, torch.float16, 64),
        ("cuda", (7, 5), NOW, torch.float16, 64),
        ("cuda", (8, 0), NOW, torch.float32, 64),
        ("cuda", (8, 0), NOW, torch.float16, 264),
        ("cuda", (8, 0), NOW, torch.float16, 20),
        ("cuda", (8, 0), (), torch.float16, 64),
        ("cuda", (8, 0), ("query", "key", "value", "is_causal", "scale"), torch.float16, 64),
    ],
    ids=["cpu", "mps", "old card", "float32", "wide heads", "odd heads", "old torch", "torch without windows"],
)
def test_everything_else_takes_groups(
    kind: str, generation: tuple[int, int], arguments: tuple[str, ...], dtype: torch.dtype, width: int
) -> None:
    """What the kernel does not compute is known before it is called."""
    assert not varlen.possible(kind, generation, arguments, dtype, width)


def test_torch_without_the_module_takes_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older torch has no variable-length attention: that is not an error."""
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    varlen._function.cache_clear()
    try:
        assert varlen._function() is None
    finally:
        varlen._function.cache_clear()


def test_this_torch_has_the_arguments_that_are_passed() -> None:
    """The constants of tests and room are those of the function itself, where this torch has it."""
    module = pytest.importorskip("torch.nn.attention.varlen", reason="torch >= 2.10")
    parameters = inspect.signature(module.varlen_attn).parameters
    positional = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert list(parameters)[:7] == positional
    if "window_size" in parameters:
        assert set(varlen._NEEDED) <= set(parameters)


class Calls(TorchDispatchMode):
    """What reaches the kernel: ``(queries, longest query, longest key, scale, window)`` of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int, float, tuple[int, int]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("torch_attn._varlen_attn"):
            query, _, _, _, _, longest_query, longest_key, _, scale, window, *_ = args
            self.seen.append((len(query), longest_query, longest_key, scale, tuple(window)))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnMeta]:
    """Scorers on the meta device, as if the kernel served there."""
    pytest.importorskip("torch.nn.attention.varlen", reason="torch >= 2.10")
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)

    def make(family: str) -> Any:
        made: Any = scorer(family, torch.bfloat16, "cpu")
        made.module.to("meta")
        monkeypatch.setattr(varlen, "serves", lambda device, dtype, width: True)
        return made

    cached = (varlen._function, varlen._arguments)
    for one in cached:
        one.cache_clear()
    yield make
    for one in cached:
        one.cache_clear()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_module_goes_through_torchs_function(family: str, on_meta: OnMeta) -> None:
    """Without a GPU the numbers cannot be computed, but on the meta device torch's own function takes every call of a
    real module: whole rows and first tokens, scales and windows."""
    made = on_meta(family)
    with Calls() as calls:
        logits = made.read(ROWS, [None] * len(ROWS), packed=True)

    total, longest = sum(map(len, ROWS)), max(map(len, ROWS))
    whole = (total, longest, longest, 32**-0.5, (-1, -1))
    first_tokens = (len(ROWS), 1, longest, 32**-0.5, (-1, -1))
    if family == "bert":
        assert calls.seen == [whole, whole, first_tokens]
    else:
        side = made.module.config.sliding_window
        local = (*whole[:4], (side, side))
        assert calls.seen == [whole, local, first_tokens]
    assert logits.shape == (len(ROWS),)


def test_dropout_goes_to_the_operator_under_it(on_meta: OnMeta) -> None:
    """In training every layer asks the kernel for the attention's dropout."""
    made = on_meta("bert")
    restore(made.straightened)
    made.module.to("meta").train()
    seen: list[tuple[float, bool, int]] = []

    class Dropped(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._flash_attention_forward.default:
                seen.append((*args[7:9], kwargs["window_size_left"]))
            return func(*args, **(kwargs or {}))

    with Dropped():
        made.module(**made.forward_inputs(batch_of(ROWS), packed=True))
    assert seen == [(0.1, False, -1)] * 3


def test_bounds_are_those_of_the_rows() -> None:
    """Cumulative lengths in int32, as the kernel reads them; starts in int64, to index with."""
    made = packing.Packing.of([5, 3, 3, 1], torch.device("cpu"))
    assert (made.cu_seqlens.tolist(), made.cu_seqlens.dtype) == ([0, 5, 8, 11, 12], torch.int32)
    assert (made.row_starts.tolist(), made.row_starts.dtype) == ([0, 5, 8, 11], torch.int64)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_packed_where_float32_is(family: str, dtype: torch.dtype) -> None:
    """The trial at load tells architectures apart in half precision too."""
    assert scorer(family, dtype, "cpu").packed == (family != "deberta-v2")


@pytest.mark.parametrize("dtype", HALF)
def test_a_leak_smaller_than_the_tolerance_is_found(dtype: torch.dtype) -> None:
    """A model whose rows see each other is padded, even where its scores are so small that they all agree."""
    module = classifier("bert", dtype, "cpu", 0.06)
    module.base_model.encoder.register_forward_pre_hook(
        lambda encoder, args, kwargs: (args, {name: value for name, value in kwargs.items() if name != "packing"}),
        with_kwargs=True,
    )
    made = ClassifierScorer(module, TextTokenizer(tiny_tokenizer("bert")), fake_spec(), execution=Execution())
    assert not made.packed
    rows = packing.probe_rows(module)
    alone, leaking = (made.read(rows, [None] * len(rows), packed=way) for way in (False, True))
    assert packing.agree(list(alone), list(leaking), dtype), "so the tolerance alone would not have told"


def test_trial_changes_the_neighbours_and_nothing_else() -> None:
    """The first row stays, the others keep their lengths and not their tokens."""
    rows = packing.probe_rows(scorer("bert", torch.bfloat16, "cpu").module)
    others = packing.other_neighbours(rows)
    assert others[0] == rows[0]
    assert [len(row) for row in others] == [len(row) for row in rows]
    assert all(a != b for a, b in zip(others[1:], rows[1:], strict=True))


def test_agreement_is_that_of_directions() -> None:
    """Unit vectors have small entries; their distance is what counts, and NaN agrees with nothing."""
    unit = torch.nn.functional.normalize(torch.ones(3, 400), dim=-1)
    turned = unit * torch.tensor([1.0, -1.0]).repeat(200)
    assert packing.agree([unit], [unit * 1.01], torch.bfloat16)
    assert not packing.agree([unit], [turned], torch.bfloat16)
    assert not packing.agree([torch.tensor(1.0)], [torch.tensor(float("nan"))], torch.bfloat16)
    assert packing.agree([torch.tensor(8.0)], [torch.tensor(8.5)], torch.bfloat16)
    assert not packing.agree([torch.tensor(8.0)], [torch.tensor(9.0)], torch.bfloat16)


@pytest.mark.parametrize("dtype", HALF)
def test_late_interaction_is_packed_in_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    """Its vectors are float32 whatever the model computes in; the trial goes by the model's dtype."""
    directory = tiny_encoder(tmp_path, "bert", std=0.1)
    spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("mean"), max_length=512)
    module = load_module(directory, "maxsim", device="cpu", dtype=str(dtype).removeprefix("torch."))
    tokenizer = TextTokenizer.from_directory(directory, parse_special_tokens=False)
    assert LateInteractionScorer(module, tokenizer, spec, execution=Execution()).packed


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_weights_are_loaded_in_the_dtype_asked_for(tmp_path: Path, name: str) -> None:
    """Every parameter and floating buffer, so that no second copy in float32 stays behind."""
    module = load_module(tiny_cross_encoder(tmp_path, "bert"), "classifier", device="cpu", dtype=name)
    parts = [*module.parameters(), *module.buffers()]
    assert {part.dtype for part in parts if part.is_floating_point()} == {getattr(torch, name)}
