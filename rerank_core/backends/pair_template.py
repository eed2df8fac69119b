"""Turns the chat template of a reranker's folder into the literal pieces of a `Template`, checked token by token.

sentence-transformers renders a query and a document through the chat template, as messages with the roles ``query`` and
``document``, and tokenizes the whole text. Here the pieces are tokenized on their own, so that the part before the
document is computed once for all documents of a query. The pieces meet at special tokens, or where the tokenizer does
not merge; a template that changes the texts, or whose output depends on them, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank_core.backends.chat_template import MessageTemplate, open_tokenizer
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.spec import ModelSpec, Template
from rerank_core.spec.untrusted_files import read_json

__all__ = ["with_literal_template"]

# Texts with which templates and seams are tried: plain, blank at both ends, of several lines, in other scripts, with
# marks that chat templates look for, and empty.
_TRIED = (
    ("what is a panda?", "The giant panda is a bear."),
    (" what\n", "\n\n two lines\nhere \n"),
    ("熊猫吃什么？", "大熊猫吃竹子。"),
    ("12", "3.5 kg: {{ query }} </think> x"),
    ("Was? ", ""),
    ("\tab", "  - a list\r\n"),
)
_LONG = ("what is a panda? " * 200, "The giant panda is a bear. " * 1000)
# Where a text of the template ends with a line break and the document begins with one, most tokenizers join the two. If
# no other seam is found, such texts, and no others, have other tokens than in sentence-transformers.
_WITHOUT_BLANKS = tuple((query, doc) for query, doc in _TRIED if query == query.strip() and doc == doc.strip())
_INSTRUCTION = "Find passages that answer the question"
_QUERY, _DOC, _OPTION = "{query}", "{doc}", "{instruction}"
_PLACEHOLDERS = (_QUERY, _DOC, _OPTION, "{bos}")
# How many characters between query and document are tried as the seam, from the document on.
_SEAMS = 400


def with_literal_template(spec: ModelSpec, values: Mapping[str, Any], directory: Path, model: Path) -> ModelSpec:
    """The spec with the pieces that the folder's chat template writes in place of ``Template.chat()``; any other spec
    unchanged.

    Args:
        values: the options' values; ``instruction`` becomes the system message.
        directory: the folder of the tokenizer.
        model: the folder of config.json.

    Raises:
        CheckpointError: no chat template, or one that cannot be followed; the message says why.
        InputError: an instruction for a template that does not write one.
    """
    if spec.template.wrap != "chat":
        return spec
    config = model / "config.json"
    chat = MessageTemplate(
        directory,
        tokenizer := open_tokenizer(directory),
        message_format=spec.template.message_format,
        model_type=read_json(config).of("model_type", str, "") if config.is_file() else "",
    )
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"{directory} says that a pair is written with a chat template, and its tokenizer has none; download the "
            "folder again, with chat_template.jinja or tokenizer_config.json"
        )
    instruction = str(values.get("instruction") or "")
    pair = _PairWriter(chat, dict(spec.template.variables), has_instruction=bool(instruction))
    pieces = pair.pieces()
    raw = TextTokenizer.from_directory(directory, parse_special_tokens=True)
    template = _Seams(raw, directory).template(pieces)
    for (query, doc), whole in zip((*_TRIED, _LONG), pair.texts((*_TRIED, _LONG)), strict=True):
        if whole != _joined(pieces, query, doc):
            raise CheckpointError(
                f"{directory}: the chat template changes the texts or depends on them (it trims or tests the content, "
                f"for example): for {short(query)} and {short(doc)} it writes {short(whole)}. {_ADVICE}"
            )
        is_tried = (query == query.strip() and doc == doc.strip()) or template.between
        if is_tried and _ids(raw, template, query, doc) != list(raw.raw.encode(whole, add_special_tokens=False).ids):
            raise CheckpointError(
                f"{directory}: the tokenizer gives other tokens for the parts of the chat template than for the whole "
                f"text ({short(query)}, {short(doc)}), so that documents of a query cannot share them. {_ADVICE}"
            )
    return replace(spec, template=template)


_ADVICE = (
    "Write the layout into a reranker.json of the folder with rerank_core.write_spec: Template.pair() if the model was "
    "trained on plain pairs, else the template's pieces"
)


class _PairWriter:
    """Writes a pair, and an instruction where there is one, with a chat template."""

    def __init__(self, chat: MessageTemplate, variables: dict[str, Any], *, has_instruction: bool) -> None:
        self._chat = chat
        self._variables = variables
        self._roles = ["system"] * has_instruction + ["query", "document"]

    def pieces(self) -> list[str]:
        """Text and placeholders, alternating.

        Raises:
            CheckpointError: a template that leaves a text out or writes it twice.
            InputError: it leaves the instruction out.
        """
        names = [_OPTION, _QUERY, _DOC][-len(self._roles) :]
        found = self._chat.pieces([(role, "") for role in self._roles], self._variables)
        order = [names[part] for part in found if isinstance(part, int)]
        if _OPTION in names and _OPTION not in order:
            raise InputError(
                f"instruction: the chat template of {str(self._chat.directory)!r} writes no system message, so an "
                "instruction would change nothing; leave it out"
            )
        if sorted(order) != sorted(names):
            raise CheckpointError(
                f"{self._chat.directory}: the chat template does not write each message once; it writes "
                f"{order!r} for messages with the roles {self._roles!r}. {_ADVICE}"
            )
        pieces = [names[part] if isinstance(part, int) else part for part in found]
        for text in pieces[::2]:
            if clash := next((name for name in _PLACEHOLDERS if name in text), None):
                raise CheckpointError(f"{self._chat.directory}: the chat template writes {clash!r}, a name that is "
                                      f"replaced in templates here. {_ADVICE}")  # fmt: skip
        return pieces

    def texts(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Each pair as the template writes it, with `_INSTRUCTION`."""
        contents = [[_INSTRUCTION, query, doc][-len(self._roles) :] for query, doc in pairs]
        return self._chat.texts([list(zip(self._roles, texts, strict=True)) for texts in contents], self._variables)


class _Seams:
    """Divides a rendered pair into pieces that can be tokenized on their own."""

    def __init__(self, tokenizer: TextTokenizer, directory: Path) -> None:
        self._tokenizer = tokenizer
        self._directory = directory
        added = tokenizer.raw.get_added_tokens_decoder().values()
        special = sorted((token.content for token in added if token.special and token.content), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def template(self, pieces: Sequence[str]) -> Template:
        """The template of text and placeholders.

        Raises:
            CheckpointError: no place between query and document where the tokenizer does not merge.
        """
        # The instruction is a part of the text around query and document.
        texts, names = [""], []
        for piece in pieces:
            if piece in (_QUERY, _DOC):
                names.append(piece)
                texts.append("")
            else:
                texts[-1] += piece
        start, middle, end = texts
        before, near_first = self._last_special(start)
        second_end, after = self._first_special(end)
        if self._special.search(middle):
            first_end, rest = self._first_special(middle)
            between, near_second = self._last_special(rest)
        else:
            turned = names[0] == _DOC
            cut = self._cut(near_first, middle, second_end, turned=turned)
            first_end, between, near_second = middle[:cut], "", middle[cut:]
        first, second = f"{near_first}{names[0]}{first_end}", f"{near_second}{names[1]}{second_end}"
        query, doc = (first, second) if names[0] == _QUERY else (second, first)
        return Template(
            before=self._with_option(before),
            query=query,
            between=self._with_option(between),
            doc=doc,
            after=self._with_option(after),
            order="query_first" if names[0] == _QUERY else "doc_first",
        )

    def _last_special(self, text: str) -> tuple[str, str]:
        """The text up to the last special token, and the rest."""
        ends = [match.end() for match in self._special.finditer(text)]
        return (text[: ends[-1]], text[ends[-1] :]) if ends else ("", text)

    def _first_special(self, text: str) -> tuple[str, str]:
        """The text before the first special token, and the rest."""
        match = self._special.search(text)
        return (text[: match.start()], text[match.start() :]) if match else (text, "")

    def _with_option(self, text: str) -> tuple[str, ...]:
        """The text in pieces, so that the one with the instruction holds no special token."""
        left, name, right = text.partition(_OPTION)
        if not name:
            return (text,) if text else ()
        (start, near), (more, end) = self._last_special(left), self._first_special(right)
        return start, near + _OPTION + more, end

    def _cut(self, near: str, middle: str, end: str, *, turned: bool) -> int:
        """Where the text between query and document can be divided: the last place at which the tokenizer divides the
        text itself before it merges anything, or at which no merge is possible.

        Args:
            near, end: the text before the first of the two, and after the second.
            turned: the document is the first.
        """
        near, shown, end = (text.replace(_OPTION, _INSTRUCTION) for text in (near, middle, end))
        inside = range(shown.find(_INSTRUCTION) + 1, shown.find(_INSTRUCTION) + len(_INSTRUCTION))
        for tried in (_TRIED, _WITHOUT_BLANKS):
            pairs = [pair[::-1] if turned else pair for pair in tried]
            for cut in range(len(shown), max(-1, len(shown) - _SEAMS), -1):
                if shown != middle and cut in inside:
                    continue
                halves = [(near + first + shown[:cut], shown[cut:] + second + end) for first, second in pairs]
                if self._divides(halves) or (0 < cut < len(shown) and self._never_merges(shown, cut, halves)):
                    is_behind = shown != middle and cut >= inside.stop
                    return cut - (len(_INSTRUCTION) - len(_OPTION) if is_behind else 0)
        raise CheckpointError(
            f"{self._directory}: the tokenizer may merge the texts around {short(middle)} in every place, so that "
            f"query and document of the chat template cannot be tokenized apart. {_ADVICE}"
        )

    def _words(self, text: str) -> list[str]:
        """The parts of a text that the tokenizer never merges; the whole text where it has no such parts."""
        raw = self._tokenizer.raw
        normal = text if raw.normalizer is None else raw.normalizer.normalize_str(text)
        return (
            [normal] if raw.pre_tokenizer is None else [word for word, _ in raw.pre_tokenizer.pre_tokenize_str(normal)]
        )

    def _divides(self, halves: Sequence[tuple[str, str]]) -> bool:
        return all(self._words(left) + self._words(right) == self._words(left + right) for left, right in halves)

    def _never_merges(self, middle: str, cut: int, halves: Sequence[tuple[str, str]]) -> bool:
        """Whether the two characters at the cut are within one word and no token of the vocabulary holds them next to
        each other, so that a tokenizer of byte pairs cannot merge across them."""
        raw, written = self._tokenizer.raw, self._words(middle[cut - 1 : cut + 1])
        if type(raw.model).__name__ != "BPE" or len(written) != 1 or len(written[0]) != 2:
            return False
        for left, right in halves:
            first, second = self._words(left), self._words(right)
            if not first or not second:
                return False
            if [*first[:-1], first[-1] + second[0], *second[1:]] != self._words(left + right):
                return False
        return not any(written[0] in token for token in raw.get_vocab(with_added_tokens=True))


def _joined(pieces: Sequence[str], query: str, doc: str) -> str:
    texts = {_OPTION: _INSTRUCTION, _QUERY: query, _DOC: doc}
    return "".join(texts[part] if at % 2 else part for at, part in enumerate(pieces))


def _ids(tokenizer: TextTokenizer, template: Template, query: str, doc: str) -> list[int]:
    """The tokens of a row, piece by piece."""
    filled = [template.query.replace(_QUERY, query), template.doc.replace(_DOC, doc)]
    first, second = filled if template.order == "query_first" else filled[::-1]
    pieces = (*template.before, first, *template.between, second, *template.after)
    texts = [piece.replace(_OPTION, _INSTRUCTION) for piece in pieces]
    return [id_ for text in texts if text for id_ in tokenizer.raw.encode(text, add_special_tokens=False).ids]
