"""Encoder-decoders as rerankers score as plain Hugging Face, packed or padded, in any batch and number format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models.seq2seq import SPEC, load, prompt, scorer
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, TEXTS, PlainEncoderDecoder, assert_close, cut
from rerank_core import Head, Reranker, Template
from rerank_core.testing import ScorerConformance, tiny_encoder_decoder

# Families, and the token that their decoder reads first.
FAMILIES = {"t5": 0, "flan-t5": 0, "mt5": 0, "t5gemma": 1}
SHORT = [text for text in TEXTS if "\ufffd" not in text and len(text) < 600]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny model of a family, not to be changed."""
    folder = tmp_path_factory.mktemp("seq2seq")
    ready: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in ready:
            ready[name] = tiny_encoder_decoder(folder / name, name)  # type: ignore[arg-type]
        return ready[name]

    return of


@pytest.mark.parametrize("family", list(FAMILIES))
def test_scores_equal_plain_hugging_face(family: str, made: Callable[[str], Path]) -> None:
    """An English and a Chinese query with half of the texts each, odd and empty ones among them. Hugging Face gets the
    whole prompt as one string, so the pieces that are tokenized alone give the same ids."""
    plain, reranker = PlainEncoderDecoder(made(family), FAMILIES[family]), load(made(family))
    assert scorer(reranker).packed
    for query, texts in ((QUERIES[0], SHORT[::2]), (QUERIES[1], SHORT[1::2])):
        expected = [plain.score(prompt(query, text), "true", "false") for text in texts]
        assert max(expected) - min(expected) > 0.1
        assert_close(expected, reranker.rerank(query, texts).scores())


@pytest.mark.parametrize("family", list(FAMILIES))
def test_padded_rows_agree(family: str, made: Callable[[str], Path]) -> None:
    """Padded rows have the scores of packed ones, with the packed attention function and with transformers' own. Rows
    of T5Gemma are longer than its window."""
    reranker = load(made(family))
    texts = [*DOCUMENTS, PARAGRAPH * 4]
    expected = reranker.rerank(QUERIES[0], texts).scores()
    own = scorer(reranker)
    own.packed = False
    assert not own.one_by_one
    for attention in (None, "eager"):
        if attention is not None:
            own.module.set_attn_implementation(attention)
        assert_close(expected, reranker.rerank(QUERIES[0], texts).scores())


def test_t5gemma_without_soft_caps(tmp_path: Path) -> None:
    """Other kernels compute its attention, packed and padded; key heads are still shared by query heads."""
    directory = tiny_encoder_decoder(tmp_path, "t5gemma", attn_logit_softcapping=None, final_logit_softcapping=None)
    plain, reranker = PlainEncoderDecoder(directory, FAMILIES["t5gemma"]), load(directory)
    texts = [*DOCUMENTS, PARAGRAPH * 4]
    expected = [plain.score(prompt(QUERIES[0], text), "true", "false") for text in texts]
    assert scorer(reranker).packed
    for packed in (True, False):
        scorer(reranker).packed = packed
        assert_close(expected, reranker.rerank(QUERIES[0], texts).scores())


@pytest.mark.parametrize("family", ["umt5", "bart"])
def test_other_encoder_decoders_are_right_padded(family: str, tmp_path: Path) -> None:
    """umT5 has a bias of its own in every layer, BART one on its logits: their rows are padded, with right scores."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

    directory = tiny_encoder_decoder(tmp_path)
    size = len(AutoTokenizer.from_pretrained(directory))
    sizes: dict[str, Any] = {"vocab_size": size, "d_model": 32, "decoder_start_token_id": 0, "pad_token_id": 0}
    if family == "bart":
        sizes |= {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in
                  (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
    else:
        sizes |= {"d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(0)
    model: Any = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, **sizes))
    if family == "bart":
        model.final_logits_bias = torch.randn_like(model.final_logits_bias)
    model.save_pretrained(directory)
    plain, reranker = PlainEncoderDecoder(directory), load(directory)
    expected = [plain.score(prompt(QUERIES[0], text), "true", "false") for text in DOCUMENTS]
    assert not scorer(reranker).packed
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())


def test_one_label_is_its_logit(made: Callable[[str], Path]) -> None:
    """RankT5's layout and score: no word after the document, and the logit of ``<extra_id_10>`` by its id."""
    plain = PlainEncoderDecoder(made("t5"))
    label = plain.tokenizer.convert_tokens_to_ids("<extra_id_10>")
    template = Template(query="Query: {query}", doc="Document: {doc}", after="</s>")
    reranker = load(made("t5"), replace(SPEC, template=template, head=Head.last_token(label)))
    expected = [plain.score(f"Query: {QUERIES[0]} Document: {text}", label) for text in DOCUMENTS]
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())


def test_windows_of_a_long_document_carry_the_whole_prompt(made: Callable[[str], Path]) -> None:
    """Every window is the query, its slice behind ``Document:``, and ``Relevant:``; nothing is left out. T5 has no
    largest position, so the spec's 512 tokens are the limit."""
    plain, reranker = PlainEncoderDecoder(made("t5")), load(made("t5"))
    assert scorer(reranker).max_positions is None
    lead, ids = plain.ids("Document: "), plain.ids("Document: " + LONG)
    before, after = [*plain.ids("Query: " + QUERIES[0]), *lead], [*plain.ids("Relevant:"), 1]
    windows = list(cut(ids[len(lead) :], 512 - len(before) - len(after)))
    expected = [plain.score([*before, *window, *after], "true", "false") for window in windows]
    hit = reranker.rerank(QUERIES[0], [LONG])[0]
    assert len(windows) > 1
    assert_close(expected, [passage.score for passage in hit.passages])
    assert (hit.passages[0].start, hit.passages[-1].stop, hit.truncated) == (0, len(LONG), False)


def test_only_label_rows_are_multiplied_and_kept(made: Callable[[str], Path]) -> None:
    """An output layer that is not tied is freed after loading, and logits are those of the labels."""
    own = scorer(load(made("flan-t5")))
    size = own.module.config.vocab_size
    wide = [name for name, part in own.module.named_parameters() if size in part.shape]
    inputs = own.module_inputs([[5, 6, 1], [7, 1]], [None, None], packed=True)
    assert wide == ["shared.weight"]
    assert own.module(**inputs).logits.shape == (1, 2, 2)


def test_the_bias_is_computed_for_the_longest_row(made: Callable[[str], Path]) -> None:
    """Once a batch, however many tokens it has."""
    reranker = load(made("t5"))
    table = scorer(reranker).module.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    seen: list[tuple[int, ...]] = []
    table.register_forward_hook(lambda _, args, out: seen.append(tuple(args[0].shape)))
    usage = reranker.rerank(QUERIES[0], [PARAGRAPH, "a bear", "paris"]).usage
    (shape,) = seen
    assert shape[0] == shape[1] < (usage.tokens or 0)


@pytest.mark.parametrize("family", ["t5", "t5gemma"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.15), ("int8", 0.25)])
def test_other_number_formats_are_close(dtype: str, tolerance: float, family: str, made: Callable[[str], Path]) -> None:
    expected = load(made(family)).rerank(QUERIES[0], DOCUMENTS).scores()
    found = load(made(family), dtype=dtype).rerank(QUERIES[0], DOCUMENTS).scores()
    assert 0 < max(abs(a - b) for a, b in zip(expected, found, strict=True)) < tolerance


def test_linear_layers_are_prepared_for_the_cpu(made: Callable[[str], Path]) -> None:
    """T5 reads the dtype of a layer's weight, and prepared and int8 layers have none."""
    for dtype, kind in (("float32", "PrepackedLinear"), ("int8", "Int8Linear")):
        feed_forward = scorer(load(made("t5"), dtype=dtype)).module.encoder.block[1].layer[1].DenseReluDense
        assert {type(feed_forward.wi).__name__, type(feed_forward.wo).__name__} == {kind}


def test_out_of_memory_halves_the_batch(made: Callable[[str], Path]) -> None:
    """Scores stay what they were, and later batches are smaller."""
    reranker = load(made("t5"))
    expected = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    own = scorer(reranker)
    sizes: list[int] = []

    def tight(_: Any, args: Any, kwargs: Any) -> None:
        sizes.append(kwargs["decoder_input_ids"].numel())
        if sizes[-1] > 5:
            raise torch.OutOfMemoryError("a test's memory")

    own.module.register_forward_pre_hook(tight, with_kwargs=True)
    before = own.token_budget
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())
    assert max(sizes) > 5
    assert own.token_budget < before


def test_an_option_in_the_prompt_can_be_changed_for_a_call(made: Callable[[str], Path]) -> None:
    from rerank_core import ModelOption

    task = ModelOption("task", "str", "the word at the end", default="Relevant:", when="call")
    spec = replace(SPEC, template=replace(SPEC.template, after=("{task}", "</s>")), options=(task,))
    plain, reranker = PlainEncoderDecoder(made("t5")), load(made("t5"), spec)
    for word, options in (("Relevant:", {}), ("Useful:", {"task": "Useful:"})):
        expected = plain.score(f"Query: {QUERIES[0]} Document: a bear {word}", "true", "false")
        assert_close([expected], reranker.rerank(QUERIES[0], ["a bear"], **options).scores())


class TestT5(ScorerConformance):
    """The conformance suite over a tiny random T5."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, made: Callable[[str], Path]) -> Reranker:
        return load(made("t5"), max_length=64)


class TestT5Gemma(ScorerConformance):
    """The conformance suite over a tiny random T5Gemma."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, made: Callable[[str], Path]) -> Reranker:
        return load(made("t5gemma"), max_length=64)
