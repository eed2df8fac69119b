"""Settings and data with which an embedding model or ColBERT would learn nothing, or not what was asked for."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import Configured, MakeRows, Prepared, folder

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_encoder
from rerank_trainers.data.hashing import query_hash, text_hash
from rerank_trainers.data.teacher_vectors import TeacherVectors, header_of
from rerank_trainers.train import read_data

EMBEDDING = ("model.kind=embedding", "objective=infonce")
COLBERT = ("model.kind=colbert", "objective=infonce")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, whose vectors have 32 values."""
    return tiny_encoder(tmp_path_factory.mktemp("bare"), "bert", std=0.3)


def vectors_of(path: Path, rows: list[TrainingRow], width: int, *, broken: str | None = None) -> Path:
    """A file of vectors for all texts of rows, of which that of the text ``broken`` has a NaN."""
    texts = {text for row in rows for text in row.docs}
    keys = {query_hash(row.query, None): row.query for row in rows} | {text_hash(text): text for text in texts}
    values = np.random.default_rng(0).normal(size=(len(keys), width)).astype("<f4")
    if broken is not None:
        values[list(keys.values()).index(broken), 0] = np.nan
    head = header_of(len(keys), len(keys), width, {})
    numbers = np.arange(len(keys), dtype="<i8")
    path.write_bytes(head + np.array(list(keys), dtype="<i8").tobytes() + numbers.tobytes() + values.tobytes())
    return path


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((*COLBERT, "model.pooling=cls"), r"model\.pooling is 'cls'.*model\.kind=embedding"),
        ((*EMBEDDING, "model.reduce=mean"), r"model\.reduce is 'mean'.*model\.kind=colbert"),
        ((*EMBEDDING, "model.tokens={skip_first: true}"), r"model\.tokens is .*skip_first"),
        ((*EMBEDDING, "model.self_distill=0.5"), r"model\.self_distill is 0\.5.*layerwise"),
        (("model.matryoshka=[16]",), r"'cross-encoder', which does not read it; .*model\.kind=embedding"),
        (("model.freeze_embeddings=true",), r"model\.kind=embedding or colbert"),
        ((*EMBEDDING, "model.matryoshka_weights=[1, 2]"), "has no widths; set both or neither"),
        ((*EMBEDDING, "train.metric=AP"), r"train\.metric is 'AP'.*data\.eval is empty"),
    ],
)
def test_settings_that_nothing_reads_are_refused(prepared: Prepared, told: tuple[str, ...], said: str) -> None:
    """They would be ignored without a word; no model need be loaded to see it."""
    with pytest.raises(InputError, match=said):
        prepared("model.checkpoint=/no/such/model", *told)


@pytest.mark.parametrize(
    ("metric", "widths", "said"),
    [
        ("nDCG@10 (16)", "[32, 8]", r"set it to 'nDCG@10' or 'nDCG@10 \(8\)'"),
        ("nDCG@10 (32)", "[32, 8]", r"not measured at '32'"),
        ("RR@10 (8)", "[]", r"set it to 'RR@10'\. model\.matryoshka adds widths"),
    ],
)
def test_a_metric_at_a_width_that_is_not_measured(
    prepared: Prepared, bare: Path, rows: MakeRows, metric: str, widths: str, said: str
) -> None:
    """transformers would end the run with a KeyError after the first evaluation."""
    told = (f"model.checkpoint={bare}", *EMBEDDING, f"model.matryoshka={widths}", f"train.metric={metric}")
    with pytest.raises(InputError, match=said):
        prepared(*told, dev=rows(4))
    prepared(f"model.checkpoint={bare}", *EMBEDDING, "model.matryoshka=[32, 8]", "train.metric=AP (8)", dev=rows(4))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((*COLBERT, 'model.tokens={expand_to: 600, expand_with: "[MASK]"}'), "expand_to to at most 512"),
        ((*EMBEDDING, 'model.prompts={document: "' + "word " * 200 + '"}'), "the text around a document.*max_length"),
    ],
)
def test_rows_without_room_are_told_by_their_cause(
    prepared: Prepared, bare: Path, told: tuple[str, ...], said: str
) -> None:
    """Neither is mended by a shorter query."""
    with pytest.raises(InputError, match=said) as raised:
        prepared(f"model.checkpoint={bare}", *told)
    assert "what is a panda" not in str(raised.value)


@pytest.mark.parametrize("objective", ["embed_distill", "stella"])
def test_a_teacher_of_another_width_is_told_before_the_first_step(
    prepared: Prepared, bare: Path, rows: MakeRows, tmp_path: Path, objective: str
) -> None:
    """The message names the setting that makes the widths equal."""
    file = vectors_of(tmp_path / "v", rows(9), 48)
    told = (f"model.checkpoint={bare}", EMBEDDING[0], f"objective={objective}", f"data.teacher_vectors={file}")
    with pytest.raises(InputError, match=r"32 values.*48.*set model\.width=48"):
        prepared(*told, rows=rows(9))
    prepared(*told, "model.width=48", rows=rows(9))


def test_a_vector_that_is_not_finite_is_named(rows: MakeRows, tmp_path: Path) -> None:
    """As a loss that is not finite it would be put down to the learning rate."""
    row = rows(1)[0]
    held = TeacherVectors([vectors_of(tmp_path / "v", [row], 8, broken=row.docs[1])])
    held.of_row(row, [0, 2], "row-0")
    with pytest.raises(InputError, match=f"{row.docs[1]!r} in the row row-0 has values that are NaN"):
        held.of_row(row, [0, 1], "row-0")


@pytest.mark.parametrize(("widths", "reported"), [("[16, 8]", True), ("[32, 8]", False)])
def test_widths_without_the_full_one_are_reported(
    prepared: Prepared, bare: Path, caplog: pytest.LogCaptureFixture, widths: str, reported: bool
) -> None:
    """The full width, which is served by default, has values that no loss reads."""
    with caplog.at_level(logging.WARNING, "rerank_trainers"):
        prepared(f"model.checkpoint={bare}", *EMBEDDING, f"model.matryoshka={widths}")
    assert ("Add 32 to the widths, or set model.width=16" in caplog.text) == reported


@pytest.mark.parametrize(
    ("told", "shared", "reported"),
    [((), True, True), (("objective.options.false_negative_margin=-5",), False, True), ((), False, False)],
)
def test_a_loss_of_zero_is_reported(
    prepared: Prepared, bare: Path, rows: MakeRows, caplog: pytest.LogCaptureFixture, told: tuple[str, ...],
    shared: bool, reported: bool,
) -> None:  # fmt: skip
    """Where all positives are one text, or a margin leaves out all negatives, nothing is learnt."""
    data = [replace(row, docs=("the same",), labels=(1.0,)) for row in rows(9)] if shared else rows(9)
    run = prepared(f"model.checkpoint={bare}", *EMBEDDING, "train.epochs=2", *told, rows=data)
    with caplog.at_level(logging.WARNING, "rerank_trainers"):
        run.train()
    assert caplog.text.count("loss since the last log is exactly 0") == reported


@pytest.mark.parametrize(
    "kind",
    [
        EMBEDDING,
        COLBERT,
        ("model.kind=embedding", "objective=softmax_ce", "objective.options.multi_positive=each"),
    ],
)
def test_a_label_map_does_not_make_irrelevant_documents_positives(
    prepared: Prepared, bare: Path, rows: MakeRows, kind: tuple[str, ...]
) -> None:
    """RAG-Retrieval's grades of 2024 give an irrelevant document 0.25: it is a negative all the same."""
    losses = []
    for more in ((), ('data.label_map={"0": 0.25, "1": 1}',)):
        run = prepared(f"model.checkpoint={bare}", *kind, *more, rows=rows(9))
        run.train()
        losses.append([one["loss"] for one in run.trainer.state.log_history if "loss" in one])
    assert losses[0] == losses[1]


def test_libraries_do_not_speak_of_what_the_user_did_not_do(
    prepared: Prepared, bare: Path, decoder: Path, rows: MakeRows, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the order of checkpoints, of special tokens, and of names that peft and transformers have changed."""
    transformers_log = logging.getLogger("transformers")
    transformers_log.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = prepared(f"model.checkpoint={bare}", *EMBEDDING, "model.lora={r: 4}", "train.epochs=4",
                           "train.keep_checkpoints=1", rows=rows(4))  # fmt: skip
            run.train()
            prepared(f"model.checkpoint={decoder}", *EMBEDDING)
    finally:
        transformers_log.removeHandler(caplog.handler)
    assert folder(run, 4).is_dir()
    assert not folder(run, 1).exists()
    assert not [one for one in caplog.records if one.name.startswith("transformers")]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("scores", "told", "reported"),
    [
        ([0.9, 0.7], (), True),
        ([0.9, 0.7], ("objective.options.teacher_temperature=0.02",), False),
        ([5.0, -3.0], (), False),
    ],
)
def test_a_teacher_whose_softmax_is_flat_is_reported(
    configured: Configured, tmp_path: Path, caplog: pytest.LogCaptureFixture, scores: list[float],
    told: tuple[str, ...], reported: bool,
) -> None:  # fmt: skip
    """Cosines at temperature 1 teach a model to score all documents alike."""
    row = {"query": "what is a panda?", "docs": ["a bear", "a city"], "scores": scores}
    file = tmp_path / "taught.jsonl"
    file.write_text("".join(json.dumps({**row, "query": f"{row['query']} {at}"}) + "\n" for at in range(3)))
    config = configured("model.kind=embedding", "objective.name=kl", f"data.train=[{file}]", *told)
    with caplog.at_level(logging.WARNING, "rerank_trainers"):
        read_data(config)
    assert ("softmax is nearly uniform" in caplog.text) == reported


def test_sources_of_a_single_row_are_reported(
    configured: Configured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each makes a step of its own, whose loss of 0 the mean of a log hides."""
    file = tmp_path / "sources.jsonl"
    rows = [{"query": f"query {at}", "pos": [f"doc {at}"], "source": source} for at, source in enumerate("aaabc")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for more, reported in ((("data.same_source=true",), True), ((), False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "rerank_trainers"):
            read_data(configured(*EMBEDDING, f"data.train=[{file}]", *more))
        assert ("2 of 3 sources have a single row" in caplog.text) == reported
