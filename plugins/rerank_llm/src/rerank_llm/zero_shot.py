"""Any chat model as a pointwise reranker, without training: it is asked whether a document is relevant. With a prompt
of the caller's own, a base model too.

The score is the log-odds of ``yes`` over ``no`` as the next token (Sachan et al., 2022; Nogueira et al., *monoT5*,
2020). The prompt is written with the model's own chat template.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rerank_core import Head, InputError, ModelSpec, Options, Template
from rerank_core.backends.torch import DecoderScorer, decoder_of, locate, open_tokenizer, tokenizer_folder
from rerank_llm.chat import ChatTemplate, beginning

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
    """The factory of ``llm-zero-shot``.

    Raises:
        CheckpointError: no chat template, or labels that are not single tokens for this tokenizer.
    """
    directory = locate(spec, options)
    values = options.model
    positive, negative = LABELS[values["language"]]
    filled = replace(
        spec,
        template=template_of(values["prompt"], values["language"], tokenizer_folder(directory, spec, options)),
        head=Head.last_token(values["positive"] or positive, values["negative"] or negative),
    )
    return decoder_of(filled, options, directory)


def template_of(own: str | None, language: str, directory: Path) -> Template:
    """The template of a prompt as the user's message; for a base model, which has no chat template, the caller's own
    prompt is the whole text. Where the query comes first, all its documents share it.

    Args:
        own: the caller's prompt; by default the one of the language.

    Raises:
        InputError: a prompt without {query} and {doc}, or with one of them twice.
        CheckpointError: no chat template, and no prompt of the caller.
    """
    prompt = own or PROMPTS[language]
    if prompt.count("{query}") != 1 or prompt.count("{doc}") != 1:
        raise InputError(f"prompt is {prompt!r}; it must hold {{query}} and {{doc}}, each once")
    query_first = prompt.index("{query}") < prompt.index("{doc}")
    first, second = ("{query}", "{doc}") if query_first else ("{doc}", "{query}")
    start, _, rest = prompt.partition(first)
    middle, _, end = rest.partition(second)
    tokenizer = open_tokenizer(directory)
    if own and not tokenizer.chat_template:
        before, after = beginning(directory, tokenizer), ""
    else:
        chat = ChatTemplate(directory, tokenizer, instead="give prompt=, the whole text with {query} and {doc}")
        # "\0" takes the position of the message. Some templates write nothing before it.
        parts = chat.parts([("user", "\0")])
        message = parts.index(("\0", False))
        before, after = ("".join(text for text, _ in side) for side in (parts[:message], parts[message + 1 :]))
    # Text on the second text's own line is tokenized with it; the lines before it are shared where it is the document.
    cut = middle.rfind("\n") + 1
    pieces = (start + first, middle[cut:] + second)
    query, doc = pieces if query_first else pieces[::-1]
    return Template(
        before=before,
        query=query,
        between=middle[:cut],
        doc=doc,
        after=(end, after),
        order="query_first" if query_first else "doc_first",
    )
