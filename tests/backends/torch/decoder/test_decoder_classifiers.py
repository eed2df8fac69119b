"""A sequence classifier made from a decoder scores as transformers does, on packed rows that share their prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.causal import load
from helpers.models.decoder_classifiers import PlainClassifier, tiny_decoder_classifier
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, assert_close, cut
from rerank_core import Head, InputError, ModelOption, ModelSpec, Reranker, Template
from rerank_core.backends.torch.decoder.classifier_scorer import DecoderClassifier
from rerank_core.testing import ScorerConformance

# transformers' name of the family, its pair template, and what its tiny model has beside the usual.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {},
    "llama": {"tokenizer": "sentencepiece", "pair": "<s> $A <s> $B"},
    "mistral": {"tokenizer": "sentencepiece", "pair": "<s> $A <s> $B", "sliding_window": 16},
    "ministral": {"tokenizer": "sentencepiece", "pair": "<s> $A </s> $B </s>", "sliding_window": 16},
    "gemma2": {
        "tokenizer": "gemma", "pair": "<bos> $A <bos> $B", "sliding_window": 16, "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 2.0,
    },
    "gemma3_text": {"tokenizer": "gemma", "pair": "<bos> $A <bos> $B", "sliding_window": 16},
}  # fmt: skip
PROMPT = "Judge whether it is."


def prompted(mark: str) -> ModelSpec:
    """A model whose template has text of its own, ``mark`` among its special tokens."""
    return ModelSpec(
        name="prompted",
        template=Template(before=mark, query="{prompt} Q: {query}\n", between="D:", doc=" {doc}", after=(mark, "\n")),
        head=Head.classifier(),
        max_length=512,
        options=(ModelOption("prompt", "str", "the task", default=PROMPT, when="call"),),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The tiny classifier of a family, not to be changed."""
    folder = tmp_path_factory.mktemp("classifiers")

    def of(family: str, padding: int | None = None) -> Path:
        directory = folder / f"{family}-{padding}"
        if not directory.exists():
            tiny_decoder_classifier(directory, family, padding=padding, **FAMILIES[family])
        return directory

    return of


def own(reranker: Reranker) -> DecoderClassifier:
    """Its scorer."""
    found = reranker.scorer
    assert isinstance(found, DecoderClassifier)
    return found


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_folder_without_padding_token_scores_as_transformers(family: str, made: Callable[..., Path]) -> None:
    """The tokenizer's pair layout, empty, odd and long documents among them; rows are packed."""
    plain, reranker = PlainClassifier(made(family)), rerank_core.load(made(family), device="cpu")
    assert own(reranker).packed
    documents = [*DOCUMENTS, PARAGRAPH * 4, DOCUMENTS[0]]
    for query in QUERIES[:2]:
        expected = [plain.score(plain.pair(query, document)) for document in documents]
        assert_close(expected, reranker.rerank(query, documents).scores())
        assert max(expected) - min(expected) > 0.1, "a spread so small proves little"


@pytest.mark.parametrize("family", ["phi", "ministral3", "nemotron"])
def test_other_decoders_are_right_in_one_way_or_another(family: str, tmp_path: Path) -> None:
    """In one forward pass of the decoder's own, or padded: tried out when they are loaded."""
    plain = PlainClassifier(tiny_decoder_classifier(tmp_path, family))
    expected = [plain.score(plain.pair(QUERIES[0], document)) for document in DOCUMENTS]
    assert_close(expected, rerank_core.load(tmp_path, device="cpu").rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.1), ("float16", 0.02), ("int8", 0.3)])
def test_lower_precision_is_near(dtype: str, share: float, made: Callable[..., Path]) -> None:
    exact = rerank_core.load(made("qwen3"), device="cpu").rerank(QUERIES[0], DOCUMENTS).scores()
    found = rerank_core.load(made("qwen3"), device="cpu", dtype=dtype).rerank(QUERIES[0], DOCUMENTS).scores()
    worst = max(abs(a - b) for a, b in zip(exact, found, strict=True))
    assert 0 < worst <= share * (max(exact) - min(exact))


def test_ids_are_those_of_the_tokenizers_pair(made: Callable[..., Path]) -> None:
    for family in ("llama", "ministral", "qwen3"):
        plain, scorer = PlainClassifier(made(family)), own(rerank_core.load(made(family), device="cpu"))
        for text in DOCUMENTS:
            (query,), (doc,) = scorer.tokenize([QUERIES[0]], "query"), scorer.tokenize([text], "doc")
            prefix, row = scorer.query_row(query), scorer.row(query, doc, 0, len(doc), (0, 0, 0))
            assert prefix is not None
            assert [*prefix.ids, *row.ids] == plain.pair(QUERIES[0], text)
            assert list(row.ids[row.span[0] : row.span[1]]) == list(doc.ids)


@pytest.mark.data
@pytest.mark.parametrize(("name", "family"), [("llama2", "llama"), ("llama3", "mistral"), ("qwen", "qwen2")])
def test_real_tokenizers(name: str, family: str, tmp_path: Path, data: Path) -> None:
    """Their pair templates, two beginning-of-sequence tokens or none, are the frame of each row."""
    tiny_decoder_classifier(tmp_path, family, tokenizer=data / "tokenizers" / name, num_hidden_layers=2)
    plain, reranker = PlainClassifier(tmp_path), rerank_core.load(tmp_path, device="cpu")
    expected = [plain.score(plain.pair(QUERIES[1], document)) for document in DOCUMENTS]
    assert_close(expected, reranker.rerank(QUERIES[1], DOCUMENTS).scores())


@pytest.mark.parametrize("padding", [0, 2])
def test_a_row_that_ends_with_padding_is_read_before_it(padding: int, made: Callable[..., Path]) -> None:
    """Ministral's template here ends with </s>, id 2: as padding token transformers skips it, also where an empty
    document leaves only the query and its </s>."""
    plain = PlainClassifier(made("ministral", padding))
    reranker = rerank_core.load(made("ministral", padding), device="cpu")
    documents = ["", *DOCUMENTS[:3], "", "a bear"]
    expected = [plain.score(plain.pair(QUERIES[0], document)) for document in documents]
    assert_close(expected, reranker.rerank(QUERIES[0], documents).scores())
    other = PlainClassifier(made("ministral"))
    apart = [other.score(other.pair(QUERIES[0], document)) for document in documents]
    assert (max(abs(a - b) for a, b in zip(expected, apart, strict=True)) > 0.01) is (padding == 2)


def test_a_long_document_is_cut_into_windows(made: Callable[..., Path]) -> None:
    """Each passage has the score of its slice of ids behind the shared prefix."""
    plain, reranker = PlainClassifier(made("llama")), rerank_core.load(made("llama"), device="cpu", max_length=200)
    left = plain.pair(QUERIES[0], "")
    windows = [[*left, *window] for window in cut(plain.ids(LONG), 200 - len(left))]
    (hit,) = reranker.rerank(QUERIES[0], [LONG])
    assert len(windows) > 2
    assert_close([plain.score(window) for window in windows], [passage.score for passage in hit.passages])


@pytest.mark.parametrize(("family", "mark"), [("qwen3", "<|im_end|>"), ("mistral", "</s>")])
def test_literal_templates_share_their_prefix(family: str, mark: str, made: Callable[..., Path]) -> None:
    """Prompt, query and everything up to the document are computed once a query; options fill the pieces."""
    plain, reranker = PlainClassifier(made(family)), load(made(family), prompted(mark))
    scorer, special = own(reranker), [plain.tokenizer.convert_tokens_to_ids(mark)]
    for prompt in (PROMPT, "Is it?"):
        left = [*special, *plain.ids(f"{prompt} Q: {QUERIES[0]}\n"), *plain.ids("D:")]
        rows = [[*left, *plain.ids(f" {document}"), *special, *plain.ids("\n")] for document in DOCUMENTS]
        assert_close([plain.score(row) for row in rows], reranker.rerank(QUERIES[0], DOCUMENTS, prompt=prompt).scores())
    seen: list[int] = []
    mlp = scorer.module.layers[0].mlp
    hook = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2]))
    tokens = reranker.rerank(QUERIES[0], DOCUMENTS[:5]).usage.tokens
    hook.remove()
    assert sum(seen) == tokens
    prefix = scorer.query_row(scorer.tokenize([QUERIES[0]], "query")[0])
    assert prefix is not None
    lengths = [scorer.overhead(doc, doc) + len(doc) for doc in scorer.tokenize(list(DOCUMENTS[:5]), "doc")]
    assert tokens == len(prefix.ids) + sum(lengths)


def test_the_padded_path_agrees(made: Callable[..., Path]) -> None:
    """The slow path, and one forward pass of the decoder on packed rows."""
    reranker = rerank_core.load(made("gemma2"), device="cpu")
    requests = [(QUERIES[0], [*DOCUMENTS[::2], PARAGRAPH * 4]), (QUERIES[1], [*DOCUMENTS[1::2]])]
    expected = [ranking.scores() for ranking in reranker.rerank_many(requests)]
    scorer = own(reranker)
    for settings in ({"_whole": True}, {"_whole": False, "packed": False}):
        vars(scorer).update(settings)
        if not scorer.packed:
            scorer.module.set_attn_implementation("eager")
        for found, wanted in zip(reranker.rerank_many(requests), expected, strict=True):
            assert_close(wanted, found.scores())


@pytest.mark.parametrize("label", ["yes", "no"])
def test_of_two_labels_the_score_is_the_log_odds(label: str, tmp_path: Path) -> None:
    tiny_decoder_classifier(tmp_path, "qwen3", labels=2, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    plain, reranker = PlainClassifier(tmp_path), rerank_core.load(tmp_path, device="cpu", label=label)
    rows = [torch.tensor([plain.pair(QUERIES[0], document)]) for document in DOCUMENTS]
    with torch.inference_mode():
        logits = torch.cat([plain.model(input_ids=row).logits for row in rows])
    expected = (logits[:, 1] - logits[:, 0]) * (1 if label == "yes" else -1)
    assert_close(expected.tolist(), reranker.rerank(QUERIES[0], DOCUMENTS).scores())


def test_layouts_of_a_framework_that_has_none_for_decoders_are_refused(made: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="compat is 'bcembedding'"):
        rerank_core.load(made("qwen3"), device="cpu", compat="bcembedding")


@pytest.fixture(scope="module")
def reranker(made: Callable[..., Path]) -> Reranker:
    return rerank_core.load(made("llama"), device="cpu", max_length=128)


class TestConformance(ScorerConformance):
    """The suite that every reranker passes, over a tiny Llama with a classifier."""
