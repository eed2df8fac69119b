"""A checkpoint's files name other files: only those of its own folder are opened, and it chooses no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.models.late import saved
from helpers.plain import QUERIES
from rerank_core import CheckpointError, Head, ModelSpec, Template, TokenVectors, write_spec
from rerank_core.backends.torch.side_layers.projection import load_projection
from rerank_core.spec.reranker_json import inside, read_spec
from rerank_core.testing.checkpoints import Family

DOCS = ["a bear", "paris"]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def copy(made: Callable[[Family], Path], tmp_path: Path) -> Path:
    """A copy of a tiny cross-encoder, two folders deep."""
    return Path(shutil.copytree(made("bert"), tmp_path / "outer" / "copy"))


def scores(folder: Path) -> list[float]:
    return rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCS).scores()


def configure(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def sharded(folder: Path, place: Callable[[str], str] = str) -> dict[str, str]:
    """Weights in two shards with their index; ``place`` says what the index calls the second."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for file, own in zip(files, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
    listed = dict.fromkeys(names[::2], files[0]) | {name: place(files[1]) for name in names[1::2]}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return listed


def test_shards_inside_are_read(copy: Path) -> None:
    """Shards that agree with their index score as the whole does, as links into the hub's cache too."""
    whole = scores(copy)
    sharded(copy)
    assert scores(copy) == pytest.approx(whole, abs=1e-5)

    blob = copy.parent / "blob"
    (copy / "model-00001-of-00002.safetensors").rename(blob)
    (copy / "model-00001-of-00002.safetensors").symlink_to("../blob")
    assert scores(copy) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("way", ["../{}", "{root}/{}", "a/../../{}", "..\\{}", "C:/{}", "", ".."])
def test_no_shard_outside_is_opened(way: str, copy: Path) -> None:
    """A shard elsewhere is refused by its name, even where its file is there and fits."""
    sharded(copy, lambda name: way.format(name, root=copy.parent))
    shutil.copy(copy / "model-00002-of-00002.safetensors", copy.parent)

    with pytest.raises(CheckpointError, match="inside its own folder"):
        scores(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda listed: {**listed, "x": 3}, "inside its own folder"),
        (lambda listed: {**listed, "x": "model-00003.safetensors"}, "which is missing"),
        (lambda listed: {**listed, "x": "model-00001-of-00002.safetensors"}, "lacks 'x'"),
        (lambda listed: dict(list(listed.items())[1:]), "holds .* says otherwise"),
        (lambda listed: dict.fromkeys(listed, "model-00001-of-00002.safetensors"), "says otherwise"),
        (lambda listed: {}, "weight_map is"),
        (lambda listed: list(listed), "weight_map is"),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_refused(change: Any, said: str, copy: Path) -> None:
    """A tensor that is not where the index says could be two; it is named."""
    listed = sharded(copy)
    (copy / INDEX).write_text(json.dumps({"weight_map": change(listed)}))

    with pytest.raises(CheckpointError, match=said):
        scores(copy)


def test_weights_that_another_reader_would_take_are_refused(copy: Path) -> None:
    """Parts of a distributed checkpoint come first at transformers, and quantized weights are other numbers as they
    stand."""
    part = copy / "shard-00001-model-00001-of-00001.safetensors"
    shutil.copy(copy / "model.safetensors", part)
    with pytest.raises(CheckpointError, match="distributed"):
        scores(copy)

    part.unlink()
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"classifier.weight": weights["classifier.weight"].char()}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'classifier\.weight' is I8.*quantized"):
        scores(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_layers_that_are_no_numbers_are_refused(value: float, copy: Path) -> None:
    """Attention swallows a NaN of its queries, and the scores would be numbers all the same."""
    weights = load_file(copy / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weights[name][3] = value
    save_file(weights, copy / "model.safetensors", {"format": "pt"})

    with pytest.raises(CheckpointError, match=r"query\.weight holds NaN or infinity"):
        scores(copy)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/evil", "eager", "flash_attention_3", {"": "owner/name"}])
def test_config_does_not_choose_the_attention(key: str, value: object, copy: Path) -> None:
    """The code that computes attention is chosen here: scores are the same whatever config.json asks for."""
    plain = scores(copy)

    assert scores(configure(copy, **{key: value})) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transformers_weights": "other.safetensors"}, "transformers_weights is 'other.safetensors'"),
        ({"backbone": "owner/name", "use_pretrained_backbone": True}, "backbone is 'owner/name'"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quant_method is 'mxfp4'"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "quant_method is 'fp8'"),
    ],
)
def test_config_names_no_other_files_nor_kernels(changes: dict[str, Any], said: str, copy: Path) -> None:
    """Settings by which transformers reads other files, or fetches another model or code of the hub, are refused."""
    with pytest.raises(CheckpointError, match=said):
        scores(configure(copy, **changes))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", "C:\\x", "a\0b", "", None, 3, ["x"]])
def test_no_name_leads_out(name: object, tmp_path: Path) -> None:
    """One rule for every file that a folder names."""
    with pytest.raises(CheckpointError, match=r"config\.json names"):
        inside(tmp_path, name, tmp_path / "config.json")


def test_masks_of_a_late_interaction_model_are_inside(tmp_path: Path) -> None:
    """modules.json of sentence-transformers names folders, of masks too."""
    pytest.importorskip("rerank_colbert", reason="rerank-colbert is not installed")
    folder = saved(tmp_path / "outer" / "model")
    (folder / "reranker.json").unlink()
    listed = [("Transformer", ""), ("MultiVectorMask", "../mask")]
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.{kind}", "path": path} for kind, path in listed])
    )
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "MultiVectorEncoder"}))

    with pytest.raises(CheckpointError, match="inside its own folder"):
        rerank_core.load(folder, device="cpu")


def test_nothing_is_inherited_that_a_folder_may_not_say(copy: Path) -> None:
    """``base`` in reranker.json brings code and options of an installed model, and not leave to read pickled files."""
    vectors = TokenVectors(projection=("colbert_linear.pt",))
    base = ModelSpec(
        name="base", head=Head.maxsim("sum", vectors), template=Template.each(), pickled=True, revision="a" * 40,
        sha256={"model.safetensors": "0" * 64}, aliases=("owner/base",), checkpoint="owner/base",
    )  # fmt: skip
    write_spec(ModelSpec(name="mine", head=base.head, template=base.template), copy, base="plugin:base")
    found = read_spec(copy, lambda _: base)
    assert (found.pickled, found.revision, dict(found.sha256), found.aliases) == (False, None, {}, ())
    assert found.checkpoint == str(copy.resolve())

    other = TokenVectors(projection=("other.pt",))
    for spec, like in ((replace(base, head=Head.maxsim("sum", other)), "plugin:base"), (base, None)):
        write_spec(spec, copy, base=like)
        with pytest.raises(CheckpointError, match=r"\.pt', a pickled file"):
            read_spec(copy, lambda _: base)


@pytest.mark.parametrize(
    ("tensors", "bias", "said"),
    [
        ({"linear.weight": torch.ones(4, 8)}, True, "bias is True; and 'linear.bias' is not in"),
        ({"linear.weight": torch.ones(4, 8), "linear.bias": torch.ones(4)}, False, "bias is False; and"),
        ({"linear.weight": torch.ones(4, 8), "linear.scale": torch.ones(4)}, False, r"holds 'linear\.scale'"),
        ({"dense.weight": torch.ones(4, 8)}, False, r"holds no 'linear\.weight'"),
    ],
)
def test_a_projections_tensors_are_those_it_says(
    tensors: dict[str, torch.Tensor], bias: bool, said: str, tmp_path: Path
) -> None:
    """A bias that is promised and absent, or there and not followed, would give other vectors without a word."""
    folder = tmp_path / "1_Dense"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"bias": bias, "activation_function": "torch.nn.Identity"}))

    with pytest.raises(CheckpointError, match=said):
        load_projection(tmp_path, ["1_Dense"], 8, device=torch.device("cpu"), dtype=torch.float32)


def test_a_pickled_index_is_not_followed(copy: Path) -> None:
    """Only ``pytorch_model.bin`` itself is read where an installed spec allows it, not the shards of an index."""
    from rerank_core.backends.torch import build
    from rerank_core.options import Options

    torch.save(load_file(copy / "model.safetensors"), copy.parent / "weights.bin")
    (copy / "model.safetensors").unlink()
    listed = dict.fromkeys(torch.load(copy.parent / "weights.bin"), "../weights.bin")
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    spec = ModelSpec(name="pickled", head=Head.classifier(), pickled=True)

    with pytest.raises(CheckpointError, match="no weights"):
        build(spec, Options(checkpoint=str(copy), device="cpu"))
