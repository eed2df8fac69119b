"""The metadata of a tokenizer in a GGUF file, as llama.cpp's converter writes them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["fields", "sentencepiece_pieces", "tokenizer_metadata", "with_all_merges"]


def tokenizer_metadata(folder: Path, architecture: str = "") -> dict[str, Any]:
    """The metadata of the tokenizer of a folder, from its ``tokenizer.json`` and ``tokenizer_config.json``."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    model = whole["model"]
    added = {token["content"]: token for token in whole["added_tokens"]}
    if model["type"] == "Unigram":
        texts = [piece for piece, _ in model["vocab"]]
    else:
        ids = {**model["vocab"], **{text: token["id"] for text, token in added.items()}}
        texts = sorted(ids, key=ids.__getitem__)
        assert [ids[text] for text in texts] == list(range(len(ids)))
    types = [_type(text, added, model.get("unk_token")) for text in texts]
    make = {"WordPiece": _wordpiece, "Unigram": _unigram}.get(model["type"])
    if make is None:
        make = _byte_level if "ByteLevel" in json.dumps(whole["pre_tokenizer"]) else _sentencepiece
    values = make(whole, texts, types)
    values.setdefault("tokenizer.ggml.tokens", texts)
    values.setdefault("tokenizer.ggml.token_type", types)
    keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator", "mask": "mask"}
    for name, key in keys.items():
        token = settings.get(f"{name}_token") or (settings.get("cls_token") if name == "bos" else None)
        if token is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = texts.index(token)
    if settings.get("chat_template"):
        values["tokenizer.chat_template"] = settings["chat_template"]
    return values


def _type(text: str, added: dict[str, Any], unknown: str | None) -> int:
    if text == unknown:
        return 2
    if text in added:
        return 3 if added[text]["special"] else 4
    return 6 if len(text) == 6 and text.startswith("<0x") and text.endswith(">") else 1


def _byte_level(whole: dict[str, Any], texts: list[str], types: list[int]) -> dict[str, Any]:
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    pre = "qwen2" if whole["normalizer"] else "llama-bpe" if whole["model"].get("ignore_merges") else "gpt-2"
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": merges}


def _sentencepiece(whole: dict[str, Any], texts: list[str], types: list[int]) -> dict[str, Any]:
    """Scores in the order in which the merges first make a piece."""
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in whole["model"]["merges"]]
    order = {text: -float(number) for number, text in enumerate(dict.fromkeys("".join(merge) for merge in merges))}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [order.get(text, -float(len(order))) for text in texts],
        "tokenizer.ggml.add_space_prefix": "Prepend" in json.dumps(whole["normalizer"]),
    }


def _wordpiece(whole: dict[str, Any], texts: list[str], types: list[int]) -> dict[str, Any]:
    def phantom(text: str, kind: int) -> str:
        if kind in (2, 3):
            return text
        return text[2:] if text.startswith("##") else f"\u2581{text}"

    types = [3 if kind == 2 else kind for kind in types]
    tokens = [phantom(text, kind) for text, kind in zip(texts, types, strict=True)]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.token_type_count": 2,
    }


def _unigram(whole: dict[str, Any], texts: list[str], types: list[int]) -> dict[str, Any]:
    import base64

    model, normalizer = whole["model"], whole["normalizer"]
    types[model["unk_id"]] = 2
    values = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [float(score) for _, score in model["vocab"]],
        "tokenizer.ggml.token_type_count": 1,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
        "tokenizer.ggml.unknown_token_id": model["unk_id"],
    }
    if normalizer is not None and normalizer["type"] == "Precompiled":
        values["tokenizer.ggml.precompiled_charsmap"] = base64.b64decode(normalizer["precompiled_charsmap"])
    return values


def sentencepiece_pieces(data: bytes) -> Iterator[tuple[str, float, int]]:
    """Text, score and type of the pieces in a SentencePiece model: the messages of field 1, with fields 1, 2 and 3."""
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(fields(value))
            (score,) = struct.unpack("<f", piece.get(2, b"\0\0\0\0"))
            yield piece[1].decode("utf-8"), score, piece.get(3, 1)


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(key & 7)
        if length is None:
            length, at = varint(at)
        yield key >> 3, data[at : at + length]
        at += length


def with_all_merges(folder: Path) -> Path:
    """Let a tokenizer merge whatever joins to a piece, as SentencePiece does; the tiny ones list one way to each."""
    file = folder / "tokenizer.json"
    whole = json.loads(file.read_text())
    merges = [tuple(merge) for merge in whole["model"]["merges"]]
    made = dict.fromkeys(["".join(merge) for merge in merges])
    made.update(dict.fromkeys(text for text in whole["model"]["vocab"] if text == "\u2581\u2581"))
    order = {text: number for number, text in enumerate(made)}
    ordinary = set(order) | {text for text in whole["model"]["vocab"] if len(text) == 1}
    splits = [
        (piece[:cut], piece[cut:])
        for piece in sorted(order, key=order.__getitem__)
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in ordinary and piece[cut:] in ordinary
    ]
    whole["model"]["merges"] = splits
    file.write_text(json.dumps(whole))
    return folder
