"""A warning comes once where texts are in a script that the model does not read; nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from rerank_core import Ensemble, Reranker
from rerank_core.testing import FakeScorer, FakeSeparate, fake_spec

ENGLISH = ["a panda eats bamboo", "my bicycle has a flat tyre", "tea"]
CHINESE = ["大熊猫每天吃竹子。", "我的自行车爆胎了。", "茶"]
OF_QUERY = (
    "the query is written in Chinese (Han) letters, which 'fake' (languages: en) does not read; load "
    "'mini-multilingual' (pip install rerank-mini) or another model that reads it"
)
Logged = Callable[[], list[str]]


def model(*languages: str, separate: bool = False) -> Reranker:
    """A fake model for these languages."""
    scorer = FakeSeparate() if separate else FakeScorer()
    return Reranker.from_scorer(scorer, fake_spec(languages=languages))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Returns the warnings of the library so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "rerank_core"]


def test_a_chinese_query_and_an_english_model(logged: Logged) -> None:
    """The warning names the model, the script and a model that reads it, once for each reranker; scores are those of a
    model that reads everything."""
    english = model("en")
    first = english.rerank("大熊猫吃什么？", CHINESE).scores()
    english.rerank("大熊猫吃什么？", CHINESE)
    english.score([("что ест панда", "бамбук")])

    assert logged() == [OF_QUERY]
    assert first == model("multilingual").rerank("大熊猫吃什么？", CHINESE).scores()
    model("en").rerank("大熊猫吃什么？", ENGLISH)
    assert logged() == [OF_QUERY, OF_QUERY]


@pytest.mark.parametrize(
    ("languages", "query", "documents", "warning"),
    [
        (("en",), "panda", CHINESE, "most documents are written in Chinese (Han) letters, which"),
        (("en",), "panda", [*CHINESE, "", "12:30", *ENGLISH[:2]], "most documents are written in Chinese (Han)"),
        (("en",), "パンダは何を食べますか", [], "the query is written in Japanese (kana) letters"),
        (("en",), "什么是 reranker", ENGLISH, "the query is written in Chinese (Han) letters"),
        (("zh", "en"), "что ест панда", CHINESE, "the query is written in Cyrillic letters"),
        (("zh", "en"), "판다는 무엇을 먹나요", CHINESE, "the query is written in Korean (Hangul) letters"),
        (("zh",), "大熊猫", ENGLISH, "most documents are written in Latin letters, which 'fake' (languages: zh)"),
        (("en",), "猫", ENGLISH, "the query is written in Chinese (Han) letters"),
        (("en",), "ماذا يأكل الباندا", ENGLISH, "the query is written in Arabic letters"),
        (("hi", "en"), "หมีแพนด้ากินอะไร", ENGLISH, "the query is written in Thai letters"),
    ],
)
def test_what_is_warned_of(
    languages: tuple[str, ...], query: str, documents: list[str], warning: str, logged: Logged
) -> None:
    """The script of the query, or of more than half of the documents that have letters."""
    model(*languages).rerank(query, documents)

    (message,) = logged()
    assert message.startswith(warning)


@pytest.mark.parametrize(
    ("languages", "query", "documents"),
    [
        (("en",), "what does a panda eat?", ENGLISH),
        (("en",), "what does 大熊猫 mean in English?", ENGLISH),
        (("en",), "what is β?", ["α-Synuclein binds β-sheets", "π ≈ 3.14159"]),
        (("en",), "π", ENGLISH),
        (("en",), "naïve café Größe", ["Œuvre, ﬁn, ｆｕｌｌ ｗｉｄｔｈ"]),
        (("en",), "panda", [*ENGLISH, *CHINESE]),
        (("en",), "🐼?", ["🐼🐼🐼", "12:30", "", "  ", "→ 42 %"]),
        (("zh", "en"), "如何用 sentence-transformers 微调 bge-reranker-v2-m3？", CHINESE),
        (("zh",), "如何安装 rerank-core", ["用 pip install rerank-core 安装，再运行 rerank doctor 检查。", *CHINESE]),
        (("zh",), "sentence-transformers", CHINESE),
        (("ja",), "大熊猫", ["パンダは竹を食べる", "大熊猫"]),
        (("sr",), "шта једе панда", ["šta jede panda"]),
        (("multilingual",), "что ест панда", CHINESE),
        ((), "что ест панда", CHINESE),
        (("en", "klingon"), "что ест панда", CHINESE),
    ],
)
def test_no_false_alarm(languages: tuple[str, ...], query: str, documents: list[str], logged: Logged) -> None:
    """Mixed texts, single letters of formulas, names in Latin letters, texts without letters; unknown languages."""
    model(*languages).rerank(query, documents)

    assert logged() == []


def test_every_call_checks(logged: Logged) -> None:
    """`rerank_many`, `rerank_stream`, `arerank`, `score`, an index and each member of an ensemble."""
    pandas = ("大熊猫吃什么？", CHINESE)
    calls: list[Callable[[Reranker], object]] = [
        lambda reranker: reranker.rerank_many([("panda", ENGLISH), pandas]),
        lambda reranker: list(reranker.rerank_stream([("panda", ENGLISH), pandas])),
        lambda reranker: asyncio.run(reranker.arerank(*pandas)),
        lambda reranker: reranker.score([("大熊猫吃什么？", "竹子")]),
        lambda reranker: Ensemble([reranker, model("multilingual")]).rerank(*pandas),
    ]
    for number, call in enumerate(calls, 1):
        call(model("en"))
        assert logged() == [OF_QUERY] * number
    indexed = model("en", separate=True)
    indexed.rerank("panda", indexed.index(CHINESE))
    assert logged()[-1].startswith("most documents are written in Chinese (Han) letters")


def test_a_script_that_our_model_does_not_read_has_no_advice(logged: Logged) -> None:
    """The message names only a model that reads the script."""
    model("en").rerank("བོད་ཡིག་གི་ཚིག", ENGLISH)

    assert logged() == ["the query is written in Tibetan letters, which 'fake' (languages: en) does not read"]


def test_little_is_read(logged: Logged) -> None:
    """Of each text the first 100 characters, of many documents eight, of many requests four."""
    model("en").rerank("panda", ["a panda eats bamboo " * 5 + CHINESE[0] * 1000])
    model("en").rerank("panda", [CHINESE[0] if number % 125 else ENGLISH[0] for number in range(1000)])
    model("en").rerank_many([*[("panda", ENGLISH)] * 4, ("大熊猫吃什么？", CHINESE)])

    assert logged() == []


def test_threads_share_one_warning(logged: Logged) -> None:
    """Calls of several threads at once give one warning, and it names the right script."""
    english = model("en")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: english.rerank("大熊猫吃什么？", ENGLISH), range(40)))

    assert logged() == [OF_QUERY]
