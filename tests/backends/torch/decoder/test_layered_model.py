"""Models with a score at several layers that no plugin knows: live, from a folder, and as adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.causal import layered
from helpers.plain import DOCUMENTS, QUERIES, assert_close
from rerank_core import CheckpointError, Head, InputError, ModelSpec, Reranker, Template, write_spec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.attention import packing
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

SPEC = ModelSpec(
    name="by-layer",
    template=Template(before="{bos}", query="Q: {query}", between="\n", doc="D: {doc}", after="\nso?"),
    head=Head.layers(2, 2),
)


def by_layer(reranker: Reranker) -> dict[str, list[float]]:
    hits = sorted(reranker.rerank(QUERIES[0], DOCUMENTS), key=lambda hit: hit.index)
    return {name: [hit.scores[name] for hit in hits] for name in hits[0].scores}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of five layers."""
    return tiny_causal_lm(tmp_path_factory.mktemp("llama"), "llama", tokenizer="sentencepiece", layers=5)


def test_live_module_and_its_folder_score_alike(base: Path, tmp_path: Path) -> None:
    """All layers of a live module are scored at once, in training too; the folder says which layers there are."""
    module, tokenizer = layered(base, range(2, 6, 2))
    scorer = scorer_of(module.train(), tokenizer, SPEC)
    found = by_layer(Reranker.from_scorer(scorer, SPEC))
    assert list(found) == ["layer_4", "layer_2"]
    assert module.training

    module.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    write_spec(SPEC, tmp_path)
    served = rerank_core.load(tmp_path, device="cpu")
    assert [option.name for option in served.spec.options] == ["layer", "cascade"]
    # By default the deepest layer that has a head, which is not the deepest layer.
    assert_close(found["layer_4"], served.rerank(QUERIES[0], DOCUMENTS).scores())
    assert len(served.scorer.module.layers) == 4
    shallow = rerank_core.load(tmp_path, device="cpu", layer=2)
    assert_close(found["layer_2"], shallow.rerank(QUERIES[0], DOCUMENTS).scores())
    for layer, said in ((3, "scores at layers 2 to 5, every 2"), (6, "scores at layers")):
        with pytest.raises(InputError, match=said):
            rerank_core.load(tmp_path, device="cpu", layer=layer)


def test_live_scores_follow_the_weights(base: Path) -> None:
    """A head that a trainer changes in place changes the score at once."""
    module, tokenizer = layered(base, range(2, 6, 2))
    reranker = Reranker.from_scorer(scorer_of(module, tokenizer, SPEC), SPEC)
    before = by_layer(reranker)
    with torch.no_grad():
        module.lm_head[1].linear_head.weight.mul_(-2)
    after = by_layer(reranker)
    assert_close([-2 * score for score in before["layer_4"]], after["layer_4"])
    assert_close(before["layer_2"], after["layer_2"])


def test_what_cannot_run_by_layers_is_refused(base: Path) -> None:
    """A module without heads, and one whose rows are not packed, are errors and not other scores."""
    from transformers import AutoModelForCausalLM

    module, tokenizer = layered(base, range(2, 6, 2), packed=False)
    with pytest.raises(CheckpointError, match="one by one"):
        scorer_of(module, tokenizer, SPEC)
    auto: Any = AutoModelForCausalLM
    with pytest.raises(InputError, match="LayeredModel"):
        scorer_of(auto.from_pretrained(str(base)), tokenizer, SPEC)


def test_folder_with_fewer_layers_than_heads_start_at_is_refused(base: Path, tmp_path: Path) -> None:
    """`Head.layers(8)` on five layers names what was asked for."""
    module, tokenizer = layered(base, range(2, 6, 2))
    module.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    write_spec(ModelSpec(name="deep", template=Template(), head=Head.layers(8)), tmp_path)
    with pytest.raises(InputError, match="layers 8 to 5"):
        rerank_core.load(tmp_path, device="cpu")


# ---------------------------------------------------------------------- adapters with heads of their own
def adapted(module: Any, folder: Path, base: Path, whole: list[str], task: str | None = None) -> Any:
    """A module with random adapters, saved into a folder that names its base."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=whole, modules_to_save=whole, task_type=task,
        init_lora_weights=False,
    )  # fmt: skip
    made = peft.get_peft_model(module, config)
    made.save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base)}))
    return made.get_base_model()


def test_adapter_with_layer_heads_loads_by_its_folder(base: Path, tmp_path: Path) -> None:
    """Heads trained beside adapters come with them; the base is a plain causal model."""
    module, tokenizer = layered(base, range(2, 6, 2))
    plain = adapted(module, tmp_path, base, ["linear_head"])
    found = by_layer(Reranker.from_scorer(scorer_of(plain, tokenizer, SPEC), SPEC))
    write_spec(SPEC, tmp_path)
    assert_close(found["layer_4"], rerank_core.load(tmp_path, device="cpu").rerank(QUERIES[0], DOCUMENTS).scores())
    shallow = rerank_core.load(tmp_path, device="cpu", layer=2)
    assert_close(found["layer_2"], shallow.rerank(QUERIES[0], DOCUMENTS).scores())


def test_adapter_with_a_classifier_loads_by_its_folder(tmp_path: Path) -> None:
    """A head that the base lacks, or has for other labels, is the adapter's; without one it is refused."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    auto: Any = AutoModelForSequenceClassification
    spec = ModelSpec(name="adapted", head=Head.classifier())
    for number, head in enumerate((True, False)):
        base = tiny_cross_encoder(tmp_path / f"base-{number}", "xlm-roberta", labels=3, head=head)
        module = auto.from_pretrained(str(base), num_labels=1, ignore_mismatched_sizes=True)
        folder = tmp_path / f"adapter-{number}"
        plain = adapted(module, folder, base, ["classifier"], "SEQ_CLS")
        write_spec(spec, folder)
        expected = Reranker.from_scorer(scorer_of(plain, AutoTokenizer.from_pretrained(str(base)), spec), spec)
        served = rerank_core.load(folder, device="cpu")
        assert_close(expected.rerank(QUERIES[0], DOCUMENTS).scores(), served.rerank(QUERIES[0], DOCUMENTS).scores())
    file = folder / "adapter_model.safetensors"
    save_file({name: part for name, part in load_file(file).items() if "classifier" not in name}, file)
    with pytest.raises(CheckpointError, match="lacks weights"):
        rerank_core.load(folder, device="cpu")


def test_capped_attention_without_a_packing_is_transformers_own(tmp_path: Path) -> None:
    """Gemma 2 under our attention's name, called with padded rows as anybody's model is, gives what eager gives."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    base = tiny_causal_lm(
        tmp_path, "gemma2", tokenizer="gemma", attn_logit_softcapping=2.0, sliding_window=6, query_pre_attn_scalar=8
    )
    ids = torch.randint(5, 300, (2, 17), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    found = []
    for name in ("eager", packing.NAME):
        module = auto.from_pretrained(str(base), dtype=torch.float32, attn_implementation=name).eval()
        with torch.no_grad():
            found.append([module(input_ids=ids, attention_mask=seen).logits[:, 5:] for seen in (mask, None)])
    for expected, own in zip(*found, strict=True):
        assert torch.allclose(expected, own, atol=1e-4)
