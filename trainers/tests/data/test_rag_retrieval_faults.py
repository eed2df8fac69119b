"""Faults of RAG-Retrieval's data loading (at 950da57), each of which must not occur here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from rerank_core.records.fields import RowError
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.teacher_vectors import TeacherVectors
from rerank_trainers.data.vector_writer import VectorWriter
from rerank_trainers.loop.dataset import Group, TrainingDataset
from rerank_trainers.teachers.vectors import Texts


def rows_of(path: Path, *lines: object) -> list[TrainingRow]:
    """The rows of a file of these lines."""
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return list(open_rows([path]))


def test_an_empty_list_of_negatives_is_a_row(tmp_path: Path) -> None:
    """There a ZeroDivisionError while the file is loaded."""
    (row,) = rows_of(tmp_path / "a.jsonl", {"query": "q", "pos": ["a"], "neg": []})
    assert (row.docs, row.labels) == (("a",), (1.0,))


def test_a_blank_line_is_no_row(tmp_path: Path) -> None:
    """There a JSONDecodeError."""
    assert len(rows_of(tmp_path / "a.jsonl", {"query": "q", "pos": ["a"]}, "", "  ", {"query": "r", "pos": ["b"]})) == 2


def test_too_few_scores_are_an_error_of_their_row(tmp_path: Path) -> None:
    """There an IndexError without a line."""
    with pytest.raises(RowError, match=r"a.jsonl:2: scores has 1 numbers for 2 documents"):
        rows_of(tmp_path / "a.jsonl", {"query": "q", "pos": ["a"]}, {"query": "q", "pos": ["a", "b"], "scores": [1]})


def test_every_row_of_a_mixed_file_has_its_own_format(tmp_path: Path) -> None:
    """There the first row decides how all rows are read, so negatives and scores of later ones are lost."""
    pair, triplet, scored = rows_of(
        tmp_path / "a.jsonl",
        {"query": "q", "pos": ["a"]},
        {"query": "q", "pos": ["a"], "neg": ["b", "c"]},
        {"query": "q", "pos": ["a", "b"], "scores": [0.9, 0.1], "prompt_for_query": "find: "},
    )
    assert pair.labels == (1.0,)
    assert triplet.labels == (1.0, 0.0, 0.0)
    assert (scored.scores, scored.instruction) == ((0.9, 0.1), "find: ")


def test_a_text_is_not_a_list_of_characters(tmp_path: Path) -> None:
    """There `pos` as a string trains on its characters, silently."""
    with pytest.raises(RowError, match="pos is the string 'abc'; it must be a list of strings"):
        rows_of(tmp_path / "a.jsonl", {"query": "q", "pos": "abc"})


def test_negatives_change_from_epoch_to_epoch() -> None:
    """There they are sampled once, when the file is loaded. Here all 15 are seen in 5 epochs of 3."""
    row = TrainingRow("q", ("yes", *(f"no {number}" for number in range(15))), (1.0,) + (0.0,) * 15, id="r")
    groups = TrainingDataset([row], LabelScale(), 4, 3)
    seen: list[str] = []
    for epoch in range(5):
        steps = groups.steps(1)
        steps.set_epoch(epoch)
        (group,) = (groups[item] for step in steps for item in step)
        assert "yes" in group.docs
        seen += [doc for doc in group.docs if doc != "yes"]
    assert sorted(seen) == sorted(row.docs[1:])


@pytest.mark.parametrize("epoch", [0, 3])
def test_workers_read_what_one_process_reads(tmp_path: Path, epoch: int) -> None:
    """Steps, drawn documents and a teacher's vectors are the same for any number of workers."""
    rows = [
        TrainingRow(f"query {n}", tuple(f"text {(n * k) % 17}" for k in range(1, 7)), (1.0, *(0.0,) * 5), id=str(n))
        for n in range(23)
    ]
    texts = Texts.of(rows)
    count = len(texts)
    writer = VectorWriter(tmp_path / "v", texts.keys, np.arange(count), count, {})
    writer.write([np.arange(3 * count, dtype=np.float32).reshape(count, 3)])

    def read(workers: int) -> list[list[Any]]:
        groups = TrainingDataset(rows, LabelScale(), 3, 7, vectors=TeacherVectors([tmp_path / "v"]), unique_texts=True)
        steps = groups.steps(4)
        steps.set_epoch(epoch)
        context = "fork" if workers else None
        loader: Any = DataLoader(
            groups, batch_sampler=steps, collate_fn=list, num_workers=workers, multiprocessing_context=context
        )
        return [[_plain(group) for group in step] for step in loader]

    alone = read(0)
    assert sum(map(len, alone)) == 23
    assert read(2) == alone


def _plain(group: Group) -> tuple[Any, ...]:
    assert group.query_vector is not None
    assert group.doc_vectors is not None
    return group.id, group.docs, group.weight, group.query_vector.tolist(), group.doc_vectors.tolist()
