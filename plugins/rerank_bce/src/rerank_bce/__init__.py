"""BCE reranker of NetEase Youdao: an XLM-R cross-encoder whose authors always apply a sigmoid."""

from collections.abc import Callable

from rerank_core import Head, ModelSpec, Template, hookimpl


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            name="bce-reranker-base",
            aliases=("bce-reranker-base_v1",),
            checkpoint="maidalun1020/bce-reranker-base_v1",
            revision="eb7650fca1d81e2856fbd0d522488844aa502735",
            template=Template.pair(),
            head=Head.classifier(),
            activation="sigmoid",
            max_length=512,
            longdoc="maxp",
            license="Apache-2.0",
            description="XLM-R base cross-encoder, bilingual and cross-lingual",
            parameters=278_000_000,
            languages=("zh", "en", "ja", "ko"),
        )
    )
