"""A tiny chat model, and the same model run by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rerank_core.testing import tiny_causal_lm

if TYPE_CHECKING:
    import torch

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tiny_causal_lm(tmp_path_factory.mktemp("chat"), "qwen2", max_position_embeddings=8192)
    return with_template(directory)


def with_template(directory: Path) -> Path:
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": CHATML}), encoding="utf-8")
    return directory


class Plain:
    """The same model by hand: whole logits, one step at a time."""

    def __init__(self, directory: Path) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM

        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        auto: Any = AutoModelForCausalLM
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def prompt(self, messages: list[tuple[str, str]]) -> list[int]:
        ids: list[int] = []
        for role, content in messages:
            # No text here spells a special token, or it would be one.
            ids += [*self.ids(f"<|im_start|>{role}\n"), *self.ids(content), *self.ids("<|im_end|>\n")]
        return [*ids, *self.ids("<|im_start|>assistant\n")]

    def logits(self, ids: list[int]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
        return found

    def answer(self, ids: list[int], count: int) -> str:
        written: list[int] = []
        for _ in range(count):
            written.append(int(self.logits([*ids, *written]).argmax()))
        return str(self.tokenizer.decode(written))


@pytest.fixture(scope="module")
def plain(chat: Path) -> Plain:
    return Plain(chat)


@pytest.fixture(scope="session")
def templated() -> Callable[[Path], Path]:
    """Gives the tokenizer of a directory a chat template."""
    return with_template
