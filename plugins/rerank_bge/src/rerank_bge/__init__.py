"""BGE of BAAI: XLM-R cross-encoders, causal models with a yes/no answer or a score at every layer, embedding models."""

from collections.abc import Callable
from typing import Literal

from rerank_bge.embedders import EMBEDDERS
from rerank_core import FirstP, Head, ModelOption, ModelSpec, Template, hookimpl
from rerank_core.spec import CompatProfile, CompatRules, layer_options

PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
SHORT_PROMPT = "Predict whether passage B contains an answer to query A."


def _cross_encoder(
    name: str, revision: str, terms: str, description: str, languages: tuple[str, ...], parameters: int
) -> ModelSpec:
    # The revisions are those that public projects pin (for v2-m3, MTEB's model registry).
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
        parameters=parameters,
    )


def _budget(*extra: Literal["before", "between", "after"]) -> CompatProfile:
    """Query and document share ``max_length`` tokens, of which the query has at most three quarters; the lengths of the
    parts in ``extra`` are added to the budget."""
    rules = CompatRules(FirstP(), query_share=(3, 4), count_literal_text=True, extra_budget=extra)
    return CompatProfile(pairs=rules, lists=rules)


# FlagEmbedding adds the length of the prompt to the budget twice. RAG-Retrieval's ``rerank`` drops the text after the
# first max_length tokens; that is not copied, and its lists are scored like its ``compute_score``.
_COMPAT = {
    "flagembedding": _budget("after", "after"),
    "rag-retrieval": _budget("after"),
    "model-card": _budget("after"),
}

# Each piece is tokenized on its own, as FlagEmbedding and the model cards do.
_LLM_TEMPLATE = Template(before="{bos}", query="A: {query}", between="\n", doc="B: {doc}", after=("\n", "{prompt}"))


def _prompt(text: str) -> ModelOption:
    return ModelOption("prompt", "str", "the task description that follows the document", default=text, when="call")


_LAYER, _CASCADE = layer_options(default=28)

_LLM = (
    ModelSpec(
        name="bge-llm-gemma",
        checkpoint="BAAI/bge-reranker-v2-gemma",
        aliases=("bge-reranker-v2-gemma",),
        template=_LLM_TEMPLATE,
        head=Head.last_token("Yes"),
        max_length=1024,
        compat=_COMPAT,
        options=(_prompt(PROMPT),),
        license="Apache-2.0",
        description="Gemma 2B that answers Yes or No; the score is the logit of Yes",
        languages=("multilingual",),
        parameters=2_510_000_000,
    ),
    ModelSpec(
        name="bge-llm-layerwise",
        checkpoint="BAAI/bge-reranker-v2-minicpm-layerwise",
        aliases=("bge-reranker-v2-minicpm-layerwise",),
        template=_LLM_TEMPLATE,
        head=Head.layers(first=8),
        max_length=1024,
        compat=_COMPAT,
        scorer="rerank_bge.minicpm:scorer",
        options=(
            _LAYER,
            _CASCADE,
            _prompt(PROMPT),
        ),
        license="Apache-2.0",
        description="MiniCPM 2B with a score at every layer from 8 to 40",
        languages=("multilingual",),
        parameters=2_720_000_000,
    ),
    ModelSpec(
        name="bge-llm-lightweight",
        checkpoint="BAAI/bge-reranker-v2.5-gemma2-lightweight",
        aliases=("bge-reranker-v2.5-gemma2-lightweight",),
        template=_LLM_TEMPLATE,
        head=Head.layers(first=8),
        max_length=1024,
        compat=_COMPAT,
        scorer="rerank_bge.lightweight:scorer",
        options=(
            _LAYER,
            ModelOption(
                "compress_layers", "ints", "layers before which the document's tokens are averaged", default=(24, 40)
            ),
            ModelOption(
                "compress_ratio", "int", "how many neighbouring document tokens are averaged into one; 1 for none",
                default=2, choices=(1, 2, 4, 8),
            ),
            ModelOption(
                "head_index", "str",
                "which head scores a layer. layer: the head that was trained at that layer. ordinal: the lowest "
                "selected layer takes the first head, the next the second, as FlagEmbedding does",
                default="ordinal", choices=("ordinal", "layer"),
            ),
            _prompt(SHORT_PROMPT),
        ),
        license="Gemma",
        description="Gemma 2 9B with a score at every layer from 8 to 42, and document tokens averaged between layers",
        languages=("multilingual",),
        parameters=9_240_000_000,
    ),
)  # fmt: skip


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        _cross_encoder(
            "bge-reranker-base",
            "2cfc18c9415c912f9d8155881c133215df768a70",
            "MIT",
            "XLM-R base cross-encoder",
            ("zh", "en"),
            278_000_000,
        )
    )
    register(
        _cross_encoder(
            "bge-reranker-large",
            "55611d7bca2a7133960a6d3b71e083071bbfc312",
            "MIT",
            "XLM-R large cross-encoder",
            ("zh", "en"),
            560_000_000,
        )
    )
    register(
        _cross_encoder(
            "bge-reranker-v2-m3",
            "953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e",
            "Apache-2.0",
            "bge-m3 based cross-encoder; up to max_length=8192",
            ("multilingual",),
            568_000_000,
        )
    )
    for spec in (*_LLM, *EMBEDDERS):
        register(spec)
