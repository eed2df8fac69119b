"""Classifiers with several labels: their names in ``config.json``, and which of them is the score."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.spec.head import MOST_LABELS, Head
from rerank_core.spec.untrusted_files import JsonObject

__all__ = ["classifier_head", "is_unnamed", "label_index", "labels_of", "relevant_label"]

# Names of the two labels of a reranker, the one that means relevant second. Published ones: Qwen3-Reranker as a
# classifier (no, yes), fine-tuned BERTs (irrelevant, relevant; false, true), Chinese ones.
_PAIRS = (
    ("no", "yes"),
    ("false", "true"),
    ("irrelevant", "relevant"),
    ("nonrelevant", "relevant"),
    ("non relevant", "relevant"),
    ("not relevant", "relevant"),
    ("不相关", "相关"),
    ("无关", "相关"),
    ("否", "是"),
)
# The names that transformers gives where nobody did, and bare numbers.
_UNNAMED = re.compile(r"(?:label[ _-]?)?(\d+)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s_-]+")
_SHOWN = 20


def classifier_head(config: JsonObject, *, cross_encoder: bool = False) -> Head:
    """The head of a sequence classifier, from its ``config.json``.

    One label is a single logit. With two labels that mean not relevant and relevant, the score is the logit of the
    relevant one less the other's; with other names or more labels, the caller of ``load`` gives ``label``.

    Args:
        cross_encoder: the folder says that it is a reranker; of two labels without names, the second is then the score,
            as in monoBERT (Nogueira & Cho, 2019).

    Raises:
        CheckpointError: labels that cannot be read, none, or more than `MOST_LABELS`.
    """
    labels = labels_of(config)
    if len(labels) == 1:
        return Head.classifier()
    label = relevant_label(labels)
    if label is None and cross_encoder and len(labels) == 2 and is_unnamed(labels):
        label = labels[1]
    return Head.classifier(labels=labels, label=label)


def labels_of(config: JsonObject) -> tuple[str, ...]:
    """The names of a classifier's labels by number, as transformers reads them from ``config.json``.

    Raises:
        CheckpointError: see `classifier_head`.
    """
    if "id2label" not in config or config["id2label"] is None:
        count = config.of("num_labels", int, 2)
        if not 1 <= count <= MOST_LABELS:
            raise config.wrong("num_labels", f"a reranker has 1 to {MOST_LABELS} labels")
        return tuple(f"LABEL_{number}" for number in range(count))
    names = config.inner("id2label")
    if not 1 <= len(names) <= MOST_LABELS:
        raise CheckpointError(
            f"{config.file}: id2label has {len(names)} labels; a reranker has one, or two of which one means relevant, "
            f"and at most {MOST_LABELS}"
        )
    labels = tuple(names.of(str(number), str, "") for number in range(len(names)))
    if not all(labels) or len(set(labels)) != len(labels):
        raise config.wrong("id2label", f"it must give the numbers from 0 to {len(names) - 1} different names")
    return labels


def relevant_label(labels: Sequence[str]) -> str | None:
    """The name of the label that means relevant, of two whose names say so; else None."""
    if len(labels) != 2:
        return None
    plain = tuple(_SEPARATORS.sub(" ", label).strip().casefold() for label in labels)
    if plain in _PAIRS:
        return labels[1]
    return labels[0] if plain[::-1] in _PAIRS else None


def is_unnamed(labels: Sequence[str]) -> bool:
    """Whether labels are only numbered: ``LABEL_0``, ``LABEL_1``, as transformers calls them, or ``0``, ``1``."""
    matches = [_UNNAMED.fullmatch(label) for label in labels]
    return all(match is not None and int(match[1]) == number for number, match in enumerate(matches))


def label_index(head: Head, value: str | None, model: str) -> int:
    """The number of the label that is the score; 0 for a classifier with a single logit.

    Args:
        value: the option ``label``; None for the head's own.
        model: the model's name, for messages.

    Raises:
        InputError: no such label, or none is given and the head has no default.
    """
    labels = head.labels
    if len(labels) < 2:
        return 0
    name = head.label if value is None else value
    if name in labels:
        return labels.index(name)
    if name is not None and name.isdecimal() and len(name) < 9 and int(name) < len(labels):
        return int(name)
    listed = ", ".join(f"{number}: {short(label)}" for number, label in enumerate(labels[:_SHOWN]))
    listed += f", and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    if name is not None:
        raise InputError(f"label is {short(name)}; {model!r} has the labels {listed}. Give the name or number of one")
    raise InputError(
        f"{model!r} classifies into {len(labels)} labels ({listed}), and their names do not say which one means "
        f"relevant. Give the name or number of that one, such as label={labels[-1]!r}; the score is its log-odds "
        "against all others. A classifier of something else, such as sentiment, is no reranker"
    )
