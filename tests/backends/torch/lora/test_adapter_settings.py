"""``adapter_config.json`` is anybody's: a short list of settings is followed, and nothing in it runs, asks or hangs."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import rerank_core
from helpers.plain import QUERIES
from rerank_core import CheckpointError
from rerank_core.backends.torch.lora import settings as lora_settings
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

SETTINGS: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 4, "target_modules": ["query"],
}  # fmt: skip
DOCS = ["a bear", "paris"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's adapter, written without peft."""
    folder = tmp_path_factory.mktemp("adapter")
    base = tiny_cross_encoder(folder / "base", "bert", layers=2)
    tensors = {}
    drawn = torch.Generator().manual_seed(4)
    for layer in range(2):
        at = f"base_model.model.bert.encoder.layer.{layer}.attention.self.query.lora_"
        shapes = {f"{at}A.weight": (2, 32), f"{at}B.weight": (32, 2)}
        tensors |= {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}
    (folder / "lora").mkdir()
    save_file(tensors, folder / "lora" / "adapter_model.safetensors")
    written = {**SETTINGS, "base_model_name_or_path": str(base)}
    (folder / "lora" / "adapter_config.json").write_text(json.dumps(written))
    return folder / "lora"


@pytest.fixture
def told(adapter: Path, tmp_path: Path) -> Any:
    """A copy of it with other settings."""

    def of(**settings: Any) -> Path:
        folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
        return folder

    return of


def scores(folder: Path) -> list[float]:
    return rerank_core.load(folder, device="cpu").rerank(QUERIES[0], DOCS).scores()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "XLORA", "adapters": {"0": "/etc"}}, "peft_type is 'XLORA'"),
    ({"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "owner/name"}, "peft_type is 'PROMPT_TUNING'"),
    ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA'"),
    ({"peft_type": None}, "peft_type is None"),
    ({"peft_type": ["LORA"]}, "peft_type is"),
    ({"megatron_core": "evil_core"}, "megatron_core is 'evil_core'"),
    ({"megatron_config": {"a": 1}}, "megatron_config is"),
    ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication is"),
    ({"loftq_config": {"loftq_bits": 4}}, "loftq_config is"),
    ({"corda_config": {"cache_file": "/tmp/cache"}}, "corda_config is"),
    ({"runtime_config": {"ephemeral_gpu_offload": True}}, "runtime_config is"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices is"),
    ({"target_parameters": ["a"]}, "target_parameters is"),
    ({"something_new": "on"}, "something_new is 'on'"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
    ({"task_type": "TOKEN_CLS"}, "task_type 'TOKEN_CLS'"),
    ({"r": 0}, "r is 0"),
    ({"r": True}, "r is True"),
    ({"r": "2"}, "r is '2'"),
    ({"r": 10**9}, "r is 1000000000"),
    ({"r": 3}, r"is \[2, 32\], not \[3, 32\]"),
    ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
    ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
    ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
    ({"lora_alpha": None}, "lora_alpha is None"),
    ({"target_modules": None}, "names no target_modules"),
    ({"target_modules": []}, "names no target_modules"),
    ({"target_modules": {"a": 1}}, "target_modules is"),
    ({"target_modules": [1]}, "target_modules is"),
    ({"target_modules": "("}, "is no expression"),
    ({"target_modules": ["nothing"]}, "holds 4 tensors"),
    ({"target_modules": ["query", "key"]}, r"lacks 4 tensors.*attention\.self\.key\.lora_A\.weight"),
    ({"exclude_modules": ["query"]}, "holds 4 tensors"),
    ({"modules_to_save": ["pooler"]}, r"lacks 2 tensors.*bert\.pooler\.dense"),
    ({"modules_to_save": [".*"]}, "modules_to_save is"),
    ({"rank_pattern": {"query": "2"}}, "rank_pattern is"),
    ({"rank_pattern": ["query"]}, "rank_pattern is"),
    ({"rank_pattern": {"(": 2}}, "is no expression"),
    ({"layers_to_transform": "all"}, "layers_to_transform is"),
    ({"use_dora": "yes"}, "use_dora is 'yes'"),
    ({"use_dora": True}, "lora_magnitude_vector"),
    ({"lora_bias": True}, r"lora_B\.bias"),
    ({"bias": "some"}, "bias is 'some'"),
    ({"bias": "lora_only"}, r"lacks 2 tensors.*query\.bias"),
    ({"revision": 3}, "revision"),
    ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
    ({"base_model_name_or_path": ["a"]}, "names no base_model_name_or_path"),
    ({"base_model_name_or_path": "a\0b"}, "names no base_model_name_or_path"),
    ({"base_model_name_or_path": "package:rerank_mini/x"}, "neither an existing directory"),
    ({"base_model_name_or_path": "."}, "is an adapter too"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_followed_is_refused(settings: dict[str, Any], said: str, told: Any) -> None:
    """Other kinds of adapter, and settings that change what tensors mean, are named with their values."""
    with pytest.raises(CheckpointError, match=said):
        scores(told(**settings))


def test_a_module_of_the_working_directory_is_not_imported(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No setting that peft would import a module by leaves a trace, whether the adapter is refused or loaded."""
    for name in ("evil_core", "evil_library"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = told(
        megatron_config={"tensor_model_parallel_size": 1}, megatron_core="evil_core",
        auto_mapping={"base_model_class": "Evil", "parent_library": "evil_library"},
    )  # fmt: skip

    with pytest.raises(CheckpointError, match="megatron_co"):
        scores(folder)
    file = folder / "adapter_config.json"
    kept = {name: value for name, value in json.loads(file.read_text()).items() if "megatron" not in name}
    file.write_text(json.dumps(kept))
    assert len(scores(folder)) == len(DOCS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern"])
def test_an_expression_that_never_ends_is_stopped(key: str, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expression whose matching takes for ever is refused in seconds, wherever it stands."""
    if key != "target_modules":  # which has the limit that users have
        monkeypatch.setattr(lora_settings, "_SECONDS", 0.1)
    endless = r"(?:.|.)+(?<=[0-9])"
    folder = told(**{key: {endless: 2} if key == "rank_pattern" else endless})
    start = time.perf_counter()

    with pytest.raises(CheckpointError, match="takes too long"):
        scores(folder)
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": [f"layer{number}" for number in range(200_000)] + ["query"]},
        {"rank_pattern": {f"layer{number}": 2 for number in range(20_000)}},
        {"rank_pattern": {f"(?:.|.)+(?<=[0-9]){number}": 2 for number in range(1_000)}},
        {"layers_to_transform": [0, 1, *range(200_000)]},
        {"modules_to_save": [f"layer{number}" for number in range(200_000)]},
    ],
    ids=lambda value: next(iter(value)),
)
def test_many_settings_end_too(settings: dict[str, Any], told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is far too long is followed or refused in seconds."""
    monkeypatch.setattr(lora_settings, "_SECONDS", 0.1)
    folder = told(**settings)
    start = time.perf_counter()
    with contextlib.suppress(CheckpointError):
        scores(folder)

    assert time.perf_counter() - start < 60


def test_honest_expressions_are_followed(told: Any, adapter: Path) -> None:
    """Expressions that match what the lists match give the same scores; so do settings without effect."""
    folder = told(
        target_modules=r"bert\.encoder\.layer\.\d+\.attention\.self\.(query)", exclude_modules=r".*pooler.*",
        rank_pattern={r"layer\.[01]\.attention\.self\.query": 2}, eva_config=None, loftq_config={}, peft_version="9",
        megatron_core="megatron.core", inference_mode=True, lora_dropout=0.1, unknown_to_us=None, use_qalora=False,
    )  # fmt: skip

    assert scores(folder) == pytest.approx(scores(adapter), abs=1e-5)


def test_peft_has_no_say(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores do not depend on whether peft is installed, and differ from those of the base."""
    found = scores(adapter)
    monkeypatch.setitem(sys.modules, "peft", None)

    assert scores(adapter) == pytest.approx(found, abs=1e-5)
    assert scores(adapter.parent / "base") != pytest.approx(found, abs=1e-3)


def test_a_folder_with_a_model_and_an_adapter_is_refused(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers lays such an adapter over the model where peft is installed; which is meant must be said. Both ways
    that the message names lead to a folder that loads."""
    both = Path(shutil.copytree(adapter.parent / "base", tmp_path / "both"))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, both)
    for installed in (True, False):
        if not installed:
            monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*adapter_config\.json.*delete"):
            scores(both)
        with pytest.raises(CheckpointError, match="two ways"):
            rerank_core.load("bge-reranker-base", checkpoint=both, device="cpu")
    alone = Path(shutil.copytree(both, tmp_path / "alone"))
    (alone / "model.safetensors").unlink()
    assert scores(alone) == pytest.approx(scores(adapter), abs=1e-5)  # a config.json alone is no model
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (both / name).unlink()
    assert scores(both) == pytest.approx(scores(adapter.parent / "base"), abs=1e-5)


def test_leftover_tensors_alone_change_nothing(adapter: Path, tmp_path: Path) -> None:
    """An adapter's tensors without the file that says what they are do not make a model of their folder, nor spoil
    one."""
    folder = Path(shutil.copytree(adapter.parent / "base", tmp_path / "leftover"))
    shutil.copy(adapter / "adapter_model.safetensors", folder)
    assert scores(folder) == pytest.approx(scores(adapter.parent / "base"), abs=1e-5)

    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        scores(folder)


def test_a_language_models_adapter_by_its_path_says_what_to_do(tmp_path: Path) -> None:
    """Nobody says what it is asked; a name with ``checkpoint=`` or a ``reranker.json`` does, as the message says."""
    base = tiny_causal_lm(tmp_path / "base", "qwen2", layers=1)
    folder = tmp_path / "lora"
    folder.mkdir()
    at = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file(
        {f"{at}A.weight": torch.ones(2, 32), f"{at}B.weight": torch.ones(32, 2)}, folder / "adapter_model.safetensors"
    )
    told = {**SETTINGS, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(told))

    with pytest.raises(CheckpointError, match=r"is an adapter.*checkpoint=.*write_spec") as caught:
        rerank_core.load(folder, device="cpu")
    assert repr(str(folder)) in str(caught.value)
    spec = rerank_core.ModelSpec(name="mine", head=rerank_core.Head.last_token("yes"), template=rerank_core.Template())
    rerank_core.write_spec(spec, folder)
    assert len(rerank_core.load(folder, device="cpu").rerank("a", DOCS)) == 2


def test_the_bases_name_brings_what_it_says(told: Any) -> None:
    """An adapter of a model that is installed follows its template, limits and revision; of any other, the pair."""
    pytest.importorskip("rerank_bge", reason="rerank-bge is not installed")
    from rerank_core.plugins.registry import default

    spec = default().resolve(str(told(base_model_name_or_path="BAAI/bge-reranker-base")))
    known = default().named("bge-reranker-base")
    assert (spec.max_length, spec.template, spec.revision) == (known.max_length, known.template, known.revision)
    assert (spec.sha256, spec.pickled, spec.aliases) == ({}, False, ())
