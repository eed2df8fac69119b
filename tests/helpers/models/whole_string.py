"""A causal language model of plain transformers that reads one string, special tokens in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

__all__ = ["WholeString"]


class WholeString:
    """The model of a folder with all its logits, and token ids of text in which special tokens are special."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        auto: Any = AutoModelForCausalLM
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those that the tokenizer would add."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """The logits of the next token, ``[vocabulary]``."""
        logits: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
        return logits

    def logit(self, ids: list[int], label: int) -> float:
        """The logit of one next token."""
        return float(self.logits(ids)[label])
