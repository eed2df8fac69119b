"""Rerankers that are T5 encoder-decoders: monoT5, InRanker, a multilingual mT5, and RankT5.

Prompts and labels are those of castorini/pygaggle (``rerank/transformer.py``, ``prediction_tokens``); for InRanker, of
unicamp-dl/InRanker (``inranker/rankers.py``); for RankT5, of soyoung97/ListT5 (``run_monot5_rankt5.py``).
"""

from collections.abc import Callable
from typing import Any

from rerank_core import Head, ModelSpec, Template, hookimpl

# T5's tokenizer puts a space before each piece, so the ids are those of the authors' prompt, tokenized as one string.
_PROMPT = Template(query="Query: {query}", doc="Document: {doc}", after=("Relevant:", "</s>"))
_ENGLISH = {"template": _PROMPT, "head": Head.last_token("true", "false"), "languages": ("en",)}
_NO_WORD = {
    "template": Template(query="Query: {query}", doc="Document: {doc}", after="</s>"),
    "head": Head.last_token(32089),  # <extra_id_10>
    "languages": ("en",),
}
_BASE, _LARGE, _3B = 223_000_000, 738_000_000, 2_850_000_000


def _spec(name: str, checkpoint: str, parameters: int, description: str, **more: Any) -> ModelSpec:
    """A T5 whose publisher offers ``pytorch_model.bin`` alone, and a tokenizer in SentencePiece's format."""
    more = {"license": "not stated", **more}
    return ModelSpec(
        name=name,
        checkpoint=checkpoint,
        parameters=parameters,
        description=description,
        max_length=512,
        longdoc="maxp",
        pickled=True,
        **more,
    )


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    ten = "monoT5, trained on MS MARCO for 10k steps: better on other data"
    register(
        _spec("monot5-base", "castorini/monot5-base-msmarco", _BASE, "monoT5, trained on MS MARCO", **_ENGLISH),
    )
    register(_spec("monot5-base-10k", "castorini/monot5-base-msmarco-10k", _BASE, ten, **_ENGLISH))
    register(
        _spec("monot5-large", "castorini/monot5-large-msmarco", _LARGE, "monoT5, trained on MS MARCO", **_ENGLISH),
    )
    register(
        _spec(
            "monot5-large-10k",
            "castorini/monot5-large-msmarco-10k",
            _LARGE,
            ten,
            revision="e8c25f83c0e5facd8bff4d184085063a4ce1c7fe",
            **_ENGLISH,
        )
    )
    register(_spec("monot5-3b", "castorini/monot5-3b-msmarco", _3B, "monoT5, trained on MS MARCO", **_ENGLISH))
    register(
        _spec(
            "monot5-3b-10k",
            "castorini/monot5-3b-msmarco-10k",
            _3B,
            ten,
            revision="02c10148d3c58aac126a6c64a3f060bcf50a9fd5",
            **_ENGLISH,
        )
    )
    register(
        _spec(
            "mt5-base-mmarco-v2",
            "unicamp-dl/mt5-base-mmarco-v2",
            582_000_000,
            "monoT5 from mT5, trained on MS MARCO in nine languages",
            revision="cc0a949b9f21efcaba45c8cabb998ad02ce8d4e7",
            template=_PROMPT,
            head=Head.last_token("yes", "no"),
            license="MIT",
            languages=("zh", "en", "multilingual"),
        )
    )
    for size, parameters, revision in (
        ("small", 60_500_000, "d8353c5c2ee47316a80acbfc3cf3bb0151147a70"),
        ("base", _BASE, None),
    ):
        register(
            _spec(
                f"inranker-{size}",
                f"unicamp-dl/InRanker-{size}",
                parameters,
                "monoT5, distilled from monot5-3b-10k on synthetic queries",
                revision=revision,
                activation="sigmoid",  # its library shows the probability of "true"
                **_ENGLISH,
            )
        )
    for size, parameters in (("base", _BASE), ("large", _LARGE)):
        register(
            _spec(
                f"rankt5-{size}",
                f"Soyoung97/RankT5-{size}",
                parameters,
                "RankT5: one score, trained with a ranking loss",
                aliases=("rankt5",) if size == "base" else (),
                **_NO_WORD,
            )
        )
