"""Late interaction: BGE-M3, ColBERT models by name, and folders of four libraries."""

import string
from collections.abc import Callable
from pathlib import Path

from rerank_core import Head, ModelOption, ModelSpec, Template, TokenVectors, hookimpl

_M3_OPTIONS = (
    ModelOption(
        "score",
        "str",
        "the score that ranks. colbert: token vectors; dense: the first token's vector; sparse: shared words; "
        "fused: the weighted mean of the three",
        default="colbert",
        when="call",
        choices=("colbert", "dense", "sparse", "fused"),
    ),
    *(
        ModelOption(f"{name}_weight", "float", f"weight of {name} in the fused score", default=1.0, when="call")
        for name in ("dense", "sparse", "colbert")
    ),
)


def _published(name: str, checkpoint: str, description: str, parameters: int, max_length: int) -> ModelSpec:
    """A model whose folder says how its tokens become vectors; only its documents' length is set here."""
    return ModelSpec(
        name=name,
        checkpoint=checkpoint,
        aliases=(checkpoint.partition("/")[2],),
        template=Template.each(),
        head=Head.maxsim("sum"),
        scorer="rerank_colbert.published:scorer",
        max_length=max_length,
        license="Apache-2.0",
        description=description,
        languages=("en",),
        parameters=parameters,
    )


# Document lengths are those of the model cards (answerai's: of its PyLate conversion); the cards of mxbai-edge give
# none, and HAKARI-Bench uses 512. The encoders read longer rows too.
_PUBLISHED = (
    _published(
        "answerai-colbert-small",
        "answerdotai/answerai-colbert-small-v1",
        "late interaction over a BERT of MiniLM's size, 96 numbers a token",
        33_000_000,
        300,
    ),
    _published(
        "gte-moderncolbert",
        "lightonai/GTE-ModernColBERT-v1",
        "late interaction over ModernBERT; documents of up to 8192 tokens with max_length=",
        149_000_000,
        300,
    ),
    _published(
        "lateon",
        "lightonai/LateOn",
        "late interaction over ModernBERT; documents of up to 8192 tokens with max_length=",
        149_000_000,
        300,
    ),
    _published(
        "mxbai-edge-colbert-17m",
        "mixedbread-ai/mxbai-edge-colbert-v0-17m",
        "late interaction over Ettin, 48 numbers a token",
        17_000_000,
        512,
    ),
    _published(
        "mxbai-edge-colbert-32m",
        "mixedbread-ai/mxbai-edge-colbert-v0-32m",
        "late interaction over Ettin, 64 numbers a token",
        32_000_000,
        512,
    ),
)


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            name="bge-m3-colbert",
            checkpoint="BAAI/bge-m3",
            revision="5617a9f61b028005a4858fdac845db406aefb181",
            pickled=True,
            template=Template.each(),
            head=Head.maxsim("mean", TokenVectors(projection=("colbert_linear.pt",), skip_first=True)),
            max_length=8192,
            scorer="rerank_colbert.m3:build",
            options=_M3_OPTIONS,
            license="MIT",
            description="BGE-M3: late interaction, dense and sparse scores of one XLM-R",
            parameters=568_000_000,
            languages=("zh", "en", "multilingual"),
        )
    )
    register(
        ModelSpec(
            name="colbertv2",
            checkpoint="colbert-ir/colbertv2.0",
            template=Template.each(query_marker="[unused0]", doc_marker="[unused1]"),
            head=Head.maxsim(
                "sum",
                TokenVectors(
                    projection=("linear.weight",),
                    skip=tuple(string.punctuation),
                    expand_to=32,
                    expand_with="[MASK]",
                ),
            ),
            max_length=220,
            license="MIT",
            description="ColBERTv2: late interaction over BERT base",
            parameters=110_000_000,
            languages=("en",),
        )
    )
    for spec in _PUBLISHED:
        register(spec)


@hookimpl
def rerank_match_checkpoint(directory: Path) -> ModelSpec | None:
    from rerank_colbert.folders import spec_of

    return spec_of(directory, _M3_OPTIONS)
