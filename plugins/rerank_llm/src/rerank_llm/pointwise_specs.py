"""The specs of the models that answer yes or no for one document at a time."""

from rerank_core import FirstP, Head, ModelOption, ModelSpec, Template
from rerank_core.spec import CompatProfile, CompatRules

_CUT = CompatRules(FirstP())
# On the model card, query and document are one string that is cut from the right. Tokenizing it in two pieces gives the
# same tokens, because Qwen's tokenizer never merges across a colon and the space after it.
_QWEN3 = Template(
    before=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    ),
    query="<Instruct>: {instruction}\n<Query>: {query}\n<Document>:",
    doc=" {doc}",
    after="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)


def _qwen3(size: str) -> ModelSpec:
    return ModelSpec(
        name=f"qwen3-reranker-{size.lower()}",
        checkpoint=f"Qwen/Qwen3-Reranker-{size}",
        template=_QWEN3,
        head=Head.last_token("yes", "no"),
        max_length=8192,
        activation="sigmoid",
        options=(
            ModelOption(
                "instruction", "str", "the task: which documents are relevant",
                default="Given a web search query, retrieve relevant passages that answer the query", when="call",
            ),
        ),
        compat={"model-card": CompatProfile(pairs=_CUT, lists=_CUT)},
        license="Apache-2.0",
        description=f"Qwen3 {size} that answers yes or no; takes an instruction",
        languages=("multilingual",),
    )  # fmt: skip


# Query and document share max_length tokens, of which the query has at most three quarters; the rest of the template is
# added to that.
_MXBAI_CARD = CompatRules(FirstP(), query_share=(3, 4), count_literal_text=True, extra_budget=("before", "after"))
_MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each "
    "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
    "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
)
_MXBAI = Template(
    before=(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    ),
    query="{instruction}query: {query}",
    between="\n",
    doc="document: {doc}",
    after=(
        "\n",
        _MXBAI_TASK,
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
)


def _mxbai(size: str, base: str) -> ModelSpec:
    return ModelSpec(
        name=f"mxbai-rerank-{size}-v2",
        checkpoint=f"mixedbread-ai/mxbai-rerank-{size}-v2",
        template=_MXBAI,
        head=Head.last_token("1", "0"),
        max_length=8192,
        options=(
            ModelOption(
                "instruction", "str", "the task: which documents are relevant", default="", when="call",
                written="instruction: {}\n",
            ),
        ),
        compat={"model-card": CompatProfile(pairs=_MXBAI_CARD, lists=_MXBAI_CARD)},
        license="Apache-2.0",
        description=f"Qwen2.5 {base} that answers 1 or 0; takes an instruction",
        languages=("multilingual",),
    )  # fmt: skip


POINTWISE = (*map(_qwen3, ("0.6B", "4B", "8B")), _mxbai("base", "0.5B"), _mxbai("large", "1.5B"))


def zero_shot_spec(checkpoint: str) -> ModelSpec:
    """Any chat model as a yes/no reranker of one document at a time; see `zero_shot.scorer`."""
    return ModelSpec(
        name="llm-zero-shot",
        checkpoint=checkpoint,
        template=Template(),
        scorer="rerank_llm.zero_shot:scorer",
        max_length=4096,
        options=(
            ModelOption("language", "str", "language of the prompt and the labels", default="en", choices=("en", "zh")),
            ModelOption(
                "prompt", "str", "a prompt of your own: {query} before {doc}, {instruction} if wanted; the whole text "
                "for a base model, which has no chat template",
            ),
            ModelOption("positive", "str", "the answer for a relevant document; by default yes or 是"),
            ModelOption("negative", "str", "the answer for any other document; by default no or 否"),
            ModelOption(
                "instruction", "str", "the task: which documents are relevant; a sentence before the query", default="",
                when="call", written="{}\n\n",
            ),
        ),
        description="a chat model that is asked whether a document is relevant; the log-odds of its answer",
    )  # fmt: skip
