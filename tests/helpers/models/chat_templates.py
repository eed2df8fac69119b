"""Chat templates of rerankers, and a tiny classifier to put them beside."""

from __future__ import annotations

from pathlib import Path

from rerank_core.testing.decoders import write_tokenizer

__all__ = ["FLAT", "STRUCTURED", "TURNED", "decoder_classifier"]

LOOP = "{% for m in messages %}{% if m.role == 'ROLE' %}TEXT{% endif %}{% endfor %}"
# Query and document in one text between two special tokens, with a default instruction, and a generation prompt.
FLAT = (
    "<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\n"
    "{% set task = messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first %}"
    "<Instruct>: {{ task | default('the default task') }}\n<Query>: "
    + LOOP.replace("ROLE", "query").replace("TEXT", "{{ m.content }}")
    + "\n<Document>: "
    + LOOP.replace("ROLE", "document").replace("TEXT", "{{ m.content }}")
    + "<|im_end|>\n{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>"
    "\n\n{% endif %}{% endif %}\n"
)
# Any role, as ChatML writes it; contents are lists of parts.
STRUCTURED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)
# The document first, and the instruction behind the query; no special token in between.
TURNED = (
    "Check.\n<Document> {{ messages[-1].content }}\n<Query> {{ messages[-2].content }}"
    "{% if messages | length == 3 %} {{ messages[0].content }}{% endif %} ??"
)


def decoder_classifier(folder: Path, *, labels: int = 1) -> Path:
    """A tiny sequence classifier of Qwen3."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    size = write_tokenizer(folder, "bytes")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3", vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, num_labels=labels, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder
