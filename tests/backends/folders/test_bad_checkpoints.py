"""A checkpoint that cannot give right scores is refused, and the refusal says what is wrong."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.plain import LONG, QUERIES
from rerank_core import (
    CheckpointError,
    Head,
    InputError,
    MissingDependencyError,
    ModelSpec,
    NonFiniteScoreError,
    Options,
    Template,
    write_spec,
)
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import build
from rerank_core.testing.checkpoints import Family, tiny_cross_encoder, tiny_encoder

FAMILIES: tuple[Family, ...] = ("xlm-roberta", "bert")
CLASSIFIER = ModelSpec(name="acme-small", head=Head.classifier())


@pytest.fixture
def copy(made: Callable[[Family], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny cross-encoder, to be spoilt."""

    def of(family: Family = "bert") -> Path:
        return Path(shutil.copytree(made(family), tmp_path / "copy"))

    return of


def load(directory: Path, **options: Any) -> rerank_core.Reranker:
    """The directory on the CPU."""
    return rerank_core.load(directory, device="cpu", **options)


def spoil(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Change the weights of a checkpoint."""
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def configure(directory: Path, **changes: object) -> Path:
    """Change config.json."""
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("family", "key"), [("xlm-roberta", r"classifier\.out_proj\.weight"), ("bert", r"classifier\.weight")]
)
def test_a_head_that_was_never_saved_is_named(
    family: Family, key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A config that claims a classifier without its weights is refused by the missing keys, not scored at random.

    The error says it all: transformers' own report is not logged beside it.
    """
    directory = tiny_cross_encoder(tmp_path / "headless", family, head=False)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with pytest.raises(CheckpointError, match=key):
            load(directory)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.records == []


@pytest.mark.parametrize("family", FAMILIES)
def test_an_embedding_model_is_no_reranker(family: Family, tmp_path: Path) -> None:
    """A bare encoder is refused by its directory, and by the missing head where a named spec takes its weights."""
    directory = tiny_encoder(tmp_path / "encoder", family)

    with pytest.raises(CheckpointError, match="no score head"):
        load(directory)
    with pytest.raises(CheckpointError, match=r"lacks weights.*classifier\..*embedding or base model"):
        build(CLASSIFIER, Options(checkpoint=str(directory), device="cpu"))


def test_three_labels_are_no_score(tmp_path: Path) -> None:
    """A classifier of three classes is refused by its directory until a label is chosen, and under a named spec."""
    directory = tiny_cross_encoder(tmp_path / "nli", "bert", labels=3)

    with pytest.raises(InputError, match=r"3 labels.*label="):
        load(directory)
    with pytest.raises(CheckpointError, match="3 labels"):
        build(CLASSIFIER, Options(checkpoint=str(directory), device="cpu"))


def test_a_missing_layer_is_named(copy: Callable[..., Path]) -> None:
    """A config with more layers than the file is refused."""
    with pytest.raises(CheckpointError, match=r"layer\.2\."):
        load(configure(copy(), num_hidden_layers=3))


def test_other_shapes_are_named(copy: Callable[..., Path]) -> None:
    """A config with other widths than the file is refused, with both shapes."""
    with pytest.raises(CheckpointError, match=r"classifier\.weight \[1, 32\] not \[1, 48\]"):
        load(configure(copy(), hidden_size=48))


def test_a_pooler_that_late_interaction_never_reads_may_be_missing(tmp_path: Path) -> None:
    """MaxSim needs no pooler; it does need every layer."""
    directory = tiny_encoder(tmp_path / "encoder")
    spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim())
    write_spec(spec, directory)
    whole = load(directory).rerank(QUERIES[0], ["a bear"]).scores()
    spoil(directory, lambda weights: [weights.pop(key) for key in list(weights) if key.startswith("pooler.")])

    assert whole == load(directory).rerank(QUERIES[0], ["a bear"]).scores()
    spoil(directory, lambda weights: weights.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_name_every_document(copy: Callable[..., Path], value: float) -> None:
    """A head of NaN or infinity ranks nothing; all documents are reported, blank ones too."""
    directory = spoil(copy(), lambda weights: weights["classifier.bias"].fill_(value))

    with pytest.raises(NonFiniteScoreError) as caught:
        load(directory).rerank(QUERIES[0], ["a", "", "b"])
    assert caught.value.documents == ((0, 0), (0, 1), (0, 2))


def test_one_bad_token_names_the_documents_that_hold_it(copy: Callable[..., Path]) -> None:
    """Only documents with the NaN token are reported, one that holds it in its last window and one by its id too."""
    directory = copy()
    (tokens,) = TextTokenizer.from_directory(directory).encode(["竹"])
    key = "bert.embeddings.word_embeddings.weight"
    spoil(directory, lambda weights: weights[key][tokens.ids[0]].fill_(float("nan")))
    documents = ["a bear", "竹", "", {"text": "eats 竹", "id": "bamboo"}, "panda " * 900, "panda " * 900 + "竹"]
    reranker = load(directory)

    with pytest.raises(NonFiniteScoreError, match="'bamboo'") as caught:
        reranker.rerank_many([(QUERIES[0], ["fine"]), (QUERIES[0], documents)])
    assert caught.value.documents == ((1, 1), (1, 3), (1, 5))


def test_weights_outside_safetensors_are_not_read(copy: Callable[..., Path]) -> None:
    """A pickled pytorch_model.bin is never opened."""
    directory = copy()
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match="safetensors"):
        load(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "reranker.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\u0000"])
def test_a_broken_file_is_named(copy: Callable[..., Path], name: str, content: str) -> None:
    """A JSON file that is none, or holds no object, is a CheckpointError that points at it."""
    directory = copy()
    (directory / name).write_text(content, encoding="utf-8")

    with pytest.raises(CheckpointError, match="tokenizer" if name == "tokenizer.json" else name.replace(".", r"\.")):
        load(directory)


@pytest.mark.parametrize("size", [0, 40, 10_000])
def test_weights_cut_short_are_refused(copy: Callable[..., Path], size: int) -> None:
    """A download that stopped half-way is a CheckpointError."""
    directory = copy()
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[:size])

    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(directory)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "wide"}, r"config\.json: hidden_size is 'wide'; it must be an integer"),
        ({"num_attention_heads": 5}, "cannot be loaded.*5"),
        ({"model_type": "mystery"}, "cannot be loaded.*mystery"),
        ({"model_type": "whisper"}, "cannot be loaded.*Whisper"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    copy: Callable[..., Path], changes: dict[str, object], said: str
) -> None:
    """Whatever transformers raises for it, the caller sees a CheckpointError."""
    with pytest.raises(CheckpointError, match=said):
        load(configure(copy(), **changes))


def test_a_format_that_needs_another_package_says_which(copy: Callable[..., Path]) -> None:
    """Quantised weights whose reader is not installed are a MissingDependencyError with its name."""
    with pytest.raises(MissingDependencyError, match="optimum"):
        load(configure(copy(), quantization_config={"quant_method": "gptq", "bits": 4}))


def test_remote_code_is_neither_run_nor_asked_about(
    copy: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Code in a checkpoint is refused at once: no prompt, no import, no advice to trust it."""
    classes = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    directory = configure(copy(), model_type="mystery", auto_map=classes)
    (directory / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")

    with pytest.raises(CheckpointError, match="'mystery' is code in the folder itself") as caught:
        load(directory)
    assert "trust_remote_code" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gone", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_missing_tokenizer_is_not_made_up(family: Family, gone: tuple[str, ...], copy: Callable[..., Path]) -> None:
    """Without a vocabulary every text would be unknown tokens and score alike, so it is refused."""
    directory = copy(family)
    for name in gone:
        (directory / name).unlink()

    with pytest.raises(CheckpointError, match="tokenizer"):
        load(directory)


def test_another_models_tokenizer_is_refused(copy: Callable[..., Path], made: Callable[[Family], Path]) -> None:
    """A tokenizer with more tokens than the weights have rows does not belong to them."""
    directory = copy("xlm-roberta")
    shutil.copyfile(made("bert") / "tokenizer.json", directory / "tokenizer.json")

    with pytest.raises(CheckpointError, match="do not belong together"):
        load(directory)


def test_missing_config_is_named(copy: Callable[..., Path]) -> None:
    """A directory without config.json or reranker.json says which files it lacks."""
    directory = copy()
    (directory / "config.json").unlink()

    with pytest.raises(CheckpointError, match=r"neither reranker\.json nor config\.json"):
        load(directory)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        build(CLASSIFIER, Options(checkpoint=str(directory), device="cpu"))


@pytest.mark.parametrize("family", FAMILIES)
def test_length_ends_with_the_position_table(family: Family, made: Callable[[Family], Path]) -> None:
    """XLM-R's 514 positions and BERT's 512 both read 512 tokens; one more is an InputError before any forward."""
    assert len(load(made(family), max_length=512).rerank(QUERIES[0], [LONG])[0].passages) > 1
    with pytest.raises(InputError, match=r"513.*512 positions"):
        load(made(family), max_length=513)


@pytest.mark.parametrize("family", FAMILIES)
def test_length_is_clamped_where_the_files_claim_more(family: Family, copy: Callable[..., Path]) -> None:
    """A tokenizer_config.json without a limit, or with one beyond the positions, cannot make a row overflow."""
    directory = copy(family)
    for limit in (None, 100_000):
        (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}), encoding="utf-8")
        assert len(load(directory).rerank(QUERIES[0], [LONG])[0].passages) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_query_that_fills_the_model_is_an_input_error(family: Family, made: Callable[[Family], Path]) -> None:
    """A query that leaves no token for the document is refused with the option that would cut it."""
    with pytest.raises(InputError, match="max_query_length="):
        load(made(family)).rerank("panda " * 600, ["a bear"])


@pytest.mark.parametrize("device", ["potato", "cuda:99", "", "hpu"])
def test_an_unknown_device_is_an_input_error(device: str, made: Callable[[Family], Path]) -> None:
    """A device that is not there is named before weights are read."""
    with pytest.raises(InputError, match=f"device (is )?'{device}'"):
        rerank_core.load(made("bert"), device=device)
