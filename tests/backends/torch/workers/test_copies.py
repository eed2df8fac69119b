"""Copies of a model on several devices: the scores of one, by all copies, for every kind of model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models import seq2seq
from helpers.models.causal import YES_NO, layered
from helpers.plain import DOCUMENTS, LONG, QUERIES
from rerank_core import Head, InputError, ModelSpec, Reranker, Template, write_spec
from rerank_core.backends.torch.workers.copies import ScorerCopies
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder, tiny_encoder_decoder

REQUESTS = [(query, (*DOCUMENTS[start:], LONG)) for start, query in enumerate(QUERIES[:2])]
LAYERS = ModelSpec(
    name="by-layer",
    template=Template(before="{bos}", query="Q: {query}", between="\n", doc="D: {doc}", after="\nso?"),
    head=Head.layers(2, 2),
    max_length=512,
)
EACH = Template.each(query="query: {query}", doc="passage: {doc}")


def _layerwise(folder: Path) -> Path:
    base = tiny_causal_lm(folder / "base", "llama", tokenizer="sentencepiece", layers=5)
    module, tokenizer = layered(base, range(2, 6, 2))
    module.save_pretrained(str(folder / "layers"))
    tokenizer.save_pretrained(str(folder / "layers"))
    return folder / "layers"


# The folder of each kind of model, its reranker.json, and options of every call.
KINDS: dict[str, tuple[Callable[[Path], Path], ModelSpec | None, dict[str, Any]]] = {
    "cross-encoder": (lambda folder: tiny_cross_encoder(folder, "bert"), None, {}),
    "decoder": (lambda folder: tiny_causal_lm(folder, "qwen2"), YES_NO, {}),
    "cascade": (_layerwise, LAYERS, {"cascade": {2: 3}}),
    "late interaction": (
        lambda folder: tiny_encoder(folder, "bert"),
        ModelSpec(name="tiny", template=EACH, head=Head.maxsim("mean"), max_length=128),
        {},
    ),
    "embedding": (
        lambda folder: tiny_encoder(folder, "xlm-roberta"),
        ModelSpec(name="tiny", template=EACH, head=Head.cosine("mean"), max_length=128),
        {},
    ),
    "encoder-decoder": (tiny_encoder_decoder, seq2seq.SPEC, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a kind of model."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            build, spec, _ = KINDS[kind]
            made[kind] = build(tmp_path_factory.mktemp("made") / "model")
            if spec is not None:
                write_spec(spec, made[kind])
        return made[kind]

    return of


def on_two(folder: Path, **options: Any) -> Reranker:
    return rerank_core.load(folder, device=["cpu", "cpu"], threads=2, **options)


@contextmanager
def passes(reranker: Reranker) -> Iterator[list[int]]:
    """Calls of the embedding tables of each copy."""
    counts = [0] * len(copies(reranker))

    def count(number: int) -> Callable[..., None]:
        def add(*_: object) -> None:
            counts[number] += 1

        return add

    handles = [
        part.register_forward_hook(count(number))
        for number, copy in enumerate(copies(reranker))
        for part in copy.module.modules()
        if isinstance(part, torch.nn.Embedding)
    ]
    yield counts
    for handle in handles:
        handle.remove()


def copies(reranker: Reranker) -> Sequence[Any]:
    assert isinstance(reranker.scorer, ScorerCopies)
    return reranker.scorer.copies


def scores(reranker: Reranker, **call: Any) -> list[list[float]]:
    return [ranking.scores() for ranking in reranker.rerank_many(REQUESTS, **call)]


def assert_equal(expected: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> None:
    """To 1e-6, relative to scores above 1."""
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_one_device_and_both_copies_work(kind: str, folder: Callable[[str], Path]) -> None:
    """All queries, documents of several windows, scores in the caller's order; a cascade drops the same documents."""
    call = KINDS[kind][2]
    one, two = rerank_core.load(folder(kind), device="cpu"), on_two(folder(kind))
    with passes(two) as counts:
        found = list(two.rerank_many(REQUESTS, **call))

    for expected, ranking in zip(one.rerank_many(REQUESTS, **call), found, strict=True):
        assert {hit.index: hit.stage for hit in ranking} == {hit.index: hit.stage for hit in expected}
        assert_equal([expected.scores()], [ranking.scores()])
    assert min(counts) > 0
    if kind == "cascade":
        assert {hit.stage for ranking in found for hit in ranking} == {0, 1}


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "int8"}, {"token_budget": 300}], ids=str)
def test_options_reach_every_copy(options: dict[str, Any], folder: Callable[[str], Path]) -> None:
    """A dtype and a token budget give the scores that they give on one device."""
    one = rerank_core.load(folder("cross-encoder"), device="cpu", threads=2, **options)
    two = on_two(folder("cross-encoder"), **options)
    with passes(two) as counts:
        found = scores(two)

    assert_equal(scores(one), found)
    assert min(counts) > 0


def test_copies_merge_adapters(tmp_path: Path, folder: Callable[[str], Path]) -> None:
    """A LoRA folder is merged into each copy."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from transformers import AutoModelForSequenceClassification

    base = folder("cross-encoder")
    auto: Any = AutoModelForSequenceClassification
    torch.manual_seed(1)
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", init_lora_weights=False)
    peft.get_peft_model(auto.from_pretrained(str(base)), lora).save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base)}))

    adapted = scores(rerank_core.load(tmp_path, device="cpu"))
    assert adapted != scores(rerank_core.load(base, device="cpu"))
    assert_equal(adapted, scores(on_two(tmp_path)))


def test_many_callers_share_the_copies(folder: Callable[[str], Path]) -> None:
    """Eight threads with queries of their own."""
    two = on_two(folder("decoder"))
    expected = scores(two)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: two.rerank(*REQUESTS[number % len(REQUESTS)]).scores(), range(8)))

    assert_equal([expected[number % len(REQUESTS)] for number in range(8)], found)


def test_memory_runs_out_on_one_device_only(folder: Callable[[str], Path]) -> None:
    """The copy without memory halves its batches, and later ones; the other goes on as before."""
    two = on_two(folder("cross-encoder"))
    first, second = copies(two)
    seen: list[int] = []

    def limited(_: object, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0].numel())
        if given[0].numel() > 60 and len(given[0][0]) > 60:
            raise torch.OutOfMemoryError("a test's memory")

    short = [(query, DOCUMENTS[:6]) for query in QUERIES]
    expected = [ranking.scores() for ranking in two.rerank_many(short)]
    handle = first.module.get_input_embeddings().register_forward_pre_hook(limited)
    found = [ranking.scores() for _ in range(3) for ranking in two.rerank_many(short)]
    handle.remove()

    assert max(seen) > 60 >= seen[-1]
    assert first._ceiling < second._ceiling
    assert_equal(expected * 3, found)


def test_an_index_has_one_store(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Both copies encode; the folder opens on one device and on two, and neither encodes again. Queries, vectors and
    explanations equal those of one device."""
    one, two = rerank_core.load(folder("late interaction"), device="cpu"), on_two(folder("late interaction"))
    with passes(two) as counts:
        index = two.index(REQUESTS[0][1], tmp_path)
    assert min(counts) > 0
    assert_equal(
        [one.rerank(QUERIES[0], REQUESTS[0][1]).scores()],
        [two.rerank(QUERIES[0], index).scores()],
    )
    again = one.index(REQUESTS[0][1], tmp_path)
    assert_equal([two.rerank(QUERIES[1], index).scores()], [one.rerank(QUERIES[1], again).scores()])
    for side in ("query", "doc"):
        vectors = [reranker.encode(DOCUMENTS, side=side) for reranker in (one, two)]
        assert all(bool((abs(a - b) <= 1e-6).all()) for a, b in zip(*vectors, strict=True))
    explained = [reranker.rerank(QUERIES[0], DOCUMENTS[:2], explain=True)[0].matches for reranker in (one, two)]
    assert len(explained[0] or ()) == len(explained[1] or ()) > 0


def test_a_pickled_reranker_opens_all_copies(folder: Callable[[str], Path]) -> None:
    """It is its spec and options, as for one device."""
    two = on_two(folder("cross-encoder"))
    opened = pickle.loads(pickle.dumps(two))
    assert len(copies(opened)) == 2
    assert_equal(scores(two), scores(opened))


def test_threads_are_divided_and_one_thread_is_the_callers(folder: Callable[[str], Path]) -> None:
    """The copies have together the threads of one model; with a single thread they compute by turns."""
    two = on_two(folder("cross-encoder"))
    one = rerank_core.load(folder("cross-encoder"), device="cpu", threads=2)
    assert (two.scorer.workers, two.scorer.token_budget) == (one.scorer.workers, one.scorer.token_budget) == (2, 2048)
    alone = rerank_core.load(folder("cross-encoder"), device="cpu,cpu", threads=1)
    assert alone.scorer.workers == (1 if torch.get_num_threads() > 1 else 0)
    assert_equal(scores(one), scores(alone))


def test_devices_are_shown_and_all_copies_are_closed(folder: Callable[[str], Path]) -> None:
    """repr names the device of each copy; ranking after `close` is an error."""
    two = on_two(folder("cross-encoder"))
    assert repr(two).endswith(" on cpu, cpu>")
    two.close()
    assert repr(two).endswith(" (closed)>")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (["cpu", "cpu:7"], "'cpu:7' cannot be used here"),
        (["cuda:98", "cuda:99"], "'cuda:98' cannot be used here"),
        ("meta,meta", "'meta' cannot be used here"),
    ],
)
def test_a_device_that_is_not_there_is_named(device: Any, said: str, folder: Callable[[str], Path]) -> None:
    """Before any weights are read."""
    with pytest.raises(InputError, match=said):
        rerank_core.load(folder("cross-encoder"), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_all_gpus_where_there_is_none(folder: Callable[[str], Path]) -> None:
    """An error, never the CPU instead."""
    with pytest.raises(InputError, match="torch finds no CUDA device"):
        rerank_core.load(folder("cross-encoder"), device="cuda:all")
