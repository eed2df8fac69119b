"""Faults in a folder's files are the folder's: typed, with its name, and no plugin is blamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core
from rerank_core import CheckpointError, NonFiniteScoreError
from rerank_core.backends import try_in_child
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder

_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>"
_PYLATE = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "pylate.models.Dense", "path": "1_Dense"},
]
_IDENTITY = "torch.nn.modules.linear.Identity"


def _json(file: Path, values: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values), encoding="utf-8")


def _pylate(folder: Path) -> None:
    tiny_encoder(folder, "bert")
    _json(folder / "modules.json", _PYLATE)
    _json(folder / "config_sentence_transformers.json", {"model_type": "ColBERT", "query_length": 16, "prompts": {}})
    _json(folder / "1_Dense" / "config.json", {"activation_function": _IDENTITY})
    save_file({"linear.weight": torch.randn(16, 32)}, folder / "1_Dense" / "model.safetensors")


def _m3(folder: Path) -> None:
    tiny_encoder(folder, "xlm-roberta")
    torch.save({"weight": torch.randn(32, 32), "bias": torch.randn(32)}, folder / "colbert_linear.pt")
    torch.save({"weight": torch.randn(1, 32), "bias": torch.randn(1)}, folder / "sparse_linear.pt")


def _chat(folder: Path) -> None:
    tiny_causal_lm(folder, "qwen2")
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")


def _layers(folder: Path, family: str, tokenizer: Any, **config: Any) -> None:
    tiny_causal_lm(folder, family, tokenizer=tokenizer)
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    weights |= {f"lm_head.{number}.linear_head.weight": torch.ones(1, 32) for number in range(2)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = json.loads((folder / "config.json").read_text("utf-8"))
    _json(folder / "config.json", {**said, "rope_scaling": None, "start_layer": 2, **config})


MADE: dict[str, Callable[[Path], Any]] = {
    "classifier": lambda folder: tiny_cross_encoder(folder, "bert"),
    "pylate": _pylate,
    "m3": _m3,
    "chat": _chat,
    "layerwise": lambda folder: _layers(folder, "llama", "sentencepiece", head_multi=True, head_type="simple"),
    "lightweight": lambda folder: _layers(folder, "gemma2", "gemma", layer_wise=True),
}


def load(kind: str, folder: Path) -> rerank_core.Reranker:
    """A folder, as its kind is loaded."""
    if kind == "chat":
        return rerank_core.load(f"llm:{folder}", device="cpu")
    if kind in ("layerwise", "lightweight"):
        return rerank_core.load(f"bge-llm-{kind}", checkpoint=str(folder), device="cpu", layer=3)
    return rerank_core.load(folder, device="cpu")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A whole folder of each kind, made once."""
    root = tmp_path_factory.mktemp("folders")

    def of(kind: str) -> Path:
        if not (root / kind).is_dir():
            MADE[kind](root / kind)
        return root / kind

    return of


_ANY = [
    ("config.json", "num_attention_heads", 0), ("config.json", "vocab_size", "x"), ("config.json", "hidden_size", {}),
    ("config.json", "layer_types", -1), ("config.json", "sliding_window", ["x"]), ("config.json", "hidden_act", {}),
    ("config.json", "tie_word_embeddings", "x"), ("config.json", "id2label", 1), ("config.json", "model_type", [1]),
    ("config.json", "quantization_config", ["x"]), ("config.json", "max_position_embeddings", "x"),
    ("config.json", "final_logit_softcapping", 1e400), ("config.json", "pad_token_id", "x"),
    ("tokenizer.json", "model", None), ("tokenizer.json", "normalizer", -1), ("tokenizer.json", "added_tokens", "x"),
    ("tokenizer.json", "post_processor", True), ("tokenizer.json", "pre_tokenizer", {"type": 0.5}),
    ("tokenizer_config.json", "bos_token", "\ud800"),
]  # fmt: skip
_CHAT = [
    ("tokenizer_config.json", "added_tokens_decoder", 1), ("tokenizer_config.json", "mask_token", True),
    ("tokenizer_config.json", "extra_special_tokens", 5), ("config.json", "auto_map", 0.5),
]  # fmt: skip
_PYLATE_CASES = [
    ("config_sentence_transformers.json", "prompts", ["x"]), ("config_sentence_transformers.json", "query_length", "x"),
    ("config_sentence_transformers.json", "query_length", -3), ("1_Dense/config.json", "use_residual", True),
    ("config_sentence_transformers.json", "skiplist_words", [None]), ("1_Dense/config.json", "activation_function", 3),
    ("config_sentence_transformers.json", "document_length", 0.5), ("modules.json", None, [{"path": []}]),
    ("modules.json", None, {"a": 1}), ("1_Dense/config.json", None, [1]), ("modules.json", None, [None]),
    ("config_sentence_transformers.json", "query_prefix", 7),
]  # fmt: skip
CASES = [
    *(("classifier", *case) for case in _ANY),
    *(("chat", *case) for case in [*_ANY, *_CHAT]),
    *(("pylate", *case) for case in _PYLATE_CASES),
    *((kind, "config.json", "start_layer", value) for kind in ("layerwise", "lightweight") for value in ("x", 0, [])),
    *(("layerwise", "config.json", name, "x") for name in ("scale_emb", "scale_depth", "rope_theta", "rms_norm_eps")),
    ("lightweight", "config.json", "layer_sep", -1),
]


@pytest.mark.parametrize("kind", list(MADE))
def test_settings_of_wrong_types_are_the_folders_fault(
    kind: str, sources: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each value alone: scores come out, or a CheckpointError with the name of the file or folder; nothing else."""
    wrong = {}
    for number, (own, name, key, value) in enumerate(CASES):
        if own != kind:
            continue
        folder = Path(shutil.copytree(sources(kind), tmp_path / str(number)))
        said = value if key is None else {**json.loads((folder / name).read_text("utf-8")), key: value}
        _json(folder / name, said)
        try:
            load(kind, folder).rerank("a panda", ["a bear", ""])
        except NonFiniteScoreError:
            pass
        except CheckpointError as error:
            if str(folder) not in str(error):
                wrong[name, key, str(value)] = str(error)
        except BaseException as error:  # noqa: BLE001 -- a panic is no Exception
            wrong[name, key, str(value)] = f"{type(error).__name__}: {error}"

    load(kind, sources(kind)).rerank("a panda", ["a bear", ""])
    assert wrong == {}


@pytest.mark.parametrize(
    ("kind", "file", "tensors"),
    [
        ("pylate", "1_Dense/model.safetensors", {"linear.weight": (16, 33)}),
        ("pylate", "1_Dense/model.safetensors", {"linear.weight": (16,)}),
        ("pylate", "1_Dense/model.safetensors", {"linear.weight": (0, 32)}),
        ("pylate", "1_Dense/model.safetensors", {"linear.weight": (16, 32), "linear.bias": (17,)}),
        ("pylate", "1_Dense/model.safetensors", {"linear.weight": (16, 32), "residual.weight": (32, 16)}),
        ("m3", "colbert_linear.pt", {"weight": (32, 31), "bias": (32,)}),
        ("m3", "colbert_linear.pt", {"weight": (32, 32), "bias": (1, 32)}),
        ("m3", "sparse_linear.pt", {"weight": (2, 32), "bias": (2,)}),
        ("m3", "sparse_linear.pt", {"weight": (1, 5), "bias": (1,)}),
    ],
)
def test_shapes_of_projections_are_checked_on_load(
    kind: str, file: str, tensors: dict[str, tuple[int, ...]], sources: Callable[[str], Path], tmp_path: Path
) -> None:
    """A projection that fits neither the encoder nor itself is refused before the first call, with its place."""
    folder = Path(shutil.copytree(sources(kind), tmp_path / "copy"))
    made = {name: torch.ones(shape) for name, shape in tensors.items()}
    if file.endswith(".pt"):
        torch.save(made, folder / file)
    else:
        save_file(made, folder / file)

    with pytest.raises(CheckpointError, match=file.partition(".")[0].partition("/")[0]):
        load(kind, folder)


@pytest.mark.parametrize("fault", ["loops", "surrogate", "raises", "broken"])
def test_chat_templates_that_end_badly_are_refused(
    fault: str, sources: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that never ends, makes no text, raises or cannot be compiled: a CheckpointError within seconds."""
    folder = Path(shutil.copytree(sources("chat"), tmp_path / "copy"))
    source = {
        "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + _TEMPLATE,
        "surrogate": _TEMPLATE + "\ud800",
        "raises": "{{ raise_exception('no roles') }}",
        "broken": "{% for %}",
    }[fault]
    monkeypatch.setitem(try_in_child._SECONDS, "template", 1)  # the limit itself is tested in test_try_in_child.py
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    _json(folder / "tokenizer_config.json", {**settings, "chat_template": source})

    with pytest.raises(CheckpointError, match=str(folder)):
        load("chat", folder)


def test_a_forward_pass_gives_what_is_read_whatever_a_file_says(sources: Callable[[str], Path], tmp_path: Path) -> None:
    """Settings of a model's outputs do not change a score."""
    folder = Path(shutil.copytree(sources("classifier"), tmp_path / "copy"))
    expected = load("classifier", folder).rerank("a panda", ["a bear"]).scores()
    said = json.loads((folder / "config.json").read_text("utf-8"))
    _json(folder / "config.json", {**said, "return_dict": False, "output_hidden_states": True, "use_cache": False})

    assert load("classifier", folder).rerank("a panda", ["a bear"]).scores() == expected


def test_a_fault_of_a_factory_is_still_the_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that fails by itself is named as such, over a folder without fault too."""
    from rerank_core import ModelSpec, PluginError
    from rerank_core.backends import build
    from rerank_core.options import Options

    (tmp_path / "acme_scorers.py").write_text("def scorer(spec, options):\n    return 1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = ModelSpec(name="acme", scorer="acme_scorers:scorer", checkpoint=str(tmp_path))

    with pytest.raises(PluginError, match="ZeroDivisionError"):
        build(spec, Options())
