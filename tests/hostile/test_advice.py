"""What a message tells its reader to do works when it is done."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import rerank_core
from rerank_core import CheckpointError, Head, InputError, ModelSpec, RerankError, Template, TokenVectors, write_spec
from rerank_core.cli import app
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in (ROOT / "rerank_core", *sorted(ROOT.glob("plugins/*/src")), ROOT / "trainers" / "src")
    for path in sorted(folder.rglob("*.py"))
]


def extras(file: Path) -> tuple[str, set[str]]:
    """The name in a pyproject.toml, and its extras."""
    text = file.read_text("utf-8")
    listed = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.DOTALL | re.MULTILINE)
    return re.findall(r'^name = "([^"]+)"', text, re.MULTILINE)[0], set(
        re.findall(r"^([\w-]+) = \[", listed[1], re.MULTILINE) if listed else ()
    )


PROJECTS = dict(
    map(extras, (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"), ROOT / "trainers" / "pyproject.toml"))
)
QUERY, DOCUMENTS = "what is a panda?", ["a bear of China", "the capital of France"]


def said(pattern: str) -> set[str]:
    """What a pattern finds in our sources."""
    return {found for path in SOURCES for found in re.findall(pattern, path.read_text("utf-8"))}


def refused(*name: Any, **options: Any) -> str:
    """The message with which `load` refuses."""
    with pytest.raises(RerankError) as caught:
        rerank_core.load(*name, device="cpu", **options)
    return str(caught.value)


def scores(*name: Any, **options: Any) -> list[float]:
    """Scores of the documents."""
    return rerank_core.load(*name, device="cpu", **options).rerank(QUERY, DOCUMENTS).scores()


def test_every_extra_that_an_install_line_names_exists() -> None:
    """``pip install 'x[y]'`` in a message names a distribution of ours and an extra that it has."""
    lines = said(r"pip install '([a-z-]+)\[([a-z]+)\]'")

    assert len(lines) >= 5
    assert {line for line in lines if line[1] not in PROJECTS[line[0]]} == set()


def test_every_plain_install_line_names_a_distribution() -> None:
    """``pip install rerank-x`` names one of ours."""
    assert {name for name in said(r"pip install (rerank-[a-z0-9]+)") if name not in PROJECTS} == set()


def test_every_command_that_a_message_names_exists() -> None:
    """```rerank …``` in a message is a command, with the options that it has; placeholders stand in capitals."""
    lines = said(r"`(rerank [a-z][^`\n{]*)`") - said(r"``(rerank [a-z][^`\n{]*)``")
    run = CliRunner()
    wrong = {}
    for line in sorted(lines):
        words = [word for word in line.split()[1:] if word.islower() and not word.startswith("-")]
        shown = run.invoke(app, [*words, "--help"])
        options = [word for word in line.split() if word.startswith("--")]
        if shown.exit_code or any(option not in shown.output for option in options):
            wrong[line] = shown.output[-200:]

    assert len(lines) >= 4
    assert wrong == {}


def test_no_message_passes_on_what_load_refuses() -> None:
    """No message of ours tells to trust code, or to convert with a class that would drop weights."""
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)

    assert "trust_remote_code=True" not in text
    assert not re.search(r"from_pretrained\(directory\)\.save_pretrained", text)


def pickled(folder: Path, tensors: dict[str, torch.Tensor], parts: int = 1) -> None:
    """Pickle weights in place of safetensors, in one file or several."""
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for part in range(parts):
        name = "pytorch_model.bin" if parts == 1 else f"pytorch_model-{part + 1:05}-of-{parts:05}.bin"
        torch.save({key: tensors[key] for key in names[part::parts]}, folder / name)


def follow(message: str) -> None:
    """Run the lines of Python in a message."""
    lines = [line.removeprefix("    ") for line in message.splitlines() if line.startswith("    ")]
    assert lines
    exec("\n".join(lines), {})


@pytest.mark.parametrize("kind", ["classifier", "shards", "tied", "stanford", "dense"])
def test_pickled_weights_are_converted_by_the_lines_that_are_printed(kind: str, tmp_path: Path) -> None:
    """Followed to the letter, they give a folder that loads with the scores of the same weights in safetensors, and
    leave config.json as it was: projections and shared tensors are kept."""
    folder = tmp_path / "it's"
    if kind in ("classifier", "shards", "tied"):
        tiny_cross_encoder(folder, "bert")
        tensors = load_file(folder / "model.safetensors")
    else:
        tiny_encoder(folder, "bert")
        tensors = load_file(folder / "model.safetensors")
        projection = torch.linspace(-1, 1, 16 * 32).sin().reshape(16, 32)
    if kind == "stanford":
        tensors = {**{f"bert.{name}": tensor for name, tensor in tensors.items()}, "linear.weight": projection}
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}), "utf-8")
        (folder / "artifact.metadata").write_text(json.dumps({"query_token_id": "[MASK]", "doc_token_id": "[UNK]"}))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if kind == "dense":
        dense = folder / "1_Dense"
        dense.mkdir()
        (dense / "config.json").write_text(json.dumps({"activation_function": "torch.nn.modules.linear.Identity"}))
        save_file({"linear.weight": projection}, dense / "model.safetensors")
        head = Head.maxsim(vectors=TokenVectors(projection=("1_Dense",)))
        write_spec(ModelSpec(name="tiny", template=Template.each(), head=head), folder)
    before, config_before = scores(folder), (folder / "config.json").read_bytes()
    if kind == "dense":
        pickled(folder / "1_Dense", {"linear.weight": projection})
    else:
        if kind == "tied":
            key = "bert.embeddings.word_embeddings.weight"
            tensors["cls.predictions.decoder.weight"] = tensors[key]  # one storage, two names
            tensors["bert.pooler.dense.weight"] = tensors["bert.pooler.dense.weight"].t().contiguous().t()
        pickled(folder, tensors, parts=2 if kind == "shards" else 1)

    follow(refused(folder))
    assert scores(folder) == before
    assert (folder / "config.json").read_bytes() == config_before


def test_a_causal_model_loads_by_the_name_of_its_kind(tmp_path: Path) -> None:
    """'load its name with checkpoint=<this directory>' is what a folder without a score head is told."""
    folder = tiny_causal_lm(tmp_path / "model", "qwen3")

    assert "load its name with checkpoint=<this directory>" in refused(folder)
    assert len(scores("qwen3-reranker-0.6b", checkpoint=str(folder))) == 2


def test_a_folder_that_contradicts_a_name_loads_by_itself(tmp_path: Path) -> None:
    """'Load the directory by itself' follows the folder's own file."""
    folder = tiny_cross_encoder(tmp_path / "model", "xlm-roberta")
    write_spec(ModelSpec(name="tiny", head=Head.classifier(), max_length=64), folder)

    message = refused("bge-reranker-base", checkpoint=str(folder))
    call = re.search(r"rerank_core\.load\('[^']+'\)", message)
    assert call is not None
    reranker = eval(call[0], {"rerank_core": rerank_core})
    assert len(reranker.rerank(QUERY, DOCUMENTS)) == 2


def test_a_file_of_another_schema_is_written_again(tmp_path: Path) -> None:
    """'write the file again with rerank_core.write_spec' makes a folder load."""
    folder = tiny_cross_encoder(tmp_path / "model", "bert")
    spec = ModelSpec(name="tiny", head=Head.classifier())
    path = write_spec(spec, folder)
    path.write_text(path.read_text("utf-8").replace('"schema_version": 1', '"schema_version": 99'), "utf-8")

    assert "write_spec" in refused(folder)
    write_spec(spec, folder)
    assert len(scores(folder)) == 2


def test_a_query_that_is_too_long_is_cut_by_the_option_that_is_named(tmp_path: Path) -> None:
    """'max_query_length=' leaves room for the document."""
    folder = tiny_cross_encoder(tmp_path / "model", "bert")
    with pytest.raises(InputError, match="max_query_length=") as caught:
        rerank_core.load(folder, device="cpu").rerank("panda " * 600, DOCUMENTS)

    assert "max_query_length" in str(caught.value)
    assert len(rerank_core.load(folder, device="cpu", max_query_length=64).rerank("panda " * 600, DOCUMENTS)) == 2


def test_positions_that_there_are_can_be_asked_for(tmp_path: Path) -> None:
    """'use at most N' names a length that loads."""
    folder = tiny_cross_encoder(tmp_path / "model", "bert", positions=128)
    most = re.search(r"use at most (\d+)", refused(folder, max_length=129))

    assert most is not None
    assert len(scores(folder, max_length=int(most[1]))) == 2


def test_code_in_a_folder_is_refused_with_a_way_that_works(tmp_path: Path) -> None:
    """A folder whose type is its own code is told the name of a plugin, under which it loads without that code."""
    folder = tiny_causal_lm(tmp_path / "model", "gemma2", tokenizer="gemma", bos_token_id=2)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    tensors |= {f"lm_head.{number}.linear_head.weight": torch.ones(1, 32) for number in range(2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"model_type": "cost_wise_gemma", "start_layer": 2, "layer_sep": 1, "layer_wise": True,
               "auto_map": {"AutoModelForCausalLM": "gemma_model.CostWiseGemmaForCausalLM"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"never run.*checkpoint=<this directory>"):
        rerank_core.load("bge-llm-gemma", checkpoint=str(folder), device="cpu")
    assert len(scores("bge-llm-lightweight", checkpoint=str(folder), layer=3)) == 2
