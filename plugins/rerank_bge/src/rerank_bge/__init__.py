"""BGE rerankers of BAAI: XLM-R cross-encoders, ``<s> query </s></s> document </s>``, the raw logit as score.

Revisions are those that public projects pin (MTEB's model registry for v2-m3).
"""

from collections.abc import Callable

from rerank_core import Head, ModelSpec, Template, hookimpl


def _cross_encoder(name: str, revision: str, terms: str, description: str, languages: tuple[str, ...]) -> ModelSpec:
    return ModelSpec(
        name=name,
        checkpoint=f"BAAI/{name}",
        revision=revision,
        template=Template.pair(),
        head=Head.classifier(),
        max_length=512,
        longdoc="maxp",
        license=terms,
        description=description,
        languages=languages,
    )


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        _cross_encoder(
            "bge-reranker-base",
            "2cfc18c9415c912f9d8155881c133215df768a70",
            "MIT",
            "XLM-R base cross-encoder, 278M parameters",
            ("zh", "en"),
        )
    )
    register(
        _cross_encoder(
            "bge-reranker-large",
            "55611d7bca2a7133960a6d3b71e083071bbfc312",
            "MIT",
            "XLM-R large cross-encoder, 560M parameters",
            ("zh", "en"),
        )
    )
    register(
        _cross_encoder(
            "bge-reranker-v2-m3",
            "953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e",
            "Apache-2.0",
            "bge-m3 based cross-encoder, 568M parameters; up to max_length=8192",
            ("multilingual",),
        )
    )
