"""Models that order a list, as data."""

from rerank_core import ModelOption, ModelSpec

_COMMON = (
    ModelOption("window", "int", "passages that the model sees at once", default=20),
    ModelOption("stride", "int", "how far the window moves, from the end of the list to its beginning", default=10),
    ModelOption("max_words", "int", "words shown of a passage; characters of Chinese and Japanese", default=300),
    ModelOption(
        "prompt", "str", "rankgpt: a message for each passage (Sun et al., 2023); rankzephyr: one message for all "
        "(Pradeep et al., 2023)",
        default="rankzephyr", choices=("rankgpt", "rankzephyr"),
    ),
)  # fmt: skip

LISTWISE = (
    ModelSpec(
        name="llm-listwise",
        scorer="rerank_llm.listwise.local:ranker",
        score_space="rank",
        options=(
            *_COMMON,
            ModelOption(
                "mode", "str", "generate: the model writes the order; first-token: it is read off the logits of the "
                "first identifier, in one step (FIRST, Reddy et al., 2024)",
                default="generate", choices=("generate", "first-token"),
            ),
            ModelOption("max_new_tokens", "int", "length of an answer", default=256),
        ),
        description="a chat model that orders lists: checkpoint= names it",
    ),
    ModelSpec(
        name="llm-listwise-api",
        scorer="rerank_llm.listwise.api:ranker",
        score_space="rank",
        options=(
            *_COMMON,
            ModelOption("chat_model", "str", "the model's name at the endpoint"),
            ModelOption("base_url", "str", "of an OpenAI-compatible endpoint; by default OPENAI_BASE_URL or OpenAI's"),
            ModelOption("api_key", "str", "by default OPENAI_API_KEY", secret=True),
            ModelOption("timeout", "float", "seconds that an answer may take", default=60.0),
            ModelOption("retries", "int", "further tries after a failure, a timeout or a busy server", default=2),
        ),
        description="a chat model behind an OpenAI-compatible endpoint that orders lists",
    ),
)  # fmt: skip
