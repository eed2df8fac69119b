"""Causal language models as rerankers score as plain Hugging Face, with any shared prefix and any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rerank_core
from helpers.models.causal import PROMPT, SPEC, load, pieces, scorer
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, TEXTS, PlainCausal, assert_close, cut
from rerank_core import CheckpointError, Head, InputError, ModelSpec, Reranker, Template
from rerank_core.testing import ScorerConformance, tiny_causal_lm

# transformers' name of the family, and what its tiny model has beside the usual.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tokenizer": "sentencepiece"}),
    "qwen2": ("qwen2", {}),
    "qwen2 with windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral", {"tokenizer": "sentencepiece", "sliding_window": 16}),
    "gemma": ("gemma", {"tokenizer": "gemma"}),
    "gemma2": (
        "gemma2",
        {
            "tokenizer": "gemma",
            "sliding_window": 16,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "granite": ("granite", {"residual_multiplier": 0.3, "embedding_multiplier": 5.0, "logits_scaling": 2.0}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny model of a family, not to be changed."""
    folder = tmp_path_factory.mktemp("causal")
    ready: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in ready:
            family, config = FAMILIES[name]
            ready[name] = tiny_causal_lm(folder / name.replace(" ", "-"), family, **config)
        return ready[name]

    return of


@contextmanager
def counted(module: Any) -> Iterator[list[tuple[int, int]]]:
    """Which layers ran, and on how many tokens."""
    seen: list[tuple[int, int]] = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args, number=number: seen.append((number, args[0].shape[-2])))
        for number, layer in enumerate(module.layers)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_scores_equal_plain_hugging_face(family: str, made: Callable[[str], Path]) -> None:
    """An English and a Chinese query, each with half of the texts, odd and long ones among them; packed, layer by
    layer, its last layer shortened."""
    plain, reranker = PlainCausal(made(family)), load(made(family))
    own = scorer(reranker)
    assert (own.packed, own._whole, own.runner.skip_unread) == (True, False, True)
    every = [text for text in TEXTS if "\ufffd" not in text and len(text) < 600]
    for query, texts in ((QUERIES[0], every[::2]), (QUERIES[1], every[1::2])):
        expected = [plain.score(pieces(plain, query, text), "yes", "no") for text in texts]
        assert_close(expected, reranker.rerank(query, texts).scores())


@pytest.mark.parametrize("family", ["gemma3_text", "phi3", "olmo2", "smollm3"])
def test_other_decoders_are_right_in_one_way_or_another(family: str, tmp_path: Path) -> None:
    """Layer by layer, in one forward pass of the module's own, or padded: tried out when they are loaded."""
    directory = tiny_causal_lm(tmp_path, family, layers=4)
    plain, reranker = PlainCausal(directory), load(directory)
    texts = [*DOCUMENTS, PARAGRAPH * 4]
    expected = [plain.score(pieces(plain, QUERIES[0], text), "yes", "no") for text in texts]
    assert_close(expected, reranker.rerank(QUERIES[0], texts).scores())


@pytest.mark.parametrize("family", ["qwen2 with windows", "gemma2"])
def test_the_padded_path_agrees(family: str, made: Callable[[str], Path]) -> None:
    """The slow twin, and one forward pass of the module on packed rows."""
    reranker = load(made(family))
    requests = [(QUERIES[0], [*DOCUMENTS[::2], PARAGRAPH * 4]), (QUERIES[1], [*DOCUMENTS[1::2], PARAGRAPH * 4])]
    expected = reranker.rerank_many(requests)
    own = scorer(reranker)
    own._whole = True
    for found, wanted in zip(reranker.rerank_many(requests), expected, strict=True):
        assert_close(wanted.scores(), found.scores())
    own._whole, own.packed = False, False
    own.module.set_attn_implementation("eager")
    for found, wanted in zip(reranker.rerank_many(requests), expected, strict=True):
        assert_close(wanted.scores(), found.scores())


def test_each_prefix_is_computed_once(made: Callable[[str], Path]) -> None:
    """Tokens computed are those of the distinct prefixes and of the rows; the last layer computes the read ones."""
    reranker = load(made("qwen3"))
    own = scorer(reranker)
    requests = [(query, [*DOCUMENTS[:6], PARAGRAPH]) for query in QUERIES]
    with counted(own.module) as seen:
        rankings = reranker.rerank_many(requests)
    everything = sum(ranking.usage.tokens or 0 for ranking in rankings)
    prefixes = [len(own.query_row(tokens).ids) for tokens in own.tokenize(list(QUERIES), "query")]  # type: ignore[union-attr]
    rows = [own.overhead(d, d) + len(d) for d in own.tokenize([*DOCUMENTS[:6], PARAGRAPH], "doc")]
    assert everything == sum(prefixes) + len(QUERIES) * sum(rows)
    assert seen == [(0, everything), (1, everything), (2, len(QUERIES) * 7)]


def test_any_budget_gives_the_same_scores(made: Callable[[str], Path]) -> None:
    requests = [(QUERIES[0], list(DOCUMENTS[::2])), (QUERIES[1], list(DOCUMENTS[1::2]))]
    reranker = load(made("gemma2"))
    expected = reranker.rerank_many(requests)
    for budget in (1, 60, 200, 100_000):
        other = Reranker.from_scorer(reranker.scorer, reranker.spec, token_budget=budget)
        for wanted, ranking in zip(expected, other.rerank_many(requests), strict=True):
            assert_close(wanted.scores(), ranking.scores())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(len(DOCUMENTS))), count=st.integers(1, len(DOCUMENTS)))
def test_order_and_neighbours_do_not_matter(
    order: list[int], count: int, made: Callable[[str], Path], cache: dict[str, Any]
) -> None:
    if not cache:
        cache["reranker"] = load(made("qwen2 with windows"))
        cache["expected"] = cache["reranker"].rerank(QUERIES[0], DOCUMENTS).scores()
    chosen = order[:count]
    found = cache["reranker"].rerank(QUERIES[0], [DOCUMENTS[place] for place in chosen]).scores()
    assert_close([cache["expected"][place] for place in chosen], found)


@pytest.fixture(scope="module")
def cache() -> dict[str, Any]:
    return {}


def test_windows_of_a_long_document_carry_the_whole_template(made: Callable[[str], Path]) -> None:
    """Every window is the prefix, its slice behind ``B: ``, and the prompt; nothing of the document is left out."""
    plain, reranker = PlainCausal(made("llama")), load(made("llama"), max_length=160)
    query = QUERIES[0]
    lead, ids = plain.ids("B: "), plain.ids("B: " + LONG)
    assert ids[: len(lead)] == lead
    around = [1, *plain.ids("A: " + query), *plain.ids("\n")], [*plain.ids("\n"), *plain.ids(PROMPT)]
    windows = list(cut(ids[len(lead) :], 160 - len(lead) - sum(map(len, around))))
    expected = [plain.score([around[0], [*lead, *window], around[1]], "yes", "no") for window in windows]
    hit = reranker.rerank(query, [LONG])[0]
    assert_close(expected, [passage.score for passage in hit.passages])
    assert hit.score == max(passage.score for passage in hit.passages)
    assert hit.truncated is False
    assert (hit.passages[0].start, hit.passages[-1].stop) == (0, len(LONG))


def test_the_prompt_can_be_changed_for_a_call(made: Callable[[str], Path]) -> None:
    """An option in the template is text, even where it spells a special token."""
    plain, reranker = PlainCausal(made("gemma")), load(made("gemma"))
    before = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    other = "Predict whether it is. "
    expected = [plain.score(pieces(plain, QUERIES[0], text, other), "yes", "no") for text in DOCUMENTS]
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS, prompt=other).scores())
    token_text = reranker.rerank(QUERIES[0], ["a"], prompt="<eos>").scores()
    assert_close([plain.score([*pieces(plain, QUERIES[0], "a", "<"), "eos>"], "yes", "no")], token_text)
    assert reranker.rerank(QUERIES[0], DOCUMENTS).scores() == before


def test_one_label_is_its_logit_and_two_are_log_odds(made: Callable[[str], Path]) -> None:
    plain = PlainCausal(made("qwen3"))
    one = load(made("qwen3"), rerank_core.ModelSpec(**{**vars(SPEC), "head": Head.last_token("Yes")}))
    expected = [plain.score(pieces(plain, QUERIES[0], text), "Yes") for text in DOCUMENTS]
    assert_close(expected, one.rerank(QUERIES[0], DOCUMENTS).scores())


def test_a_label_may_be_a_token_id(made: Callable[[str], Path]) -> None:
    """Id 0 is a token like any other; an id and a word can be mixed."""
    plain = PlainCausal(made("qwen3"))
    (yes,), (no,) = plain.ids("yes"), plain.ids("no")
    zero = plain.tokenizer.convert_ids_to_tokens(0)
    for labels in ((yes, no), (yes, "no"), ("yes", no)):
        found = load(made("qwen3"), replace(SPEC, head=Head.last_token(*labels))).rerank(QUERIES[0], DOCUMENTS)
        expected = [plain.score(pieces(plain, QUERIES[0], text), "yes", "no") for text in DOCUMENTS]
        assert_close(expected, found.scores())
    parts = [
        [plain.ids(piece) if isinstance(piece, str) else piece for piece in pieces(plain, QUERIES[0], text)]
        for text in DOCUMENTS
    ]
    rows = [[id_ for piece in row for id_ in piece] for row in parts]
    with torch.inference_mode():
        logits = [float(plain.model(input_ids=torch.tensor([row])).logits[0, -1, 0]) for row in rows]
    assert zero == "<|endoftext|>"
    assert_close(
        logits, load(made("qwen3"), replace(SPEC, head=Head.last_token(0))).rerank(QUERIES[0], DOCUMENTS).scores()
    )


@pytest.mark.parametrize(("labels", "message"), [((10**6,), "token id 1000000"), (("yes", "id of yes"), "both labels")])
def test_token_ids_are_checked(labels: tuple[Any, ...], message: str, made: Callable[[str], Path]) -> None:
    """An id without a row of the output layer, and an id that is the other label's token."""
    (yes,) = PlainCausal(made("qwen3")).ids("yes")
    given = [yes if label == "id of yes" else label for label in labels]
    with pytest.raises(CheckpointError, match=message):
        load(made("qwen3"), replace(SPEC, head=Head.last_token(*given)))


def test_out_of_memory_halves_the_batch_and_keeps_the_scores(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both halves have their prefix again; scores stay what they were."""
    reranker = load(made("qwen2"))
    expected = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    own, sizes = scorer(reranker), []
    start = own.runner.start

    def tight(prefixes: Any, rows: Any, owners: Any, segments: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError("a test's memory")
        return start(prefixes, rows, owners, segments)

    monkeypatch.setattr(own.runner, "start", tight)
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())
    assert max(sizes) == len(DOCUMENTS)
    assert max(sizes[-3:]) <= 5


def test_a_pair_template_is_refused(made: Callable[[str], Path]) -> None:
    spec = ModelSpec(name="wrong", template=Template.pair(), head=Head.last_token("yes"))
    with pytest.raises(InputError, match="a causal model takes"):
        load(made("qwen2"), spec)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(dtype: str, made: Callable[[str], Path]) -> None:
    """Loaded in that dtype; scores within what it can tell of numbers this size (scoring.md §11)."""
    exact = load(made("qwen3")).rerank(QUERIES[0], DOCUMENTS).scores()
    reranker = load(made("qwen3"), dtype=dtype)
    assert next(scorer(reranker).module.parameters()).dtype == getattr(torch, dtype)
    found = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    spread = max(exact) - min(exact)
    assert max(abs(a - b) for a, b in zip(exact, found, strict=True)) <= (0.1 if dtype == "bfloat16" else 0.02) * spread


@pytest.fixture(scope="module")
def reranker(made: Callable[[str], Path]) -> Reranker:
    return load(made("qwen3"), max_length=128)


class TestConformance(ScorerConformance):
    """The suite that every reranker passes, over a tiny Qwen3."""
