"""The prompt of Qwen3-Reranker's model card as text, for other libraries."""

from __future__ import annotations

__all__ = ["AFTER", "BODY", "SETTINGS", "SYSTEM"]

SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
BODY = (
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n"
    "<Document>: {doc}"
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

_FIRST, _REST = (SYSTEM + BODY + AFTER).split("{query}")
_SECOND, _THIRD = _REST.split("{doc}")
# sentence-transformers fills a chat template with two messages, query and document.
SETTINGS = {
    "chat_template": f"{{{{ {_FIRST!r} + messages[0].content + {_SECOND!r} + messages[1].content + {_THIRD!r} }}}}",
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
}
"""Entries to add to tokenizer_config.json."""
