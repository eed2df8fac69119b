"""``rerank train mine`` and ``rerank train label``: rows in, rows out, figures on stdout, nothing lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import rerank_core
from rerank_core import Head, ModelSpec, Template, write_spec
from rerank_core.errors import InputError
from rerank_core.testing import tiny_cross_encoder, tiny_encoder
from rerank_trainers.cli.label import label
from rerank_trainers.cli.mine import mine
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.row_writer import RowWriter

TEXTS = [f"The {animal} eats {food}." for animal in ("panda", "bear", "otter") for food in ("bamboo", "fish", "eggs")]

app = typer.Typer()
app.command()(mine)
app.command()(label)


def run(*arguments: object) -> Result:
    """Run a command; an exception that the real command turns into one line is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def figures(*arguments: object) -> Any:
    """Run with --json: stdout holds JSON and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three questions with a positive each."""
    file = tmp_path / "rows.jsonl"
    records = [{"query": f"what does the {who} eat?", "pos": [TEXTS[3 * n]]} for n, who in enumerate(["panda", "bear"])]
    records.append({"query": "What does the panda eat?", "pos": [TEXTS[1]], "neg": [TEXTS[8]]})
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join([*TEXTS, "", TEXTS[0].upper()]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(tmp_path_factory.mktemp("tiny"))


def test_mine_writes_rows_that_training_reads(rows: Path, corpus: Path, tmp_path: Path) -> None:
    """Each row has its positives and the wanted negatives from the corpus, and the figures say so."""
    out = tmp_path / "mined.jsonl"
    found = figures("mine", rows, "--corpus", corpus, "-n", 2, "--out", out)
    before, after = open_rows([rows]), open_rows([out])
    assert len(after) == len(before) == 3
    for old, new in zip(before, after, strict=True):
        assert (new.query, new.id, new.source, new.docs[: len(old.docs)]) == (old.query, old.id, old.source, old.docs)
        assert set(new.docs[len(old.docs) :]) < set(TEXTS) - {*old.docs, *(TEXTS[:2] if "panda" in old.query else ())}
        assert new.labels == (old.labels or ()) + (0.0, 0.0)
    assert found["corpus"] == {"texts": 9, "repeated": 1, "blank": 0}
    assert (found["rows"], found["negatives"], found["short"], found["resumed"]) == (3, 6, 0, 0)


@pytest.mark.parametrize(
    "options", [["--rescore", "MODEL", "--relative-margin", "0.05"], ["--index", "mini"], ["--strategy", "random"]]
)
def test_an_interrupted_mine_goes_on(
    options: list[str], rows: Path, corpus: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the rows so far are kept, another command is refused, and --resume ends in the same file."""
    chosen = [str(model) if option == "MODEL" else option for option in options]
    command = ["mine", rows, "--corpus", corpus, "-n", "2", *chosen]
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run(*command, "--out", whole)
    interrupt(monkeypatch, after=2)
    stopped = CliRunner().invoke(app, [str(part) for part in [*command, "--out", out]])
    assert stopped.exit_code != 0
    assert "2 rows are kept in" in stopped.stderr
    monkeypatch.undo()
    with pytest.raises(InputError, match="made with other values of rules"):
        run(*command, "--from-rank", "2", "--out", out, "--resume")
    resumed = run(*command, "--out", out, "--resume")
    assert "2 rows were there already" in resumed.stderr
    assert out.read_bytes() == whole.read_bytes()


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C when so many rows are written."""
    write = RowWriter.write

    def stopping(self: RowWriter, row: Any) -> None:
        if self.written == after:
            raise KeyboardInterrupt
        write(self, row)

    monkeypatch.setattr(RowWriter, "write", stopping)


def test_label_writes_the_teachers_scores(rows: Path, model: Path, tmp_path: Path) -> None:
    """Every document has the score that loading the model with these options and ranking gives."""
    out = tmp_path / "scored.jsonl"
    found = figures("label", rows, "-m", model, "--device", "cpu", "-o", "max_length=16", "--out", out)
    reranker = rerank_core.load(model, device="cpu", max_length=16)
    for before, after in zip(open_rows([rows]), open_rows([out]), strict=True):
        assert (after.docs, after.labels) == (before.docs, before.labels)
        expected = reranker.rerank(before.query, before.docs, activation="none").scores()
        assert after.scores == pytest.approx(expected, abs=1e-5)
    assert (found["rows"], found["documents"], found["score_space"]) == (3, 4, "logit")


def test_an_interrupted_label_goes_on(rows: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--resume ends in the file of an uninterrupted run, byte for byte; another teacher is refused."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run("label", rows, "-m", model, "--out", whole)
    interrupt(monkeypatch, after=1)
    assert CliRunner().invoke(app, ["label", str(rows), "-m", str(model), "--out", str(out)]).exit_code != 0
    monkeypatch.undo()
    with pytest.raises(InputError, match="made with other values of checkpoint, model"):
        run("label", rows, "-m", "mini", "--out", out, "--resume")
    assert figures("label", rows, "-m", model, "--out", out, "--resume")["resumed"] == 1
    assert out.read_bytes() == whole.read_bytes()


def test_figures_for_people_and_what_needs_care(rows: Path, tmp_path: Path) -> None:
    """Tables go to stdout; short rows, ignored instructions and the way to go on are on stderr."""
    mined = run("mine", rows, "-n", 8, "--from-rank", 2, "--out", tmp_path / "mined.jsonl")
    assert "dropped: before from_rank" in mined.stdout
    assert "3 rows have fewer than 8 mined negatives" in mined.stderr
    file = tmp_path / "told.jsonl"
    file.write_text(json.dumps({"query": "q", "docs": ["a"], "instruction": "Find"}) + "\n", encoding="utf-8")
    scored = run("label", file, "-m", "mini", "--out", tmp_path / "scored.jsonl")
    assert "mini (maxsim)" in scored.stdout
    assert "1 rows have an instruction, and 'mini' follows none" in scored.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rescore", "mini", "--index", "mini"], "give one of them"),
        (["--index-folder", "folder"], "give that too"),
        (["--device", "cpu"], "BM25 alone has none"),
        (["--fill", "some"], "fill is 'some'"),
        (["--corpus", "nowhere.jsonl"], "cannot be read"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], message: str, rows: Path, tmp_path: Path
) -> None:
    """Nothing is written, and the message says what to do."""
    with pytest.raises(InputError, match=message):
        run("mine", rows, "--out", tmp_path / "out.jsonl", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_option_values_are_not_repeated_in_errors(rows: Path, tmp_path: Path) -> None:
    """A malformed --option may hold a key, so usage errors do not show it."""
    result = CliRunner().invoke(app, ["label", str(rows), "-m", "mini", "--out", str(tmp_path / "o"), "-o", "sk-123"])
    assert result.exit_code == 2
    assert "sk-123" not in result.output


def test_commands_are_light() -> None:
    """Importing the commands, as --help does, imports neither torch nor bm25s."""
    code = (
        "import sys, rerank_trainers.cli.mine, rerank_trainers.cli.label; print({'torch', 'bm25s'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "options",
    [
        ["SECRET"],
        ["=SECRET"],
        ["api_key SECRET"],
        ["api_key=SECRET", "api_key=SECRET"],
        ["api_key=" + "[" * 50_000 + "SECRET"],
    ],
)
@pytest.mark.parametrize("command", ["mine", "label"])
def test_no_message_shows_the_value_of_an_option(command: str, options: list[str], rows: Path, tmp_path: Path) -> None:
    """The value may be an API key, so no message about a malformed option shows it."""
    flags = [argument for assignment in options for argument in ("--option", assignment)]
    model = ["-m", "mini"] if command == "label" else ["--rescore", "mini"]
    result = run(command, rows, "--out", tmp_path / "out.jsonl", *model, *flags)

    assert result.exit_code == 2
    assert "SECRET" not in result.output


def test_vectors_beside_rows_become_a_file_of_vectors(tmp_path: Path) -> None:
    """A raw float32 file, one vector per row, is copied under the texts of the rows."""
    import numpy

    from rerank_trainers.data.teacher_vectors import TeacherVectors

    texts, raw, out = tmp_path / "texts.jsonl", tmp_path / "raw.mmap", tmp_path / "vectors.safetensors"
    texts.write_text("".join(json.dumps({"query": text}) + "\n" for text in TEXTS), encoding="utf-8")
    numpy.arange(3 * len(TEXTS), dtype="float32").tofile(raw)

    shown = figures("label", texts, "--vectors-from", raw, "--out", out)

    assert shown == {"schema_version": 1, "out": str(out), "resumed": 0, "width": 3, "texts": len(TEXTS)}
    vectors = TeacherVectors([out])
    assert [vectors.of_row(row, [0], "r")[1].tolist() for row in open_rows([texts])][2] == [[6, 7, 8]]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ((), "there is no teacher; name one with --model"),
        (("--vectors",), "there is no teacher; name one with --model"),
        (("--vectors-from", "raw", "-m", "mini"), "--vectors-from copies vectors: leave out --model"),
        (("--vectors", "-m", "mini", "--activation", "sigmoid"), "vectors have no activation"),
    ],
)
def test_options_of_label_that_do_not_go_together(rows: Path, tmp_path: Path, told: Any, message: str) -> None:
    """Nothing is ignored."""
    with pytest.raises(InputError, match=message):
        run("label", rows, *told, "--out", tmp_path / "out")


def test_an_embedding_model_writes_the_vectors_that_it_gives(rows: Path, tmp_path: Path) -> None:
    """Queries and documents with the prompts of their side; other kinds of model have no vector of a text."""
    from rerank_trainers.data.teacher_vectors import TeacherVectors

    folder, out = tiny_encoder(tmp_path / "teacher", "bert"), tmp_path / "vectors.safetensors"
    spec = ModelSpec(name="tiny", template=Template.each("query: {query}", "passage: {doc}"), head=Head.cosine("mean"))
    write_spec(spec, folder)
    shown = figures("label", rows, "-m", folder, "--device", "cpu", "--vectors", "--out", out)

    assert (shown["queries"], shown["documents"], shown["width"]) == (3, 4, 32)
    vectors = TeacherVectors([out])
    with rerank_core.load(folder, device="cpu") as teacher:
        for row in open_rows([rows]):
            query, docs = vectors.of_row(row, range(len(row.docs)), "row")
            scores = teacher.rerank(row.query, row.docs).scores()
            assert (docs @ query).tolist() == pytest.approx(scores, abs=1e-5)
    write_spec(replace(spec, head=Head.maxsim("sum"), options=()), folder)
    with pytest.raises(InputError, match=r"gives a vector for each token .* use an embedding model"):
        run("label", rows, "-m", folder, "--device", "cpu", "--vectors", "--out", tmp_path / "none")


def test_a_cross_encoder_has_no_vectors(rows: Path, model: Path, tmp_path: Path) -> None:
    """It reads query and document together."""
    with pytest.raises(InputError, match="query and document together"):
        run("label", rows, "-m", model, "--device", "cpu", "--vectors", "--out", tmp_path / "none")
