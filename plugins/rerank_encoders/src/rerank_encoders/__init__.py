"""Cross-encoders of several families (MS MARCO MiniLM, GTE, Granite, Ettin, mxbai-rerank-v1), and the E5 embedders."""

from collections.abc import Callable
from typing import Any

from rerank_core import Head, ModelSpec, Template, hookimpl
from rerank_encoders.e5 import E5


def _cross_encoder(name: str, checkpoint: str, parameters: int, description: str, **more: Any) -> ModelSpec:
    """A model that reads query and document in the tokenizer's pair layout; the hub's bare name is an alias."""
    facts: dict[str, Any] = {
        "aliases": (checkpoint.partition("/")[2],),
        "head": Head.classifier(),
        "languages": ("en",),
        "license": "Apache-2.0",
        **more,
    }
    return ModelSpec(
        name=name,
        checkpoint=checkpoint,
        parameters=parameters,
        description=description,
        template=Template.pair(),
        longdoc="maxp",
        **facts,
    )


def _minilm(layers: int, parameters: int, revision: str | None) -> ModelSpec:
    """A BERT whose hub config says that its score is the logit (``activation_fn`` Identity)."""
    return _cross_encoder(
        f"ms-marco-minilm-l{layers}",
        f"cross-encoder/ms-marco-MiniLM-L{layers}-v2",
        parameters,
        f"BERT of {layers} layers and width 384, trained on MS MARCO; small and fast",
        # The hub's former id of the same repository.
        aliases=(f"ms-marco-MiniLM-L{layers}-v2", f"cross-encoder/ms-marco-MiniLM-L-{layers}-v2"),
        revision=revision,
        max_length=512,
    )


# Sizes, revisions and the limit of tokens are those of MTEB's model registry.
_ETTIN = (
    ("17m", 16_797_440, "9e4aa35321a6dd1a43ca313f500c4b4f7cfb5cc6"),
    ("32m", 31_883_136, "b33e5ceb5110773ea9cf5e00c9bedc83a8c2afdd"),
    ("68m", 68_144_640, "d166fa88ddde3c42bc3ee92f7df476d941c8204a"),
    ("150m", 149_014_272, "025501c4e0f9bbeb4c5b198318e0089ff061cc14"),
    ("400m", 394_781_696, "5dca36282a5d85f368d2544002513a29159b4c9e"),
    ("1b", 1_028_050_688, "7d20e9baad17016fdf5549c08f69a2d7ca3e60c3"),
)


def _ettin(size: str, parameters: int, revision: str) -> ModelSpec:
    """ModernBERT with a head of its own: the first token through Dense (GELU), LayerNorm, and Dense to the score."""
    return _cross_encoder(
        f"ettin-reranker-{size}",
        f"cross-encoder/ettin-reranker-{size}-v1",
        parameters,
        "ModernBERT with a Dense head, distilled from mxbai-rerank-large-v2",
        revision=revision,
        head=Head.dense("cls", ("2_Dense", "3_LayerNorm", "4_Dense")),
        max_length=7999,
    )


def _mxbai(size: str, parameters: int) -> ModelSpec:
    """DeBERTa; the authors show the scores of ``CrossEncoder.rank``, which are sigmoids."""
    return _cross_encoder(
        f"mxbai-rerank-{size}-v1",
        f"mixedbread-ai/mxbai-rerank-{size}-v1",
        parameters,
        "DeBERTa cross-encoder; its rows are padded",
        aliases=(),
        activation="sigmoid",
        max_length=512,
    )


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(_minilm(6, 22_713_601, "c5ee24cb16019beea0893ab7796b1df96625c6b8"))
    register(_minilm(12, 33_360_385, None))
    register(
        _cross_encoder(
            "gte-reranker-modernbert",
            "Alibaba-NLP/gte-reranker-modernbert-base",
            149_605_633,
            "ModernBERT that pools the mean of all tokens; long documents and code",
            revision="f7481e6055501a30fb19d090657df9ec1f79ab2c",
            activation="sigmoid",
            max_length=8192,
        )
    )
    register(
        _cross_encoder(
            "gte-multilingual-reranker",
            "Alibaba-NLP/gte-multilingual-reranker-base",
            305_959_681,
            "mGTE encoder with rotary positions, 70 languages and long documents; without its remote code",
            max_length=8192,
            languages=("zh", "en", "multilingual"),
        )
    )
    register(
        _cross_encoder(
            "granite-reranker-r2",
            "ibm-granite/granite-embedding-reranker-english-r2",
            149_605_633,
            "ModernBERT of IBM, trained on data with permissive licences, without MS MARCO",
            activation="sigmoid",
            max_length=8192,
        )
    )
    for spec in E5:
        register(spec)
    for size in _ETTIN:
        register(_ettin(*size))
    for name, parameters in (("xsmall", 70_830_337), ("base", 184_422_913), ("large", 435_062_785)):
        register(_mxbai(name, parameters))
