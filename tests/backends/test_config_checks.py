"""What config.json claims is held against the weights' headers, before minutes or memory are spent on it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import CheckpointError
from rerank_core.backends.config_checks import check_sizes, shapes_of
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

KINDS = ("bert", "xlm-roberta", "qwen2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each kind."""
    root = tmp_path_factory.mktemp("claims")
    return {
        "bert": tiny_cross_encoder(root / "bert", "bert"),
        "xlm-roberta": tiny_cross_encoder(root / "xlm-roberta", "xlm-roberta"),
        "qwen2": tiny_causal_lm(root / "qwen2", "qwen2", shards=True),
    }


def claiming(source: Path, folder: Path, **changes: Any) -> Path:
    """A copy whose config.json says something else."""
    shutil.copytree(source, folder)
    said = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**said, **changes}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_true_claims_pass(kind: str, folders: dict[str, Path]) -> None:
    """What transformers saved is what it claims, one file or several."""
    check_sizes(folders[kind])

    assert len(shapes_of(folders[kind])) > 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 100_000), ("num_hidden_layers", 4), ("num_hidden_layers", 0), ("num_hidden_layers", -1),
        ("hidden_size", 10**9), ("hidden_size", 10**30), ("hidden_size", 0), ("hidden_size", 3.5),
        ("vocab_size", 10**12), ("vocab_size", -5), ("intermediate_size", 10**8), ("num_attention_heads", 0),
        ("num_attention_heads", 10**9), ("num_labels", 10**9), ("max_position_embeddings", 10**13),
        ("max_position_embeddings", 0), ("max_position_embeddings", "many"), ("sliding_window", "wide"),
        ("tie_word_embeddings", "yes"), ("return_dict", "no"), ("architectures", "Bert"), ("layer_types", [1]),
        ("rope_theta", float("inf")), ("final_logit_softcapping", 10**40), ("seed", 10**15),
    ],
)  # fmt: skip
def test_false_claims_are_named_at_once(
    kind: str, name: str, value: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    """The file and the setting stand in the message, and nothing was built: it takes milliseconds."""
    folder = claiming(folders[kind], tmp_path / "copy", **{name: value})
    start = time.perf_counter()

    with pytest.raises(CheckpointError, match=rf"config\.json: {name} is "):
        check_sizes(folder)

    assert time.perf_counter() - start < 2


def test_a_layer_too_many_is_a_tensor_too_few(folders: dict[str, Path], tmp_path: Path) -> None:
    """The message has the name of a weight that is missing, and `load` gives it without building 100,000 layers."""
    folder = claiming(folders["bert"], tmp_path / "copy", num_hidden_layers=100_000)
    start = time.perf_counter()

    with pytest.raises(CheckpointError, match=r"the weights have 2 layers, and '.*layer\.2\..*' is missing"):
        rerank_core.load(folder, device="cpu")
    assert time.perf_counter() - start < 20


def test_parts_of_a_model_are_held_to_it_too(folders: dict[str, Path], tmp_path: Path) -> None:
    """A configuration inside the configuration (text_config) claims nothing more either."""
    folder = claiming(folders["qwen2"], tmp_path / "copy", text_config={"num_hidden_layers": 99_999})

    with pytest.raises(CheckpointError, match="num_hidden_layers is 99999"):
        check_sizes(folder)


def test_long_contexts_without_a_table_are_no_false_claim(folders: dict[str, Path], tmp_path: Path) -> None:
    """Rotary positions need no weights, so millions of them may be claimed."""
    check_sizes(claiming(folders["qwen2"], tmp_path / "copy", max_position_embeddings=10_485_760))


def test_layers_that_share_their_weights_are_counted_as_claimed(tmp_path: Path) -> None:
    """ALBERT runs one group of weights twelve times: not a layer is missing."""
    from transformers import AlbertConfig, AlbertForSequenceClassification

    small = AlbertConfig(
        vocab_size=90, embedding_size=8, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        num_hidden_layers=12, num_labels=1,
    )  # fmt: skip
    AlbertForSequenceClassification(small).save_pretrained(tmp_path)

    check_sizes(tmp_path)


@pytest.mark.parametrize(
    "header", [b"", b"\xff" * 8, (2**63).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"{,,}"]
)
def test_headers_that_are_none_are_refused(header: bytes, folders: dict[str, Path], tmp_path: Path) -> None:
    """A header of exabytes is not read, and one that is no JSON is named."""
    folder = claiming(folders["bert"], tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(header)

    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be"):
        rerank_core.load(folder, device="cpu")


def test_shapes_of_headers_cost_no_memory(tmp_path: Path) -> None:
    """A header that claims a tensor larger than its file is not believed by safetensors, and never allocated."""
    folder = tiny_cross_encoder(tmp_path / "model", "bert")
    header = json.dumps(
        {"classifier.weight": {"dtype": "F32", "shape": [10**7, 10**7], "data_offsets": [0, 4]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)

    with pytest.raises(CheckpointError, match="cannot be loaded"):
        rerank_core.load(folder, device="cpu")
