"""The slow, obvious way to the same numbers: plain Hugging Face, one row at a time, no padding, nothing clever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

SHORT = ("a bear", "Pandas eat bamboo for most of the day.", "paris", "A", "1998!", "what is a panda?")
CHINESE = ("大熊猫主要以竹子为食。", "熊貓", "法国的首都是巴黎，1998年举办了世界杯决赛。")
EMOJI = ("🐼", "👨‍👩‍👧‍👦 family", "👍🏽 ✅🎋", "❤️‍🔥")
BLANK = ("", " ", "\n\t\u3000\u00a0")
ODD = (
    "مرحبا بالعالم",
    "שלום עולם",
    "nul \x00 inside",
    "e\u0301 A\u0308\u0323 combining \u0301",
    "ﬁ ½ ﷺ ＡＢＣ",
    "zero\u200bwidth \ufeff joiner\u200d",
    "tab\tand\nline",
    "  two  spaces  ",
    "\ufffd",
    "x" * 300,
    "<tag> & </tag> [brackets]",
)
PARAGRAPH = "The giant panda eats bamboo, fish and eggs; 大熊猫每天吃很多竹子 🎋 and sleeps. "
LONG = PARAGRAPH * 45
TEXTS = (*SHORT, *CHINESE, *EMOJI, *BLANK, *ODD, PARAGRAPH, LONG)
QUERIES = ("what is a panda?", "大熊猫吃什么？", "🐼 eats", "The capital of France, in the year of the world cup")
DOCUMENTS = (*SHORT, *CHINESE, *EMOJI, *BLANK, *ODD[:6], PARAGRAPH)


def assert_close(expected: Sequence[float], actual: Sequence[float]) -> None:
    """Equal to 1e-5, relative to scores above 1."""
    assert len(expected) == len(actual)
    worst = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, actual, strict=True))
    assert worst <= 1e-5, f"off by {worst:.1e}: expected {list(expected)}, not {list(actual)}"


def cut(ids: Sequence[int], room: int, overlap: int | None = None) -> Iterator[list[int]]:
    """Windows of ``room`` ids, each ``overlap`` ids back into the last, until the end is reached."""
    step = room - (min(80, room // 4) if overlap is None else overlap)
    start = 0
    while True:
        yield list(ids[start : start + room])
        if start + room >= len(ids):
            return
        start += step


class Plain:
    """What both kinds share: the tokenizer of a directory."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(directory))

    def ids(self, text: str) -> list[int]:
        """The text's own ids, no special tokens, uncut."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found


class PlainCrossEncoder(Plain):
    """A sequence classifier, one pair at a time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        auto: Any = AutoModelForSequenceClassification
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()
        self.typed = self.model.config.type_vocab_size > 1
        # XLM-R parts the texts with two separators, BERT with one.
        self.gap = 2 if self.model.config.model_type == "xlm-roberta" else 1

    def pair(self, query: str, document: str, **more: Any) -> Any:
        """The tokenizer's own layout of a pair, as a batch of one: alone, it takes an empty text for no text."""
        return self.tokenizer([query], [document], **more)

    @torch.inference_mode()
    def score(self, query: str, document: str, **truncation: Any) -> float:
        inputs = self.pair(query, document, return_tensors="pt", **truncation)
        if not self.typed:
            inputs.pop("token_type_ids", None)
        return float(self.model(**inputs).logits[0, 0])

    @torch.inference_mode()
    def window_scores(self, query: str, document: str, max_length: int, overlap: int | None = None) -> list[float]:
        """Scores of a document's windows: slices of its ids, each wrapped in the whole pair layout."""
        cls, sep, asked = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.ids(query)
        left = [cls, *asked, *[sep] * self.gap]
        scores = []
        for window in cut(self.ids(document), max_length - len(left) - 1, overlap):
            row = [*left, *window, sep]
            types = [0] * len(left) + [1] * (len(window) + 1)
            inputs = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row), dtype=torch.long)}
            if self.typed:
                inputs["token_type_ids"] = torch.tensor([types])
            scores.append(float(self.model(**inputs).logits[0, 0]))
        return scores


class PlainLateInteraction(Plain):
    """MaxSim of two texts at a time, each encoded alone."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        auto: Any = AutoModel
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()

    @torch.inference_mode()
    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """One unit vector per token of ``[CLS] ids [SEP]``."""
        row = [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]
        hidden = self.model(input_ids=torch.tensor([row])).last_hidden_state[0]
        return hidden / hidden.norm(dim=-1, keepdim=True)

    def window_scores(self, query: str, document: str, max_length: int, reduce: str) -> list[float]:
        asked = self.vectors(self.ids(query))
        scores = []
        for window in cut(self.ids(document), max_length - 2):
            read = self.vectors(window)
            best = (asked @ read.T).max(dim=1).values
            scores.append(float(best.sum()) / (len(best) if reduce == "mean" else 1))
        return scores


class PlainCausal(Plain):
    """A causal language model, one row at a time, every logit of its vocabulary computed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        auto: Any = AutoModelForCausalLM
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()
        assert self.model.config._attn_implementation in ("sdpa", "eager")

    @torch.inference_mode()
    def score(self, pieces: Sequence[str | Sequence[int]], positive: str, negative: str | None = None) -> float:
        """The logit of a label after pieces that are each tokenized alone, less that of another."""
        ids = [id_ for piece in pieces for id_ in (self.ids(piece) if isinstance(piece, str) else piece)]
        logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        found = float(logits[self.ids(positive)[0]])
        return found if negative is None else found - float(logits[self.ids(negative)[0]])


class PlainEncoderDecoder(Plain):
    """An encoder-decoder, one row at a time, every logit of its vocabulary computed at the first decoder step."""

    def __init__(self, directory: Path, start: int = 0) -> None:
        super().__init__(directory)
        auto: Any = AutoModelForSeq2SeqLM
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32, attn_implementation="eager").eval()
        self.start = start

    @torch.inference_mode()
    def score(self, prompt: str | Sequence[int], positive: str | int, negative: str | int | None = None) -> float:
        """The logit of a label after a prompt, less that of another. A text is tokenized whole, with ``</s>`` at its
        end."""
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        step = torch.tensor([[self.start]])
        logits = self.model(input_ids=torch.tensor([ids]), decoder_input_ids=step).logits[0, 0]
        rows = [label if isinstance(label, int) else self.ids(label)[0] for label in (positive, negative) if label]
        return float(logits[rows[0]]) if negative is None else float(logits[rows[0]] - logits[rows[1]])
