"""A teacher's vectors: written once per text, found by the text, resumed, and never another text's."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from rerank_core.errors import InputError
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.teacher_vectors import TeacherVectors, VectorFile
from rerank_trainers.data.vector_writer import VectorWriter, read_raw, row_aligned
from rerank_trainers.loop.dataset import Item, TrainingDataset
from rerank_trainers.loop.run_record import data_facts
from rerank_trainers.objectives.required_data import Needs
from rerank_trainers.teachers.vectors import Texts, encode

ROWS = [
    TrainingRow("what is a panda?", ("a bear", "Paris", "bamboo"), (1.0, 0.0, 0.0), id="one"),
    TrainingRow("what is a panda?", ("a bear",), (1.0,), id="told", instruction="find bears"),
    TrainingRow("capital of France", ("Paris", "a bear"), (1.0, 0.0), id="two", prompts=("passage: ", "")),
]


class Encoder:
    """Vectors of 4 values that depend on the text, the side and the instruction."""

    def __init__(self, stop: int | None = None) -> None:
        self.calls: list[tuple[str, str | None, tuple[str, ...]]] = []
        self.stop = stop

    def encode(self, texts: Sequence[str], *, side: str, instruction: str | None = None) -> Any:
        if self.stop is not None and len(self.calls) >= self.stop:
            raise KeyboardInterrupt
        self.calls.append((side, instruction, tuple(texts)))
        return np.stack([vector(side, text, instruction) for text in texts])


def vector(side: str, text: str, instruction: str | None = None) -> Any:
    """The vector that the encoder gives a text."""
    drawn = hashlib.sha256(repr((side, text, instruction)).encode()).digest()[:4]
    return np.frombuffer(drawn, dtype=np.uint8).astype(np.float32)


def write(
    out: Path, rows: Sequence[TrainingRow] = ROWS, encoder: Encoder | None = None, *, follows: bool = True, **more: Any
) -> Path:
    """A file of the vectors of rows, in blocks of two texts."""
    texts = Texts.of(rows)
    numbers = np.arange(len(texts), dtype=np.int64)
    writer = VectorWriter(out, texts.keys, numbers, len(texts), {"model": "fake"}, block=2, **more)
    writer.write(encode(texts, encoder or Encoder(), follows=follows, start=writer.done, together=2))
    return out


def test_every_text_is_encoded_once_and_found(tmp_path: Path) -> None:
    """Queries with their instruction, documents with their prompt; a text that occurs twice has one vector."""
    encoder = Encoder()
    vectors = TeacherVectors([write(tmp_path / "v", encoder=encoder)])
    encoded = [(side, told, text) for side, told, texts in encoder.calls for text in texts]

    assert len(encoded) == len(set(encoded)) == 7
    for row in ROWS:
        query, docs = vectors.of_row(row, range(len(row.docs)), str(row.id))
        assert (query == vector("query", row.query, row.instruction)).all()
        assert (docs == np.stack([vector("doc", text) for text in row.texts])).all()
    assert ("doc", None, "passage: Paris") in encoded


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    """safetensors itself reads it."""
    tensors = load_file(write(tmp_path / "v"))
    assert {name: value.shape for name, value in tensors.items()} == {"keys": (7,), "rows": (7,), "vectors": (7, 4)}


def test_a_model_without_instructions_gets_none(tmp_path: Path) -> None:
    """The instruction still tells the query apart in the file."""
    encoder = Encoder()
    vectors = TeacherVectors([write(tmp_path / "v", encoder=encoder, follows=False)])
    assert {told for _, told, _ in encoder.calls} == {None}
    assert (vectors.of_row(ROWS[1], [0], "told")[0] == vector("query", ROWS[1].query)).all()


def test_several_teachers_are_concatenated(tmp_path: Path) -> None:
    """In the order of the files, as Stella's recipe joins two teachers."""
    files = [write(tmp_path / "a"), write(tmp_path / "b", follows=False)]
    both = TeacherVectors(files)
    query, docs = both.of_row(ROWS[1], [0], "told")
    assert both.width == 8
    assert query.tolist() == [*vector("query", ROWS[1].query, "find bears"), *vector("query", ROWS[1].query)]
    assert docs.shape == (1, 8)


def test_groups_have_the_vectors_of_the_drawn_documents(tmp_path: Path) -> None:
    """Also in a process that gets a pickled copy."""
    vectors = pickle.loads(pickle.dumps(TeacherVectors([write(tmp_path / "v")])))
    groups = TrainingDataset(ROWS, LabelScale(), 2, 0, vectors=vectors)
    for epoch in range(3):
        group = groups[Item(0, epoch, 1.0)]
        assert group.doc_vectors is not None
        assert len(group.docs) == 2
        assert (group.doc_vectors == np.stack([vector("doc", doc) for doc in group.docs])).all()
    assert TrainingDataset(ROWS, LabelScale(), 2, 0)[Item(0, 0, 1.0)].query_vector is None


def test_vectors_and_objective_go_together(tmp_path: Path) -> None:
    """Refused before a model is loaded: an objective without its vectors, vectors that nothing reads, and a text
    without one."""
    given = DataConfig(teacher_vectors=(str(write(tmp_path / "v")),))
    needs = Needs(vectors=True, teacher_vectors=True)
    groups = TrainingDataset.of(ROWS, given, 0, needs)
    assert groups.vectors is not None
    assert not groups.unique_texts
    assert TrainingDataset.of(ROWS, DataConfig(), 0, Needs(step=True)).unique_texts
    with pytest.raises(InputError, match=r"learns from a teacher's vectors, and data\.teacher_vectors names no file"):
        TrainingDataset.of(ROWS, DataConfig(), 0, needs)
    with pytest.raises(InputError, match="and no objective reads vectors"):
        TrainingDataset.of(ROWS, given, 0, Needs(labels=True))
    with pytest.raises(InputError, match="the query of the row new, 'x', has no vector"):
        TrainingDataset.of([*ROWS, TrainingRow("x", ("a bear",), id="new")], given, 0, needs)


def test_vectors_are_recorded(tmp_path: Path) -> None:
    """Another teacher or other texts are another fact of the data; the name of the file is not."""
    facts = [
        data_facts(ROWS, None, DataConfig(teacher_vectors=(str(write(tmp_path / name, rows)),)))
        for name, rows in (("a", ROWS), ("b", ROWS), ("c", [*ROWS, TrainingRow("x", ("y",), id="x")]))
    ]
    assert facts[0] == facts[1] != facts[2]
    assert "vectors" not in data_facts(ROWS, None, DataConfig())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TrainingRow("unknown", ("a bear",), id="r"), "the query of the row r, 'unknown', has no vector in"),
        (TrainingRow("what is a panda?", ("a bear", "x"), id="r"), "document 2 of the row r, 'x', has no vector"),
        (TrainingRow("what is a panda?", ("a bear",), instruction="else", id="r"), "the query of the row r"),
        (TrainingRow("what is a panda?", ("a bear",), prompts=("passage: ",), id="r"), "document 1 of the row r"),
    ],
)
def test_a_text_without_a_vector_is_an_error(tmp_path: Path, row: TrainingRow, message: str) -> None:
    """The row and the text are named, before training and while it reads."""
    vectors = TeacherVectors([write(tmp_path / "v")])
    vectors.check(ROWS)
    with pytest.raises(InputError, match=message):
        vectors.check([*ROWS, row])
    with pytest.raises(InputError, match=r"rerank train label FILES .* --vectors"):
        vectors.of_row(row, range(len(row.docs)), "r")


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resuming_gives_the_uninterrupted_file(tmp_path: Path, stop: int) -> None:
    """A block that was written is not encoded again."""
    whole, out = write(tmp_path / "whole").read_bytes(), tmp_path / "v"
    with pytest.raises(KeyboardInterrupt):
        write(out, encoder=Encoder(stop))
    assert not out.exists()
    encoder = Encoder()
    write(out, encoder=encoder, resume=True)
    assert out.read_bytes() == whole
    # Cut in the middle of a vector, as a crash leaves it.
    partial = out.rename(tmp_path / "v.partial")
    partial.write_bytes(whole[:-7])
    assert write(out, resume=True).read_bytes() == whole


def test_another_input_does_not_continue_a_file(tmp_path: Path) -> None:
    """Other texts, or another teacher, are refused."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "v", encoder=Encoder(2))
    with pytest.raises(InputError, match="made from other texts"):
        write(tmp_path / "v", ROWS[:2], resume=True)
    with pytest.raises(InputError, match="resume continues it, overwrite starts again"):
        write(tmp_path / "v")
    write(tmp_path / "v", overwrite=True)
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "v")


def test_a_vector_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    """Its number is named; nothing gets the file's name."""
    writer = VectorWriter(tmp_path / "v", np.array([5, 6]), np.array([0, 1]), 2, {})
    with pytest.raises(InputError, match="vector 1 has values that are NaN or infinite"):
        writer.write([np.array([[1.0, 2.0], [1.0, np.nan]], dtype=np.float32)])
    assert not (tmp_path / "v").exists()


def test_rag_retrievals_vectors_are_read(tmp_path: Path) -> None:
    """Its rows are texts, its vectors numpy's memmap beside them; a text has its vector as query and as document."""
    rows = tmp_path / "texts.jsonl"
    records = [{"query": "panda", "prompt_for_query": "find: "}, {"query": "a bear"}, {"query": "panda"}]
    rows.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    raw = np.memmap(tmp_path / "v.mmap", dtype=np.float32, mode="w+", shape=(3, 5))
    raw[:] = np.arange(15).reshape(3, 5)
    raw.flush()

    store = open_rows([rows], group=False)
    keys, numbers = row_aligned(store)
    VectorWriter(tmp_path / "v", keys, numbers, 3, {}).write(read_raw(tmp_path / "v.mmap", 3))
    vectors = TeacherVectors([tmp_path / "v"])
    found = [vectors.of_row(row, [0], str(row.id)) for row in store]

    assert [query.tolist()[0] for query, _ in found] == [0, 5, 10]
    # "panda" as a document is the same text in both rows, so the first vector counts.
    assert [docs[0].tolist()[0] for _, docs in found] == [0, 5, 0]
    with pytest.raises(InputError, match="60 bytes, which are not 4 float32 vectors"):
        list(read_raw(tmp_path / "v.mmap", 4))
    with pytest.raises(InputError, match="the row one has documents"):
        row_aligned(ROWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "its tensor 'vectors' is not complete"),
        (lambda raw: b"", "its header is not that of safetensors"),
        (lambda raw: b"\xff" * 100, "its header is not that of safetensors"),
        (lambda raw: raw.replace(b'"keys"', b'"kexs"'), "its tensor 'keys' is {}"),
        (lambda raw: raw.replace(b'"I64"', b'"F64"'), "its tensor 'keys' is"),
        (lambda raw: raw.replace(b"[7, 4]", b"[7, 0]"), "its tensor 'vectors' is not complete"),
        (lambda raw: raw.replace(b"[7, 4]", b"[0, 4]"), "its tensor 'vectors' is not complete"),
        (lambda raw: raw.replace(b"[0, 56]", b"[0,-56]"), "its tensor 'keys' is"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_file_of_vectors(tmp_path: Path, change: Any, message: str) -> None:
    """What is wrong is said, whatever the bytes are."""
    path = write(tmp_path / "v")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        VectorFile(path)


def test_rows_outside_the_vectors_are_refused(tmp_path: Path) -> None:
    """A key may not name a vector that the file does not have."""
    VectorWriter(tmp_path / "v", np.array([5]), np.array([1]), 1, {}).write([np.ones((1, 2), dtype=np.float32)])
    with pytest.raises(InputError, match="its rows name vectors that it does not have"):
        VectorFile(tmp_path / "v")
    with pytest.raises(InputError, match="cannot be read"):
        VectorFile(tmp_path / "missing")


def test_the_fingerprint_is_of_texts_and_teacher(tmp_path: Path) -> None:
    """Equal for equal files, wherever they lie."""
    one, other = (VectorFile(write(tmp_path / name)).fingerprint() for name in ("a", "b"))
    assert one == other != VectorFile(write(tmp_path / "c", ROWS[:2])).fingerprint()
