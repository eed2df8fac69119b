"""The specs of the models that answer yes or no for one document at a time."""

from dataclasses import replace

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


def _qwen3(size: str, parameters: int) -> ModelSpec:
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
        parameters=parameters,
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


def _mxbai(size: str, base: str, parameters: int) -> ModelSpec:
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
        parameters=parameters,
        languages=("multilingual",),
    )  # fmt: skip


# Each seam is at a special token, so the pieces have the tokens of the whole string.
_ZERANK = Template(
    before="<|im_start|>",
    query="system\n{query}",
    between="<|im_end|>\n<|im_start|>",
    doc="user\n{doc}",
    after="<|im_end|>\n<|im_start|>assistant\n",
)


def _zerank(name: str, base: str, *, revision: str, parameters: int, languages: tuple[str, ...]) -> ModelSpec:
    """A model of ZeroEntropy. The card of zerank-2 (May 2026) gives raw logits and ``sigmoid(score / 5)``; the code of
    the others applied the latter."""
    return ModelSpec(
        name=name,
        checkpoint=f"zeroentropy/{name}-reranker",
        aliases=(f"zeroentropy/{name}",),
        revision=revision,
        template=_ZERANK,
        head=Head.last_token("Yes"),
        max_length=8192,
        license="Apache-2.0",
        description=f"{base} that answers Yes; sigmoid(score / 5) is the score of ZeroEntropy's API",
        languages=languages,
        parameters=parameters,
    )


# On the model card this is one string. Tokenizers do not merge across these seams: a line break is in the document's
# piece because it is one token with a full stop before it, and a blank because it is one with the word after it.
_CTXL = Template(
    before="Check whether a given document contains information helpful to answer the query.\n<Document>",
    doc=" {doc}\n",
    between="<Query>",
    query=" {query}{instruction} ??",
    order="doc_first",
)


def _ctxl(size: str, base: str, *, revision: str, parameters: int | None = None, begin: str = "") -> ModelSpec:
    """A model of ContextualAI, whose score is the logit of token 0: "!" in Qwen's vocabulary, "<unk>" in Mistral's."""
    return ModelSpec(
        name=f"ctxl-rerank-v2-{size}",
        checkpoint=f"ContextualAI/ctxl-rerank-v2-instruct-multilingual-{size}",
        revision=revision,
        template=replace(_CTXL, before=(begin, *_CTXL.before)),
        head=Head.last_token(0),
        max_length=8192,
        options=(
            ModelOption(
                "instruction", "str", "which documents to prefer, such as recent ones; after the query", default="",
                when="call", written=" {}",
            ),
        ),
        license="CC-BY-NC-SA-4.0",
        description=f"{base} that reads the document before the query; takes an instruction",
        languages=("multilingual",),
        parameters=parameters,
    )  # fmt: skip


POINTWISE = (
    _qwen3("0.6B", 596_000_000),
    _qwen3("4B", 4_020_000_000),
    _qwen3("8B", 8_190_000_000),
    _mxbai("base", "0.5B", 494_000_000),
    _mxbai("large", "1.5B", 1_540_000_000),
    _zerank(
        "zerank-1-small",
        "Qwen3 1.7B",
        revision="a65fd51c450e9b47fdddab98e31166ecad21af8d",
        parameters=1_720_000_000,
        languages=("en",),
    ),
    _zerank(
        "zerank-2",
        "Qwen3 4B",
        revision="5eae30d5ee3c6b2df2ef6d723bde45172d761c4c",
        parameters=4_020_000_000,
        languages=("multilingual",),
    ),
    _ctxl("1b", "Qwen3", revision="8fd1edf6a98564cb712064f884b8ef7df5c1b876", parameters=1_640_000_000),
    _ctxl("2b", "Qwen3", revision="6ffef5dc552583b8db58dc4a87f79f7aee78d2d9"),
    _ctxl(
        "6b",
        "Mistral",
        revision="f14ca1a2fc204dc0934c84a3d2e278f8ff646b80",
        parameters=6_800_000_000,
        begin="<s>",
    ),
)


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
                "prompt", "str", "a prompt of your own with {query} and {doc}, {instruction} if wanted; the whole text "
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
