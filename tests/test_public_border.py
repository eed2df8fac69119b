"""The public names of the core: what a plugin may import, and what the trainers use beyond that."""

from __future__ import annotations

import ast
import importlib
from inspect import ismodule
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = sorted((ROOT / "plugins").glob("*/src/*"))
TRAINERS = ROOT / "trainers" / "src" / "rerank_trainers"

# The public modules and their names. A name is added here when a plugin needs it, with a line in docs/plugins.md.
PUBLIC = {
    "rerank_core": """
        API_VERSION Batch CallOptions CheckpointError Combine Configurable Document DuplicateModelError Ensemble
        Explains FirstP Head Hit Identified Index IndexStoreError Indexable InputError KMaxP ListRanker Match MaxP MeanP
        MissingDependencyError ModelOption ModelSpec NonFiniteScoreError Options Output Passage Permutation PluginError
        PluginLoadError QueryRow Ranking RerankError Reranker Resumable Row Scorer Template TextScorer TokenVectors
        Tokens UnknownModelError Usage hookimpl load models
        write_calibration write_spec
    """,
    "rerank_core.spec": """
        CompatProfile CompatRules Head JsonObject ModelOption ModelSpec Module Template TokenVectors TransformerSettings
        directory_of encoder_settings inside layer_options max_length_of model_name_of modules_after_transformer
        read_json optional_json read_json_list reading
    """,
    "rerank_core.records": """
        DocumentFields DocumentFormat LabelScale Record RowError TrainingRow expand_paths format_of read_documents
        read_lines read_records read_rows to_training_row unread_keys
    """,
    "rerank_core.cli.shared": """
        AsJson Device Dtype Encoding LongDocs MaxLength ModelOptions Threads TokenBudget emit_json load_options
        logged_warnings note progress_over show table warn
    """,
    "rerank_core.measures": """
        BM25 Bar CalibrationMap Comparison Interval QueryValues Reliability Scored Threshold best_scores
        bm25_scores compare cross_validated file_order_scores histogram interval interval_over_sets intervals_of
        isotonic measure_orders measure_scores paired parse_metrics platt queries_needed random_values
        randomisation_test reliability temperature terms threshold worst_order
    """,
    "rerank_core.backends.torch": """
        ClassifierScorer
        Block CausalPacking DecoderScorer Embedding Execution LateInteractionScorer LayerRunner LayerState
        MessageTemplate RowRef
        TextTokenizer TokenLogits TorchScorer VECTORS build check_tokenizer_files count_weights decoder_of
        encoder_of encoder_scorer language_model_of linear_of_file locate model_folder open_tokenizer
        projection_of return_freed_memory scorer_of tokenizer_folder training_module
    """,
    "rerank_core.testing": """
        FakeCascade FakeListRanker FakeScorer FakeSeparate FakeTextScorer ScorerConformance fake_spec tiny_causal_lm
        tiny_cross_encoder tiny_encoder tiny_encoder_decoder
    """,
}

# What the trainers, which are released together with the core, import beyond the public modules. It may only shrink.
TRAINERS_USE = """
    backends backends.locate backends.tokenizer backends.torch.attention backends.torch.base
    backends.torch.decoder.causal_lm backends.torch.decoder.dense_decoder backends.torch.decoder.heads
    backends.torch.decoder.layer_runner
    backends.torch.decoder.layered_model backends.torch.load_weights backends.torch.lora.load
    backends.torch.late_interaction.maxsim_gradient backends.torch.lora.merge backends.torch.safetensors_reader
    backends.torch.side_layers.projection backends.torch.trainable
    errors loading options pipeline.display planning.longdoc planning.row_plan plugins plugins.registry progress
    records.document_options records.documents records.fields records.label_scale records.parquet records.paths
    records.record_files records.row_converters records.row_formats records.training_row reranker scorer
    spec.folders.adapter spec.hub_or_folder spec.reranker_json spec.template spec.untrusted_files types
"""


def imported(package: Path) -> dict[str, set[str]]:
    """The modules of the core that a package's files import, and the names from each."""
    names: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rerank_core":
                names.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "rerank_core":
                        names.setdefault(alias.name, set())
    return names


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_the_ones_listed(module: str) -> None:
    """`__all__` of each public module holds the names of the list above, each of which exists."""
    public = importlib.import_module(module)

    assert sorted(public.__all__) == sorted(PUBLIC[module].split())
    assert not any(ismodule(getattr(public, name)) for name in public.__all__)
    assert public.__doc__


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented(module: str) -> None:
    """docs/plugins.md names each public module, and each of its names under that module's heading."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"### `{module}`\n")
    section, _, _ = section.partition("\n### ")

    assert section
    assert [name for name in PUBLIC[module].split() if f"`{name}`" not in section] == []


@pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
def test_plugins_import_public_names_only(package: Path) -> None:
    """A plugin of this repository imports nothing from the core that a plugin of somebody else may not."""
    private = {
        module: sorted(names - set(PUBLIC.get(module, "").split()))
        for module, names in imported(package).items()
        if module not in PUBLIC or names - set(PUBLIC[module].split())
    }

    assert private == {}


def test_trainers_use_no_more_than_before() -> None:
    """Modules that the trainers import beyond the public ones are listed above; the list may only shrink."""
    used = {module for module in imported(TRAINERS) if module not in PUBLIC}

    assert used == {f"rerank_core.{module}" for module in TRAINERS_USE.split()}
