"""The spec of a GGUF reranker, from the file alone: llama.cpp writes its head, its labels and its prompt into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.gguf.header import GgufHeader, read_header
from rerank_core.spec.head import Head
from rerank_core.spec.hub_or_folder import model_name_of
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import reading

__all__ = ["HEAD", "labels_of", "spec_of_gguf", "template_of"]

HEAD = "cls.output.weight"
_ENCODER = "bert"
_RANK = 4  # llama.cpp's number of the pooling type RANK
_PROMPT = "tokenizer.chat_template.rerank"
_LONGEST_PROMPT = 10_000  # characters; every special token is looked for in it
_QUERY, _DOCUMENT = "{query}", "{document}"
# Token types whose text stands for one token wherever a template has it: control and user-defined tokens.
_WHOLE = (3, 4)


def spec_of_gguf(file: Path) -> ModelSpec:
    """The spec of a GGUF file with a score head: a classifier's, or the output rows of two labels.

    Raises:
        CheckpointError: a file without a score head or without a prompt, or a damaged one.
    """
    header = read_header(file)
    architecture = header.architecture
    pooling = header.metadata.of(f"{architecture}.pooling_type", int, 0)
    if pooling != _RANK or HEAD not in header.tensors:
        raise CheckpointError(
            f"{file} is a model without a score head (its pooling type is {pooling}; rerankers have {_RANK} and "
            f"{HEAD}), so its scores would be random. If it is the GGUF form of a model that `rerank models` lists, "
            f"load that name with checkpoint={str(file)!r}; to ask a chat model, load 'llm:{file}'"
        )
    length = header.metadata.of(f"{architecture}.context_length", int, 0)
    if length < 1:
        raise CheckpointError(f"{file}: {architecture}.context_length is {length}; it must be at least 1")
    with reading(file, inputs=False):
        facts: dict[str, Any] = {
            "name": model_name_of(file.with_suffix("")),
            "checkpoint": str(file.absolute()),
            "max_length": length,
            "description": f"{architecture} from a GGUF file",
        }
        if architecture == _ENCODER:
            return ModelSpec(template=Template.pair(), head=Head.classifier(), **facts)
        return ModelSpec(
            template=template_of(header), head=Head.last_token(*labels_of(header)), activation="sigmoid", **facts
        )


def labels_of(header: GgufHeader) -> tuple[str, str]:
    """The labels of the two rows of a causal reranker's head: the one for a relevant document, and the other.

    Raises:
        CheckpointError: not two labels, or a head with another number of rows.
    """
    key = f"{header.architecture}.classifier.output_labels"
    labels = header.metadata.texts(key) or ()
    rows = header.tensors[HEAD].rows
    if len(labels) != 2 or rows != 2:
        raise CheckpointError(
            f"{header.file}: {key} is {short(list(labels))}, and {HEAD} has {rows} rows; the head of a causal reranker "
            "has two of both, for yes and for no"
        )
    return labels[0], labels[1]


def template_of(header: GgufHeader) -> Template:
    """The template of a causal reranker, from the chat template that llama.cpp calls ``rerank``: a text with
    ``{query}`` and ``{document}``.

    The seams lie where the tokenizer does not merge: after a line break or a special token before the query, before
    the space of the document, and at the special tokens. Text around query and document is tokenized with them.

    Raises:
        CheckpointError: no such template, or one without query and document in this order.
    """
    prompt = header.metadata.of(_PROMPT, str, "")
    if len(prompt) > _LONGEST_PROMPT:
        raise header.metadata.wrong(_PROMPT, f"{_LONGEST_PROMPT} characters are the most")
    start, has_query, rest = prompt.partition(_QUERY)
    middle, has_document, end = rest.partition(_DOCUMENT)
    if not has_query or not has_document or _QUERY in middle + end or _DOCUMENT in start + end:
        raise CheckpointError(
            f"{header.file}: {_PROMPT} is {short(prompt)}; it must hold {_QUERY} and then {_DOCUMENT}, each once. Load "
            f"the model by the name that `rerank models` lists, with checkpoint={str(header.file)!r}"
        )
    specials = _special_texts(header)
    cut = max(_last(start, specials)[1], start.rfind("\n") + 1)
    first, _ = _first(middle, specials)
    _, last = _last(middle, specials)
    if first is None:  # no special token between them
        space = len(middle) - len(middle.rstrip(" "))
        seam = len(middle) - min(space, 1)
        query, between, document = middle[:seam], "", middle[seam:]
    else:
        query, between, document = middle[:first], middle[first:last], middle[last:]
    tail, _ = _first(end, specials)
    tail = len(end) if tail is None else tail
    return Template(
        before=start[:cut],
        query=f"{start[cut:]}{{query}}{query}",
        between=between,
        doc=f"{document}{{doc}}{end[:tail]}",
        after=end[tail:],
    )


def _special_texts(header: GgufHeader) -> list[str]:
    """The texts of control and user-defined tokens, except blank ones: a line break is a token of Gemma."""
    texts = header.metadata.texts("tokenizer.ggml.tokens") or ()
    types = header.metadata.of("tokenizer.ggml.token_type", list, [])
    return [text for text, kind in zip(texts, types, strict=False) if kind in _WHOLE and text.strip()]


def _first(text: str, specials: list[str]) -> tuple[int | None, int]:
    """Where the first special token begins, and where it ends; None and 0 where there is none."""
    found = [(text.find(special), -len(special)) for special in specials if special in text]
    return (min(found)[0], min(found)[0] - min(found)[1]) if found else (None, 0)


def _last(text: str, specials: list[str]) -> tuple[int | None, int]:
    """Where the last special token begins, and where it ends; None and 0 where there is none."""
    found = [(text.rfind(special) + len(special), len(special)) for special in specials if special in text]
    return (max(found)[0] - max(found)[1], max(found)[0]) if found else (None, 0)
