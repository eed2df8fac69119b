"""Training vectors are those of serving, packed or padded, with equal gradients, and the head's layers are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import rerank_core
from helpers.plain import assert_close
from helpers.training import DOCS, QUERIES, apart, batch_of, live
from rerank_core import CheckpointError, Head, ModelSpec, Reranker, Template, TokenVectors, write_spec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.trainable import TrainableVectors
from rerank_core.scorer import Batch
from rerank_core.testing import tiny_causal_lm, tiny_encoder

TEMPLATE = Template.each(query="query: {query}", doc="passage: {doc}")
EXPANDED = TokenVectors(expand_to=24, expand_with="[MASK]", skip=(".", ","))
HEADS = {
    "mean": Head.cosine("mean"),
    "cls": Head.cosine("cls"),
    "last": Head.cosine("last"),
    "maxsim": Head.maxsim("mean"),
    "both": Head.maxsim("sum", pooling="mean"),
    "expanded": Head.maxsim("sum", EXPANDED),
    "skipped": Head.maxsim("sum", TokenVectors(skip_first=True, normalize=False)),
}


def opened(tmp_path: Path, family: Any, head: Head) -> tuple[Any, Any]:
    """A live module in evaluation, so that dropout does not hide a difference."""
    make: Any = tiny_causal_lm if family == "qwen3" else tiny_encoder
    module, scorer = live(
        make(tmp_path / "model", family, std=0.1), ModelSpec(name="tiny", template=TEMPLATE, head=head)
    )
    module.eval()
    assert isinstance(scorer, TrainableVectors)
    assert scorer.packed
    return module, scorer


def parts_of(module: Any, scorer: Any, batch: Batch, *, packed: bool) -> torch.Tensor:
    """The one tensor of a batch."""
    parts = scorer.parts_from(module(**scorer.forward_inputs(batch, packed=packed)), batch)
    assert len(parts) == 1
    (part,) = parts.values()
    assert part.dtype == torch.float32
    return part


def served(scorer: Any, batch: Batch) -> torch.Tensor:
    """The vectors that serving computes: queries, then rows."""
    embeddings = [*scorer.encode_queries(list(batch.queries.values())), *scorer.encode(batch.rows)]
    name = "vectors" if scorer.spec.head.kind == "maxsim" else "pooled"
    return torch.cat([embedding[name] for embedding in embeddings])


@pytest.mark.parametrize(
    ("family", "head"),
    [
        (family, head)
        for family in ("bert", "xlm-roberta", "qwen3")
        for head in HEADS
        if family == "bert" or head != "expanded"  # the others have no [MASK]
    ],
)
def test_vectors_and_gradients(tmp_path: Path, family: str, head: str) -> None:
    """Packed, padded and served vectors are equal, and so are the gradients of packed and padded rows."""
    module, scorer = opened(tmp_path, family, HEADS[head])
    batch = batch_of(scorer)
    found = {}
    for packed in (True, False):
        module.zero_grad()
        vectors = parts_of(module, scorer, batch, packed=packed)
        torch.manual_seed(0)
        (vectors * torch.randn(vectors.shape)).sum().backward()
        gradient = {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}
        found[packed] = vectors.detach(), gradient

    expected = served(scorer, batch)
    scale = 1 + float(expected.abs().max())
    assert float((found[True][0] - expected).abs().max()) < 1e-6 * scale
    assert float((found[False][0] - expected).abs().max()) < 2e-6 * scale
    assert apart(found[True][1], found[False][1]) < 1e-5
    queries, rows = scorer.vector_counts(batch)
    assert sum(queries) + sum(rows) == len(expected)
    assert (len(queries), len(rows)) == (len(batch.queries), len(batch.rows))


def test_a_part_of_a_step(tmp_path: Path) -> None:
    """Queries without rows, and rows whose query is elsewhere, have the vectors that they have together."""
    module, scorer = opened(tmp_path, "bert", Head.cosine("mean"))
    batch = batch_of(scorer)
    whole = parts_of(module, scorer, batch, packed=True)
    queries = Batch(batch.queries, ())
    rows = Batch({}, batch.rows[3:])
    assert torch.allclose(parts_of(module, scorer, queries, packed=True), whole[:2], atol=1e-6)
    assert torch.allclose(parts_of(module, scorer, rows, packed=True), whole[5:], atol=1e-6)


def test_queries_and_rows_run_in_one_pass(tmp_path: Path) -> None:
    """Packed in one row; a query filled up with tokens that are not attended to pads the batch."""
    _, scorer = opened(tmp_path, "bert", HEADS["expanded"])
    assert scorer.forward_inputs(batch_of(scorer), packed=True)["input_ids"].shape[0] == 12
    _, scorer = opened(tmp_path / "other", "bert", HEADS["maxsim"])
    assert scorer.forward_inputs(batch_of(scorer), packed=True)["input_ids"].shape[0] == 1


def test_a_text_without_a_vector_has_a_zero(tmp_path: Path) -> None:
    """All of its tokens are skipped: one zero vector, which gets no gradient and gives none."""
    head = Head.maxsim("sum", TokenVectors(skip=("[CLS]", "[SEP]", "passage", ":", ".")))
    module, scorer = live(
        tiny_encoder(tmp_path / "model", "bert"), ModelSpec(name="tiny", template=Template.each(), head=head)
    )
    (query,), docs = scorer.tokenize(["a b"], "query"), scorer.tokenize([".", "a bear"], "doc")
    rows = [scorer.row(query, doc, 0, len(doc), (0, number, 0)) for number, doc in enumerate(docs)]
    batch = Batch({0: scorer.query_row(query)}, rows)
    counts = scorer.vector_counts(batch)
    vectors = parts_of(module, scorer, batch, packed=True)

    assert counts[1][0] == 1
    assert not vectors[counts[0][0]].any()
    vectors[counts[0][0]].sum().backward()
    assert all(one.grad is None or not one.grad.any() for one in module.parameters())


@pytest.mark.parametrize("kind", ["given", "own"])
def test_the_projection_of_a_live_module_is_trained(tmp_path: Path, kind: str) -> None:
    """The submodule ``projection`` is the head's layers: one object owns all weights, and serving reads them live."""
    spec = ModelSpec(
        name="tiny", template=TEMPLATE, head=Head.maxsim("sum", TokenVectors(projection=("projection.0.weight",)))
    )
    plain = ModelSpec(name="tiny", template=TEMPLATE, head=Head.maxsim("sum"))
    module, scorer = live(tiny_encoder(tmp_path / "model", "bert"), plain)
    layers = torch.nn.Sequential(torch.nn.Linear(module.config.hidden_size, 6))
    with pytest.raises(CheckpointError, match="without"):
        scorer_of(module, scorer.tokenizer, spec)
    if kind == "own":
        module.projection = layers
        scorer = scorer_of(module, scorer.tokenizer, spec)
    else:
        scorer = scorer_of(module, scorer.tokenizer, spec, project=layers)
    batch = batch_of(scorer)
    vectors = parts_of(module, scorer, batch, packed=True)
    vectors[:, 0].sum().backward()

    assert vectors.shape[1] == 6
    assert layers[0].weight.grad is not None
    before = served(scorer, batch)
    with torch.no_grad():
        layers[0].weight.neg_()
    assert not torch.allclose(served(scorer, batch), before)
    assert ("projection.0.weight" in module.state_dict()) == (kind == "own")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["cosine", "maxsim"])
def test_a_saved_module_is_served_with_its_projection(tmp_path: Path, kind: str, bias: bool) -> None:
    """transformers saves the module with its projection; the spec names the layers' weights, and scores are equal."""
    names = ("projection.0.weight", "projection.1.weight")
    heads = {"cosine": Head.cosine("mean", names), "maxsim": Head.maxsim("sum", TokenVectors(projection=names))}
    spec = ModelSpec(name="tiny", template=TEMPLATE, head=heads[kind])
    directory = tiny_encoder(tmp_path / "model", "bert")
    module, plain = live(directory, ModelSpec(name="tiny", template=TEMPLATE, head=Head.cosine("mean")))
    width = module.config.hidden_size
    module.projection = torch.nn.Sequential(torch.nn.Linear(width, 9, bias=bias), torch.nn.Linear(9, 6, bias=bias))
    scorer = scorer_of(module, plain.tokenizer, spec)
    expected = Reranker.from_scorer(scorer, spec).rerank(QUERIES[0], DOCS).scores()
    module.save_pretrained(directory)
    write_spec(spec, directory)

    assert_close(expected, rerank_core.load(directory, device="cpu").rerank(QUERIES[0], DOCS).scores())
    with safe_open(directory / "model.safetensors", "pt") as file:
        assert set(names) <= set(file.keys())


def test_hidden_states_in_half_precision_meet_layers_in_float32(tmp_path: Path) -> None:
    """Under autocast the module's output may be bfloat16; vectors are float32 all the same."""
    spec = ModelSpec(
        name="tiny", template=TEMPLATE, head=Head.maxsim("sum", TokenVectors(projection=("projection.0.weight",)))
    )
    module, scorer = live(
        tiny_encoder(tmp_path / "model", "bert"), ModelSpec(name="tiny", template=TEMPLATE, head=Head.maxsim("sum"))
    )
    module.projection = torch.nn.Sequential(torch.nn.Linear(module.config.hidden_size, 6))
    scorer = scorer_of(module, scorer.tokenizer, spec)
    batch = batch_of(scorer)
    output = module(**scorer.forward_inputs(batch, packed=True))
    output.last_hidden_state = output.last_hidden_state.bfloat16()
    assert scorer.parts_from(output, batch)["vectors"].dtype == torch.float32
