"""Any chat model as a pointwise reranker: its own chat template around a question with two one-token answers.

The log-odds of ``yes`` over ``no`` as the next token (Sachan et al., 2022; Nogueira et al., *monoT5*, 2020).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rerank_core import Head, InputError, ModelSpec, Options, Template
from rerank_core.backends.torch import DecoderScorer, decoder_of, locate, tokenizer_folder
from rerank_llm.chat import ChatTemplate

__all__ = ["PROMPTS", "scorer", "template_of"]

PROMPTS = {
    "en": (
        "{instruction}Query: {query}\n\nDocument: {doc}\n\n"
        'Is the document relevant to the query? Answer with one word, "yes" or "no".'
    ),
    "zh": "{instruction}查询：{query}\n\n文档：{doc}\n\n这篇文档与查询相关吗？只回答一个字，“是”或“否”。",
}
LABELS = {"en": ("yes", "no"), "zh": ("是", "否")}


def scorer(spec: ModelSpec, options: Options) -> DecoderScorer:
    """The factory that the spec names.

    Raises:
        CheckpointError: no chat template, or labels that are not single tokens for this tokenizer.
    """
    directory = locate(spec, options)
    own = options.model
    positive, negative = LABELS[own["language"]]
    worded = replace(
        spec,
        template=template_of(own["prompt"] or PROMPTS[own["language"]], tokenizer_folder(directory, spec, options)),
        head=Head.last_token(own["positive"] or positive, own["negative"] or negative),
    )
    return decoder_of(worded, options, directory)


def template_of(prompt: str, directory: Path) -> Template:
    """A prompt inside a checkpoint's chat template. The query comes first, so that its documents share it.

    Raises:
        InputError: a prompt without both marks, or with the document first.
    """
    question, found, rest = prompt.partition("{query}")
    middle, also, end = rest.partition("{doc}")
    if not found or not also or prompt.count("{query}") != 1 or prompt.count("{doc}") != 1:
        raise InputError(f"prompt is {prompt!r}; it must hold {{query}} and then {{doc}}, each once")
    # Some templates write nothing before the message.
    parts = ChatTemplate(directory).parts([("user", "\0")])
    place = parts.index(("\0", False))
    before, after = ("".join(text for text, _ in some) for some in (parts[:place], parts[place + 1 :]))
    # What stands on the document's own line is tokenized with it, what stands before is shared.
    cut = middle.rfind("\n") + 1
    return Template(
        before=before,
        query=question + "{query}",
        between=middle[:cut],
        doc=middle[cut:] + "{doc}",
        after=(end, after),
    )
