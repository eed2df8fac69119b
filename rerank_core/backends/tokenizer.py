"""Tokenizes texts with the ``tokenizers`` package alone: fast, thread-safe, the same in every transformers release.

Truncation and padding are turned off once at load. Changing them later, as transformers does for each call, makes a
tokenizer that threads share fail with "Already borrowed".
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from array import array
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from rerank_core.backends.bert_settings import with_bert_settings
from rerank_core.backends.config_checks import check_files
from rerank_core.backends.custom_code import check_tokenizer_code
from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.try_in_child import try_tokenizer
from rerank_core.errors import CheckpointError, MissingDependencyError, short
from rerank_core.scorer import Tokens
from rerank_core.spec.untrusted_files import read_json, reading

__all__ = ["TextTokenizer", "check_tokenizer_files", "largest_id"]

# Texts of one encode_batch call: enough for its threads, and few enough that the Encoding objects (about 100 bytes a
# token), which are converted to compact arrays, need little memory.
_CHUNK = 256

_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")

# The modules with which transformers converts a SentencePiece file, and the packages that have them.
_SENTENCEPIECE = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class TextTokenizer:
    """A tokenizer without truncation, padding and added special tokens.

    Args:
        tokenizer: its truncation, padding and special-token settings are changed.
        parse_special_tokens: in user text, convert the text of a special token, such as ``</s>``, to that token, as the
            original frameworks do; by default it is tokenized as plain text.
        bos: the token at the start of a text, if the model has one.

    Attributes:
        raw: the ``tokenizers.Tokenizer``.
        lock: `literal` holds it. Hold it around `encode` where another thread may call `literal` meanwhile.
    """

    def __init__(self, tokenizer: Tokenizer, *, parse_special_tokens: bool = False, bos: str | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.raw = tokenizer
        self.bos = bos
        self.lock = Lock()
        self._spelt_out: dict[int, list[tuple[int, int]]] = {}
        self._specials: frozenset[int] = frozenset()
        if not parse_special_tokens:
            with reading("the tokenizer", "cannot spell its own special tokens"):
                self._spelt_out = _spelt_out(tokenizer)
            self._specials = frozenset(self._spelt_out)
        tokenizer.encode_special_tokens = not parse_special_tokens

    @classmethod
    def from_directory(cls, directory: str | PathLike[str], *, parse_special_tokens: bool = False) -> TextTokenizer:
        """The tokenizer of a checkpoint directory.

        Raises:
            CheckpointError: no tokenizer that can be read.
        """
        path = Path(directory) / "tokenizer.json"
        check_tokenizer_files(Path(directory))
        with reading(f"{directory}: the tokenizer", "cannot be read"):
            raw = Tokenizer.from_file(str(path)) if path.is_file() else _converted(Path(directory))
            raw = with_bert_settings(raw, Path(directory))
        if raw.get_vocab_size() <= len(raw.get_added_tokens_decoder()):
            # Without a vocabulary file, transformers creates a tokenizer that has only special tokens.
            raise CheckpointError(
                f"{directory} has no tokenizer: neither tokenizer.json nor a vocabulary to make it from"
            )
        with reading(f"{directory}: the tokenizer", inputs=False):
            return cls(raw, parse_special_tokens=parse_special_tokens, bos=_first_token(Path(directory)))

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> TextTokenizer:
        """A copy of a fast transformers tokenizer or of a ``tokenizers.Tokenizer``, whose settings do not change."""
        raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
        return cls(type(raw).from_str(raw.to_str()), bos=getattr(tokenizer, "bos_token", None))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer and its settings; tokenizers with equal digests give equal tokens."""
        state = f"{self.raw.to_str()} {self.raw.encode_special_tokens} {sorted(self._spelt_out.items())}"
        return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()

    def encode(self, texts: Sequence[str], before: str = "", after: str = "") -> list[Tokens]:
        """The tokens of each text, in order.

        Args:
            before, after: literal text of the template piece around it, tokenized together with it.
        """
        result: list[Tokens] = []
        for start in range(0, len(texts), _CHUNK):
            # tokenizers refuses a lone surrogate; U+FFFD is one character too, so offsets do not change.
            chunk = [_LONE_SURROGATE.sub("\ufffd", text) for text in texts[start : start + _CHUNK]]
            wrapped = [before + text + after for text in chunk] if before or after else chunk
            with reading("the tokenizer", "fails on a text"):
                encodings = self.raw.encode_batch(wrapped, add_special_tokens=False)
            result.extend(
                self._tokens(encoding, len(before), len(text)) for encoding, text in zip(encodings, chunk, strict=True)
            )
        return self._with_inner_tails(result, texts, after) if after else result

    def _with_inner_tails(self, tokens: Sequence[Tokens], texts: Sequence[str], after: str) -> list[Tokens]:
        """Set `Tokens.inner_tail` where the tokenizer merges the end of a text with ``after``."""
        # A digit is a token of its own in the tokenizers of language models.
        with reading("the tokenizer", "fails on a text"):
            encoding = self.raw.encode("0" + after, add_special_tokens=False)
        alone = tuple(id_ for id_, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= 1)

        def merged(one: Tokens, text: str) -> bool:
            return len(one) > 0 and len(one.tail) < len(alone) and one.stops[-1] == len(text)

        pairs = zip(tokens, texts, strict=True)
        return [replace(one, inner_tail=alone) if merged(one, text) else one for one, text in pairs]

    def literal(self, text: str) -> tuple[int, ...]:
        """Token ids of a template's literal text, in which special tokens are recognized.

        It changes a setting of the tokenizer while it runs, so `encode` in another thread must wait for `lock`; a
        scorer calls it only while it is built.
        """
        with self.lock:
            setting = self.raw.encode_special_tokens
            self.raw.encode_special_tokens = False
            try:
                with reading("the tokenizer", f"fails on the template's text {short(text)}"):
                    return tuple(self.raw.encode(text, add_special_tokens=False).ids)
            finally:
                self.raw.encode_special_tokens = setting

    def _tokens(self, encoding: Encoding, before: int, length: int) -> Tokens:
        ids, offsets = encoding.ids, encoding.offsets
        if not self._specials.isdisjoint(ids):
            ids, offsets = self._expand(ids, offsets)
        first, last = 0, len(ids)
        if before:
            first = next((i for i, (_, stop) in enumerate(offsets) if stop > before), last)
        while last > first and offsets[last - 1][0] >= before + length and offsets[last - 1][1] > before + length:
            last -= 1
        text_offsets = offsets[first:last]
        return Tokens(
            array("i", ids[first:last]),
            array("I", [max(0, start - before) for start, _ in text_offsets]),
            array("I", [min(length, stop - before) for _, stop in text_offsets]),
            tuple(ids[:first]),
            tuple(ids[last:]),
        )

    def _expand(
        self, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Replace special tokens in user text by the ordinary tokens that spell them."""
        new_ids: list[int] = []
        new_offsets: list[tuple[int, int]] = []
        for id_, (start, stop) in zip(ids, offsets, strict=True):
            for piece, width in self._spelt_out.get(id_, [(id_, stop - start)]):
                new_ids.append(piece)
                new_offsets.append((start, min(stop, start + width)))
                start = min(stop, start + width)
        return new_ids, new_offsets


def check_tokenizer_files(directory: Path) -> None:
    """Refuse tokenizer files that are damaged, would crash this process, or need code of the model's authors.

    Raises:
        CheckpointError: names the file.
    """
    check_files(directory)
    for name in _SETTINGS:
        if (directory / name).is_file():
            check_tokenizer_code(read_json(directory / name))
    if (directory / "tokenizer.json").is_file():
        try_tokenizer(directory / "tokenizer.json")


def largest_id(tokenizer: Tokenizer) -> int:
    """The largest id of a tokenizer's tokens, added tokens included."""
    size: int = tokenizer.get_vocab_size(with_added_tokens=True)
    # Without gaps it is the last one. Looking ids up takes a quarter of the time of copying the vocabulary.
    if all(tokenizer.id_to_token(id_) is not None for id_ in range(size)):
        return size - 1
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values()))


def _spelt_out(tokenizer: Tokenizer) -> dict[int, list[tuple[int, int]]]:
    """For each special token, the ordinary tokens that spell it, with their widths in characters.

    With `encode_special_tokens` the tokenizer does not recognize them in text, but a unigram vocabulary such as XLM-R's
    holds ``</s>`` and ``<mask>`` as ordinary pieces too, so its model still produces their ids.
    """
    # The unknown token is special too, but ordinary text may become it. A character outside every vocabulary shows its
    # id.
    try:
        unknown = {token.id for token in tokenizer.model.tokenize("\U0010ffff")}
    except Exception:  # noqa: BLE001 -- tokenizers raises Exception if a vocabulary has no unknown token
        unknown = set()
    result: dict[int, list[tuple[int, int]]] = {}
    for id_, token in tokenizer.get_added_tokens_decoder().items():
        text = token.content
        if not token.special or id_ in unknown or len(text) < 2:
            continue
        pieces = [*tokenizer.model.tokenize(text[:1]), *tokenizer.model.tokenize(text[1:])]
        result[id_] = [(piece.id, len(piece.value)) for piece in pieces]
    return result


def _first_token(directory: Path) -> str | None:
    """The token at the start of a text, from the tokenizer's files. The id in config.json is not reliable: Qwen2's
    names a bos token that its tokenizer does not use."""
    for name in _SETTINGS:
        file = directory / name
        if not file.is_file():
            continue
        settings = read_json(file)
        if "bos_token" in settings:
            token = settings["bos_token"]
            content = token.get("content") if isinstance(token, dict) else token
            return content if isinstance(content, str) and content else None
    return None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def _converted(directory: Path) -> Tokenizer:
    """The tokenizer of a checkpoint without ``tokenizer.json``; transformers converts its vocabulary."""
    from transformers import AutoTokenizer

    # Without these packages transformers reads the file as another format, and reports that.
    missing = [name for name in _SENTENCEPIECE if not _installed(name)]
    if missing and (file := next(directory.glob("*.model"), None)) is not None:
        raise MissingDependencyError(
            f"{directory} has its tokenizer only as {file.name}, which is converted with packages that are not "
            f"installed here: pip install {' '.join(_SENTENCEPIECE.values())}"
        )
    loaded = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    raw: Tokenizer = loaded.backend_tokenizer
    return raw
