"""Scores of a published folder in transformers and sentence-transformers, by the code that the model card shows."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import ModelSpec
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.decoder.heads import label_ids
from rerank_core.spec.template import RenderedTemplate
from rerank_trainers.publish.probes import Pair

__all__ = ["plain_scores", "plain_use"]

Scores = list[float | None]


def plain_scores(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> dict[str, Scores]:
    """Raw scores by library, ``transformers`` and, where it is installed and reads such models,
    ``sentence-transformers``; None for pairs that they lay out differently.

    These are pairs that do not fit a row (other libraries cut them) and texts that spell special tokens (other
    libraries parse them).

    Raises:
        RuntimeError: a library failed; names it.
    """
    if not _has_plain_way(spec):
        return {}
    paired = spec.template.wrap == "pair"
    ways: dict[str, Callable[[Path, ModelSpec, Sequence[Pair]], list[float]]] = {}
    ways["transformers"] = _classified if paired else _by_pieces
    if paired and _has_sentence_transformers():
        ways["sentence-transformers"] = _crossed
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    chosen = [at for at, pair in enumerate(pairs) if _fits(tokenizer, spec, pair)]
    by_library: dict[str, Scores] = {}
    for library, score in ways.items():
        try:
            scores = score(folder, spec, [pairs[at] for at in chosen]) if chosen else []
        except Exception as error:  # any error of a library in the folder
            raise RuntimeError(f"{library} cannot score with it: {type(error).__name__}: {error}") from error
        by_library[library] = [None] * len(pairs)
        for at, value in zip(chosen, scores, strict=True):
            by_library[library][at] = value
    return by_library


def plain_use(spec: ModelSpec) -> list[str]:
    """Lines of a card: how other libraries score with the folder, by the code that `plain_scores` runs."""
    if not _has_plain_way(spec):
        return [
            "Scoring needs rerank-core: transformers reads the weights, but has no head or row layout of this kind."
        ]
    marked = [f"\0{name}\0" for name in ("query", "doc", "tokenizer.bos_token or str()")]
    paired, classifies = spec.template.wrap == "pair", spec.head is not None and spec.head.kind == "classifier"
    texts = _written(spec, (marked[0], marked[1])) if paired else _pieces(spec, marked[2], (marked[0], marked[1]))
    shown = ", ".join(_as_code(text) for text in texts)
    kind = "AutoModelForSequenceClassification" if classifies else "AutoModelForCausalLM"
    code = [
        f"from transformers import {kind}, AutoTokenizer",
        "import torch",
        "",
        'folder, query, doc = "path/to/this/folder", "what is a panda?", "a bear"',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {kind}.from_pretrained(folder, dtype=torch.float32)",
    ]
    note = "Neither library reads a long document in windows, and both parse special tokens in texts."
    if paired:
        code += [f'inputs = tokenizer({shown}, truncation=True, return_tensors="pt")']
        code += ["score = model(**inputs).logits.item()"]
        remark = "" if texts == (marked[0], marked[1]) else ", with query and document written as in that call"
        note = f"sentence-transformers loads it as a `CrossEncoder`{remark}. {note}"
    else:
        code += [
            f"pieces = [{shown}]  # each is tokenized on its own",
            "ids = [id for piece in pieces for id in tokenizer.encode(piece, add_special_tokens=False)]",
        ]
        code += ["score = model(torch.tensor([ids])).logits.item()"] if classifies else _label_code(spec)
    indented = [f"    {line}".rstrip() for line in code]
    return ["In plain transformers the raw score of one document is:\n", *indented, "", note]


def _label_code(spec: ModelSpec) -> list[str]:
    """The score of a language model from its logits, as Python code."""
    assert spec.head is not None
    labels = [label for label in (spec.head.positive, spec.head.negative) if label is not None]
    ids = [
        f"logits[{label}]"
        if isinstance(label, int)
        else f"logits[tokenizer.encode({label!r}, add_special_tokens=False)[0]]"
        for label in labels
    ]
    return ["logits = model(torch.tensor([ids])).logits[0, -1]", f"score = ({' - '.join(ids)}).item()"]


def _as_code(text: str) -> str:
    """A text with marks of the form ``\\0name\\0`` as Python code: a name, a string, or an f-string."""
    parts = text.split("\0")
    if len(parts) == 1:
        return repr(text)
    if parts[0] == parts[2] == "" and len(parts) == 3:
        return parts[1]
    braced = [f"{{{part}}}" if at % 2 else part.replace("{", "{{").replace("}", "}}") for at, part in enumerate(parts)]
    return "f" + repr("".join(braced))


def _has_plain_way(spec: ModelSpec) -> bool:
    return spec.scorer is None and spec.head is not None and spec.head.kind in ("classifier", "last_token")


def _written(spec: ModelSpec, pair: Pair) -> Pair:
    """Query and document with the literal text of their template pieces."""
    around = _rendered(spec, None).around
    query, doc = (text.join(around[side]) for side, text in zip(("query", "doc"), pair, strict=True))
    return query, doc


def _pieces(spec: ModelSpec, bos: str | None, pair: Pair) -> list[str]:
    """The pieces of a language model's row; each is tokenized separately."""
    return _rendered(spec, bos).pieces(*pair)


def _rendered(spec: ModelSpec, bos: str | None) -> RenderedTemplate:
    return RenderedTemplate.of(
        spec.template, spec.options, {option.name: option.default for option in spec.options}, bos
    )


def _fits(tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
    specials = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
    if any(token in text for token in specials for text in pair):
        return False
    query_length = len(tokenizer(_written(spec, pair)[0], add_special_tokens=False)["input_ids"])
    if spec.template.wrap == "pair":
        length = len(tokenizer(*_written(spec, pair))["input_ids"])
    else:
        length = len(_row(tokenizer, spec, pair))
    return length <= spec.max_length and query_length <= (spec.max_query_length or length)


def _row(tokenizer: Any, spec: ModelSpec, pair: Pair) -> list[int]:
    pieces = _pieces(spec, tokenizer.bos_token, pair)
    return [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def _classified(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    """All pairs in one padded batch, as users run them."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    module = AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32).eval()
    queries, docs = map(list, zip(*(_written(spec, pair) for pair in pairs), strict=True))
    inputs = tokenizer(queries, docs, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        scores: list[float] = module(**inputs).logits[:, 0].tolist()
    return scores


def _by_pieces(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    """The logit of a classifier for a row; of a language model the logit of the positive label after it, minus that of
    the negative label."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    assert spec.head is not None
    classifies = spec.head.kind == "classifier"
    auto = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    module = auto.from_pretrained(str(folder), dtype=torch.float32).eval()
    words = [0] if classifies else label_ids(spec.head, TextTokenizer.from_directory(folder), spec.name)
    scores = []
    for pair in pairs:
        with torch.no_grad():
            output = module(input_ids=torch.tensor([_row(tokenizer, spec, pair)])).logits[0]
        logits = output if classifies else output[-1]
        scores.append(float(logits[words[0]] - (logits[words[1]] if len(words) == 2 else 0.0)))
    return scores


def _has_sentence_transformers() -> bool:
    try:
        version = importlib.metadata.version("sentence-transformers")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.partition(".")[0]) >= 4  # the first whose CrossEncoder takes a dtype and reads an activation


def _crossed(folder: Path, spec: ModelSpec, pairs: Sequence[Pair]) -> list[float]:
    """`CrossEncoder.predict`; checks that its activation is the one that the folder names."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    applied = type(model.activation_fn).__name__.lower().replace("identity", "none")
    if applied != spec.activation:
        raise ValueError(f"it applies {applied!r} to the score, and the folder names {spec.activation!r}")
    texts = [_written(spec, pair) for pair in pairs]
    scores: list[float] = model.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()
    return scores
