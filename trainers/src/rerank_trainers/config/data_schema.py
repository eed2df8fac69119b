"""The settings of the training and evaluation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rerank_core.records.label_scale import LabelScale

__all__ = ["DataConfig", "EvalSet", "TrainFile"]


@dataclass(frozen=True)
class TrainFile:
    """A training file.

    Attributes:
        path: file or glob pattern.
        weight: how often its rows are drawn per epoch; 0.5 draws half of them in each of two epochs.
    """

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class EvalSet:
    """A dev set of one of three kinds.

    Attributes:
        files: rows whose own documents are ranked.
        queries, corpus: rows whose relevant documents are searched in a corpus, and the documents of the corpus.
        pairs: rows of text pairs with a score, whose order is compared with that of the model's scores.
    """

    files: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    corpus: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataConfig:
    """The training and evaluation files, and how their labels are read.

    Attributes:
        train: training files or glob patterns (JSON Lines, JSON, CSV, TSV or Parquet, compressed or not); ``{path:
            FILE, weight: 2}`` draws the rows of a file twice as often.
        eval: files or glob patterns of the dev set, in the same formats; or several named dev sets, ``{NAME: FILE}``,
            of which each may also be ``{queries: FILE, corpus: FILE}`` (search over a corpus) or ``{pairs: FILE}``
            (similarity of scored text pairs). Without them nothing is evaluated.
        group_size: documents per query in one step, drawn anew each epoch, at least one of them relevant where the row
            has one; 0 uses all documents of the row.
        label_range: lowest and highest label in the files; labels are mapped linearly from this range to [0, 1].
        label_map: training label for each label in the files, instead of ``label_range``, with the label written as a
            string: ``{"3": 1, "2": 0.75, "1": 0.5, "0": 0.25}``.
        same_source: each step has rows of one ``source`` (by default the name of the file) only.
        unique_texts: no text occurs in two rows of a step, as far as there is room; by default where the objective
            compares all texts of a step.
        teacher_vectors: files of a teacher's vectors (`rerank train label --vectors`), for objectives that learn from
            them; the vectors of several teachers are concatenated.
        encoding: text encoding of files that are not UTF-8, for example ``gb18030``; by default it is detected.
        scores_are: meaning of ``pos_scores`` and ``neg_scores``: ``teacher`` scores (FlagEmbedding) or ``labels``, the
            relevance grades of RAG-Retrieval.
        on_error: what happens to rows with errors: ``error`` stops, ``drop`` leaves them all out, ``warn`` leaves out
            only rows that cannot be used and trains on the others.
    """

    train: tuple[str | TrainFile, ...] = ()
    eval: tuple[str, ...] | Mapping[str, EvalSet] = ()
    group_size: int = 8
    label_range: tuple[float, float] = (0.0, 1.0)
    label_map: Mapping[str, float] | None = None
    same_source: bool = False
    unique_texts: bool | None = None
    teacher_vectors: tuple[str, ...] = ()
    encoding: str | None = None
    scores_are: Literal["teacher", "labels"] = "teacher"
    on_error: Literal["error", "drop", "warn"] = "error"

    def train_files(self) -> list[TrainFile]:
        """The files of ``train`` with their weights."""
        return [TrainFile(file) if isinstance(file, str) else file for file in self.train]

    def eval_sets(self) -> dict[str, EvalSet]:
        """The dev sets by name; a single dev set without a name has the name ``""``."""
        if isinstance(self.eval, Mapping):
            return dict(self.eval)
        return {"": EvalSet(self.eval)} if self.eval else {}

    def label_scale(self) -> LabelScale:
        """The mapping from labels in the files to labels in [0, 1]: that of ``label_map`` or of ``label_range``.

        Raises:
            InputError: a range or a map that is no label scale.
        """
        return LabelScale.of(self.label_range if self.label_map is None else self.label_map)
