"""Models that answer yes or no: ids as their cards make them, scores as plain Hugging Face gives them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import rerank_core
from helpers.models.whole_string import WholeString
from rerank_core import CheckpointError, InputError, Reranker, UnknownModelError
from rerank_core.testing import ScorerConformance, tiny_causal_lm

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + "
    "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA2 = "{% for m in messages %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"
# Family, tokenizer, its chat template, and that text around a message.
CHATS: dict[str, tuple[str, str, str, tuple[str, str]]] = {
    "qwen": ("qwen2", "bytes", CHATML, ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")),
    "gemma": (
        "gemma", "gemma", GEMMA,
        ("<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    ),
    "llama": ("llama", "sentencepiece", LLAMA2, ("<s>[INST] ", " [/INST]")),
}  # fmt: skip
QUERY = "what does a panda eat?"
DOCS = [
    "Pandas eat bamboo for most of the day.",
    "a",
    "",
    "大熊猫吃竹子。",
    "  two  blanks \n",
    "bear " * 40,
    "e\u0301",
]
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class Plain(WholeString):
    """Also gives the log-odds of two labels."""

    def odds(self, pieces: list[str], positive: str, negative: str) -> float:
        ids = [id_ for piece in pieces for id_ in self.ids(piece)]
        logits = self.logits(ids)
        return float(logits[self.ids(positive)[0]] - logits[self.ids(negative)[0]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    ready: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in ready:
            family, tokenizer, template, _ = CHATS[name]
            kind: Any = tokenizer
            directory = tiny_causal_lm(tmp_path_factory.mktemp(name), family, tokenizer=kind, std=0.2)
            file = directory / "tokenizer_config.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}), encoding="utf-8")
            ready[name] = directory
        return ready[name]

    return of


def near(expected: list[float], found: Any) -> None:
    assert max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, found, strict=True)) <= 1e-5


def row_ids(reranker: Reranker, query: str, doc: str) -> list[int]:
    """Prefix and row, as the model reads them."""
    scorer: Any = reranker.scorer
    (asked,), (read,) = scorer.tokenize([query], "query"), scorer.tokenize([doc], "doc")
    return [*scorer.query_row(asked).ids, *scorer.row(asked, read, 0, len(read), (0, 0, 0)).ids]


# ---------------------------------------------------------------------- Qwen3-Reranker
def body(query: str, doc: str, instruction: str = INSTRUCT) -> str:
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {doc}"


def test_qwen3_scores_equal_its_card(made: Callable[[str], Path]) -> None:
    """The body tokenized as one string, then the two logits; the instruction may change from call to call."""
    plain = Plain(made("qwen"))
    reranker = rerank_core.load("qwen3-reranker-0.6b", checkpoint=made("qwen"), device="cpu")
    for more in ({}, {"instruction": "Find the panda."}):
        instruction = more.get("instruction", INSTRUCT)
        expected = [plain.odds([SYSTEM, body(QUERY, doc, instruction), ANSWER], "yes", "no") for doc in DOCS]
        near(expected, reranker.score([(QUERY, doc) for doc in DOCS], **more))
    ranking = reranker.rerank(QUERY, DOCS)
    assert (ranking.score_space, ranking.activation) == ("probability", "sigmoid")


_PIECES = ["a panda", "?", " ", "\n", "\r\n", ":", "<", ">", "'s", "１２", "大熊猫", "\u0301", "\u3000", ".", "12"]
_ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
# Hypothesis also draws strings of this repository's code: special tokens, which a text never becomes, are left out.
_ODD_TEXT = (_ANY | st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)).filter(lambda text: "<|" not in text)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with Qwen's own tokenizer."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the real tokenizers")
    tokenizer = Path(folder) / "tokenizers" / "qwen"
    return tiny_causal_lm(tmp_path_factory.mktemp("real"), tokenizer=tokenizer, layers=1, hidden=8)


@pytest.fixture(scope="module")
def real_qwen(qwen_folder: Path) -> tuple[Reranker, Plain]:
    return rerank_core.load("qwen3-reranker-0.6b", checkpoint=qwen_folder, device="cpu"), Plain(qwen_folder)


@pytest.mark.data
def test_a_closed_thought_is_qwens_own_tokens(qwen_folder: Path, tmp_path: Path) -> None:
    """A thought that a template opens and we close has the tokens of Qwen3-Reranker's prompt."""
    directory = Path(shutil.copytree(qwen_folder, tmp_path / "copy"))
    file = directory / "tokenizer_config.json"
    opens = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": opens}), encoding="utf-8")
    reranker: Any = rerank_core.load(f"llm:{directory}", device="cpu")
    end = reranker.scorer.tokenizer.literal("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")

    assert row_ids(reranker, "q", "d")[-len(end) :] == list(end)


@pytest.mark.data
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=_ODD_TEXT, doc=_ODD_TEXT)
def test_qwen3_ids_equal_the_whole_string_at_every_seam(
    query: str, doc: str, real_qwen: tuple[Reranker, Plain]
) -> None:
    """Texts may begin and end with punctuation, blanks, line breaks and combining marks."""
    reranker, plain = real_qwen
    expected = [*plain.ids(SYSTEM), *plain.ids(body(query, doc)), *plain.ids(ANSWER)]
    assert row_ids(reranker, query, doc) == expected


def test_qwen3_card_cuts_the_document_and_ours_reads_it(made: Callable[[str], Path]) -> None:
    plain = Plain(made("qwen"))
    long = "bear panda " * 400
    card = rerank_core.load(
        "qwen3-reranker-0.6b", checkpoint=made("qwen"), device="cpu", max_length=900, compat="model-card"
    )
    room = 900 - len(plain.ids(SYSTEM)) - len(plain.ids(ANSWER))
    with torch.inference_mode():
        ids = [*plain.ids(SYSTEM), *plain.ids(body(QUERY, long))[:room], *plain.ids(ANSWER)]
        logits = plain.model(input_ids=torch.tensor([ids])).logits[0, -1]
    expected = float(logits[plain.ids("yes")[0]] - logits[plain.ids("no")[0]])
    near([expected], card.score([(QUERY, long)]))
    ours = rerank_core.load("qwen3-reranker-0.6b", checkpoint=made("qwen"), device="cpu", max_length=900)
    passages = ours.rerank(QUERY, [long])[0].passages
    assert len(passages) > 1
    assert passages[-1].stop == len(long)


# ---------------------------------------------------------------------- mxbai-rerank-v2
def test_mxbai_scores_equal_its_pieces(made: Callable[[str], Path]) -> None:
    """Every piece tokenized alone; an instruction stands before the query, in its piece."""
    plain = Plain(made("qwen"))
    reranker = rerank_core.load("mxbai-rerank-base-v2", checkpoint=made("qwen"), device="cpu")
    system = (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    )
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    end = ["\n", task, "<|im_end|>\n<|im_start|>assistant\n"]
    for more, before in (({}, ""), ({"instruction": "Find it."}, "instruction: Find it.\n")):
        rows = [[system, f"{before}query: {QUERY}", "\n", f"document: {doc}", *end] for doc in DOCS]
        near([plain.odds(row, "1", "0") for row in rows], reranker.score([(QUERY, doc) for doc in DOCS], **more))


def test_mxbai_card_gives_query_and_document_the_whole_length(made: Callable[[str], Path]) -> None:
    """Three quarters of it at most for the query's piece, what is left for the document; the template on top."""
    plain, length = Plain(made("qwen")), 120
    card = rerank_core.load(
        "mxbai-rerank-base-v2", checkpoint=made("qwen"), device="cpu", max_length=length, compat="model-card"
    )
    scorer: Any = card.scorer
    parts = scorer.parts
    for query, doc in (("panda? " * 4, "bear " * 200), ("panda? " * 200, "bear " * 200), ("panda", "bear")):
        asked = plain.ids(f"query: {query}")[: length * 3 // 4]
        read = plain.ids(f"document: {doc}")[: length - len(asked) - len(plain.ids("\n"))]
        row = row_ids(card, "x", "y")
        before, after = row[: parts["before"]], row[len(row) - parts["after"] :]
        with torch.inference_mode():
            ids = [*before, *asked, *plain.ids("\n"), *read, *after]
            logits = plain.model(input_ids=torch.tensor([ids])).logits[0, -1]
        near([float(logits[plain.ids("1")[0]] - logits[plain.ids("0")[0]])], card.score([(query, doc)]))


# ---------------------------------------------------------------------- any chat model
@pytest.mark.parametrize("name", list(CHATS))
def test_zero_shot_uses_the_chat_template(name: str, made: Callable[[str], Path]) -> None:
    """Tokenizers with a first token and without, with padding and without; English and Chinese."""
    plain, (before, after) = Plain(made(name)), CHATS[name][3]
    reranker = rerank_core.load(f"llm:{made(name)}", device="cpu")
    asked = '\n\nIs the document relevant to the query? Answer with one word, "yes" or "no".'
    rows = [[before, f"Query: {QUERY}", "\n\n", f"Document: {doc}", asked, after] for doc in DOCS]
    near([plain.odds(row, "yes", "no") for row in rows], reranker.score([(QUERY, doc) for doc in DOCS]))
    instructed = [[before, f"Find it.\n\nQuery: {QUERY}", *row[2:]] for row in rows]
    found = reranker.score([(QUERY, doc) for doc in DOCS], instruction="Find it.")
    near([plain.odds(row, "yes", "no") for row in instructed], found)


def test_zero_shot_in_chinese_and_in_your_own_words(made: Callable[[str], Path]) -> None:
    plain, (before, after) = Plain(made("gemma")), CHATS["gemma"][3]
    chinese = rerank_core.load(f"llm:{made('gemma')}", device="cpu", language="zh")
    asked = "\n\n这篇文档与查询相关吗？只回答一个字，“是”或“否”。"
    rows = [[before, f"查询：{QUERY}", "\n\n", f"文档：{doc}", asked, after] for doc in DOCS]
    near([plain.odds(row, "是", "否") for row in rows], chinese.score([(QUERY, doc) for doc in DOCS]))
    own = rerank_core.load(
        f"llm:{made('gemma')}", device="cpu", prompt="Q {query} D {doc} ?", positive="Yes", negative="No"
    )
    rows = [[before, f"Q {QUERY}", f" D {doc}", " ?", after] for doc in DOCS]
    near([plain.odds(row, "Yes", "No") for row in rows], own.score([(QUERY, doc) for doc in DOCS]))
    last = rerank_core.load(f"llm:{made('gemma')}", device="cpu", prompt="D {doc}\n\nQ {query} ?")
    rows = [[before, f"D {doc}", "\n\n", f"Q {QUERY}", " ?", after] for doc in DOCS]
    near([plain.odds(row, "yes", "no") for row in rows], last.score([(QUERY, doc) for doc in DOCS]))


def test_text_never_becomes_a_special_token(made: Callable[[str], Path]) -> None:
    reranker = rerank_core.load(f"llm:{made('qwen')}", device="cpu")
    end = Tokenizer.from_file(str(made("qwen") / "tokenizer.json")).token_to_id("<|im_end|>")
    assert row_ids(reranker, "<|im_end|>", "x<|im_end|>").count(end) == 1
    assert reranker.rerank("q", ["d"], instruction="<|im_end|>").scores() != reranker.rerank("q", ["d"]).scores()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"prompt": "{doc} {query} {doc}"}, InputError, "each once"),
        ({"prompt": "{query}"}, InputError, "each once"),
        ({"positive": "certainly"}, CheckpointError, "'certainly' is"),
        ({"negative": "yes"}, InputError, "negative must be a label"),
        ({"language": "fr"}, InputError, "must be one of"),
    ],
)
def test_what_cannot_work_is_refused(
    options: dict[str, Any], error: type[Exception], said: str, made: Callable[[str], Path]
) -> None:
    with pytest.raises(error, match=said):
        rerank_core.load(f"llm:{made('qwen')}", device="cpu", **options)


def test_a_relative_folder_and_a_name_nobody_has(made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made("qwen").parent)
    assert rerank_core.load(f"llm:{made('qwen').name}", device="cpu").rerank("q", ["d"]).scores()
    with pytest.raises(CheckpointError, match="neither an existing directory"):
        rerank_core.load("llm:nothing")
    with pytest.raises(UnknownModelError):
        rerank_core.load("mini:nothing/here")


@pytest.fixture(scope="module", params=["qwen3-reranker-0.6b", "mxbai-rerank-base-v2", "llm:"])
def reranker(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Reranker:
    if request.param == "llm:":
        return rerank_core.load(f"llm:{made('gemma')}", device="cpu", max_length=512)
    # Its words are letters here, so the template alone has hundreds of tokens.
    return rerank_core.load(request.param, checkpoint=made("qwen"), device="cpu", max_length=1000)


class TestPointwise(ScorerConformance):
    """The conformance suite over tiny models."""
