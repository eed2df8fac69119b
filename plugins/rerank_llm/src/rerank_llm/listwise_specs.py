"""The specs of the models that order a list."""

from rerank_core import ModelOption, ModelSpec

_COMMON = (
    ModelOption("window", "int", "passages in one prompt", default=20),
    ModelOption("stride", "int", "passages that the window moves by, end to start", default=10),
    ModelOption("max_words", "int", "words per passage; characters of Chinese or Japanese", default=300),
)
_PROMPT_HELP = (
    "rankgpt: one message per passage (Sun et al., 2023); rankzephyr: one message for all (Pradeep et al., 2023)"
)
_PROMPTS = ("rankgpt", "rankzephyr")

LISTWISE = (
    ModelSpec(
        name="llm-listwise",
        scorer="rerank_llm.listwise.local:ranker",
        score_space="rank",
        options=(
            *_COMMON,
            ModelOption(
                "prompt", "str", f"{_PROMPT_HELP}; plain: rankzephyr's text without a chat template, for base models",
                default="rankzephyr", choices=(*_PROMPTS, "plain"),
            ),
            ModelOption(
                "mode", "str", "generate: the model writes the order; first-token: one forward pass, and the order of "
                "the logits of the first identifier (FIRST, Reddy et al., 2024)",
                default="generate", choices=("generate", "first-token"),
            ),
            ModelOption("max_new_tokens", "int", "the longest answer, in tokens", default=256),
        ),
        description="a local chat model that orders lists; checkpoint= names it",
    ),
    ModelSpec(
        name="llm-listwise-api",
        scorer="rerank_llm.listwise.api:ranker",
        score_space="rank",
        options=(
            *_COMMON,
            ModelOption("prompt", "str", _PROMPT_HELP, default="rankzephyr", choices=_PROMPTS),
            ModelOption("chat_model", "str", "the model's name at the endpoint"),
            ModelOption("base_url", "str", "an OpenAI-compatible endpoint; by default OPENAI_BASE_URL or OpenAI's",
                        changes_scores=False),  # `ApiWindowRanker.identity` has the one that is used
            ModelOption("api_key", "str", "key of the endpoint; by default OPENAI_API_KEY", secret=True),
            ModelOption("timeout", "float", "seconds to wait for an answer", default=60.0,
                        changes_scores=False),
            ModelOption("retries", "int", "repeated requests after a failure, a timeout or a busy server", default=2,
                        changes_scores=False),
        ),
        description="a chat model behind an OpenAI-compatible endpoint that orders lists",
    ),
)  # fmt: skip
