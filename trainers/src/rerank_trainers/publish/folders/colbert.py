"""`write_colbert`: the files with which other libraries open a published late-interaction model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from rerank_core import InputError, ModelSpec
from rerank_core.errors import one_of
from rerank_trainers.publish.folders.bge_m3 import bge_m3_fault, bge_m3_notes, write_bge_m3
from rerank_trainers.publish.folders.late_folder import LateFolder
from rerank_trainers.publish.folders.multi_vector import multi_vector_fault, write_multi_vector
from rerank_trainers.publish.folders.pylate import pylate_fault, pylate_notes, write_pylate
from rerank_trainers.publish.folders.tokenizer_files import drop_chat_template

__all__ = ["LAYOUTS", "Layout", "Layouts", "layouts_of", "write_colbert"]

Layout: TypeAlias = Literal["sentence-transformers", "pylate", "bge-m3"]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_FAULTS: dict[Layout, Callable[[LateFolder], str | None]] = {
    "sentence-transformers": multi_vector_fault,
    "pylate": pylate_fault,
    "bge-m3": bge_m3_fault,
}
_NOTES: dict[Layout, Callable[[LateFolder], list[str]]] = {
    "sentence-transformers": lambda late: [],
    "pylate": pylate_notes,
    "bge-m3": bge_m3_notes,
}


@dataclass(frozen=True)
class Layouts:
    """The result of `write_colbert`.

    Attributes:
        written: the layouts that the folder has.
        notes: for a model card, by layout: why it is not there, or how scores differ.
    """

    written: tuple[Layout, ...]
    notes: Mapping[Layout, Sequence[str]]


def write_colbert(folder: Path, spec: ModelSpec, *, layouts: Sequence[Layout] = LAYOUTS) -> Layouts:
    """Write the files of each layout that can express the model; a layout that cannot is left out and a note says why.

    - ``sentence-transformers``: ``MultiVectorEncoder(folder)``, from release 6 on.
    - ``pylate``: ``pylate.models.ColBERT(folder)``. Where both can express the model, the folder has PyLate's files,
      which sentence-transformers reads too; otherwise those of `MultiVectorEncoder`.
    - ``bge-m3``: ``colbert_linear.pt``, for the loaders of BGE-M3 and RAG-Retrieval.

    Args:
        folder: has the encoder, its tokenizer and the Dense folders that the head's ``projection`` names.
        layouts: those to write; leave out ``pylate`` for the files of `MultiVectorEncoder`.

    Raises:
        InputError: another head, or an unknown layout.
    """
    found = layouts_of(folder, spec, layouts)
    if found.written:
        late = LateFolder.of(folder, spec)
        if "pylate" in found.written:
            write_pylate(late)
        elif "sentence-transformers" in found.written:
            write_multi_vector(late)
        if "bge-m3" in found.written:
            write_bge_m3(late)
        drop_chat_template(folder)
    return found


def layouts_of(folder: Path, spec: ModelSpec, layouts: Sequence[Layout] = LAYOUTS) -> Layouts:
    """The result of `write_colbert` for the same arguments; nothing is written."""
    for layout in layouts:
        one_of(layout, LAYOUTS, "layout")
    if spec.head is None or spec.head.vectors is None:
        raise InputError(f"model {spec.name!r} is no late-interaction model: its head is {spec.head!r}")
    try:
        late = LateFolder.of(folder, spec)
    except InputError as error:  # a template that prompts cannot express
        return Layouts((), {layout: [str(error)] for layout in layouts})
    faults = {layout: _FAULTS[layout](late) for layout in layouts}
    notes = {layout: _NOTES[layout](late) if fault is None else [fault] for layout, fault in faults.items()}
    return Layouts(tuple(layout for layout in layouts if faults[layout] is None), notes)
