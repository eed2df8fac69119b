"""On a GPU one kernel gives what groups of equal length and the padded module give, gradients and dropout included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.models.small_classifiers import FAMILIES, HALF, ROWS, batch_of, classifier, scorer
from helpers.training import scores_of
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing, varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.testing import fake_spec
from rerank_core.testing.checkpoints import tiny_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="variable-length attention runs on CUDA alone")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "deberta-v2"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 3e-2)], ids=str
)
def test_packed_rows_score_on_cuda_as_the_padded_module(family: str, dtype: torch.dtype, tolerance: float) -> None:
    """One kernel or groups, the scores are those of the plain module, local windows included."""
    made: Any = scorer(family, dtype, "cuda")
    assert made.packed
    assert made._allow_varlen
    assert varlen.serves(made.device, dtype, 32) == (dtype in HALF)
    types = [None] * len(ROWS)
    padded, packed = (made.read(ROWS, types, packed=way).float() for way in (False, True))
    assert float(padded.std()) > 2 * tolerance
    assert torch.allclose(padded, packed, rtol=0, atol=tolerance)
    made._allow_varlen = False
    assert torch.allclose(padded, made.read(ROWS, types, packed=True).float(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("sliding_window", [None, 1, 8, 200])
def test_one_kernel_is_the_groups(dtype: torch.dtype, sliding_window: int | None) -> None:
    """The attention function itself, both ways, on the same tensors."""
    lengths = [70, 33, 33, 9, 1]
    q, k, v = (torch.randn(1, 2, sum(lengths), 32, device="cuda", dtype=dtype) for _ in range(3))
    ways = [packing.Packing.of(lengths, q.device, allow_varlen=way) for way in (True, False)]
    module = torch.nn.Module()
    one, groups = (
        packing._attention(module, q, k, v, None, packing=way, sliding_window=sliding_window, scaling=0.3)[0]
        for way in ways
    )
    assert torch.allclose(one.float(), groups.float(), rtol=0, atol=4e-3 if dtype == torch.float16 else 3e-2)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("sliding_window", [None, 8])
def test_gradients_on_cuda_are_those_of_groups(dtype: torch.dtype, sliding_window: int | None) -> None:
    """The kernel's backward pass, on the same tensors and the same gradient of the output."""
    lengths = [70, 33, 33, 9, 1]
    given = [torch.randn(1, 2, sum(lengths), 32, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    above = torch.randn(1, sum(lengths), 2, 32, device="cuda", dtype=dtype)
    found = []
    for allow_varlen in (True, False):
        way = packing.Packing.of(lengths, above.device, allow_varlen=allow_varlen)
        out = packing._attention(
            torch.nn.Module(), *given, None, packing=way, sliding_window=sliding_window, scaling=0.3
        )[0]
        found.append(torch.autograd.grad(out, given, above))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / other.norm()) < (2e-3 if dtype == torch.float16 else 2e-2)


def test_dropout_on_cuda_drops_weights_and_their_gradient() -> None:
    """With values that show the weights, what was kept is read off the output; plain products with those weights kept
    give the same output and gradients. The same seed draws the same again."""
    rows, length = 3, 32
    packed = packing.Packing.of([length] * rows, torch.device("cuda"))
    query, key = (
        torch.randn(1, 2, rows * length, 32, device="cuda", dtype=torch.float16, requires_grad=True) for _ in range(2)
    )
    shown = torch.eye(length, device="cuda", dtype=torch.float16).repeat(rows, 1).expand(1, 2, -1, -1)
    value = shown.clone().requires_grad_()

    def attend() -> torch.Tensor:
        torch.manual_seed(3)
        return packed.attend(query, key, value, AttentionCall(0.2, dropout=0.25))

    out = attend()
    assert torch.equal(out, attend())
    kept = out.detach()[0].view(rows, length, 2, length).permute(2, 0, 1, 3) != 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.03)

    q, k, v = (part[0].view(2, rows, length, 32).float() for part in (query, key, value))
    expected = (torch.softmax(q @ k.mT * 0.2, -1) * kept / 0.75) @ v
    expected = expected.permute(1, 2, 0, 3).reshape(out.shape)
    assert torch.allclose(out.float(), expected, atol=2e-3)
    above = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(one, (query, key, value), above.to(one)) for one in (out, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).float().norm() / other.float().norm()) < 5e-3


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_under_autocast_takes_one_kernel(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights stay float32, attention runs in bfloat16, whole rows and first tokens; gradients are near those of
    float32 where nothing is drawn."""
    module = classifier("bert", torch.float32, "cuda", 0.1)
    made: Any = ClassifierScorer(
        module, TextTokenizer(tiny_tokenizer("bert")), fake_spec(), execution=Execution(live=True)
    )
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout
    module.train()
    seen: list[float] = []
    plain = varlen.attend

    def kept(*args: Any, **options: Any) -> torch.Tensor:
        seen.append(args[3].dropout)
        return plain(*args, **options)

    monkeypatch.setattr(varlen, "attend", kept)
    batch = batch_of(ROWS)

    def gradient(lower: bool) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=lower):
            scores_of(module, made, batch, packed=True).square().sum().backward()
        weight = module.base_model.encoder.layer[0].attention.self.query.weight
        found, weight.grad = weight.grad, None
        return found

    lower = gradient(True)
    assert seen == [dropout] * 3
    assert bool(torch.isfinite(lower).all())
    if not dropout:
        whole = gradient(False)
        assert float((lower - whole).norm() / whole.norm()) < 0.1
