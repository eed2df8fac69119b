"""One runtime for every open reranker.

    >>> import rerank_core
    >>> reranker = rerank_core.load("mini")                                    # doctest: +SKIP
    >>> for hit in reranker.rerank("what is a panda?", ["hi", "a bear"]):      # doctest: +SKIP
    ...     print(hit.rank, hit.score, hit.document.text)

Importing this module does not import torch; `load` imports the backend that a model needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rerank_core.combine import Combine
from rerank_core.errors import (
    CheckpointError,
    DuplicateModelError,
    IndexStoreError,
    InputError,
    MissingDependencyError,
    NonFiniteScoreError,
    PluginError,
    PluginLoadError,
    RerankError,
    UnknownModelError,
)
from rerank_core.planning.longdoc import FirstP, KMaxP, MaxP, MeanP
from rerank_core.plugins.hookspecs import API_VERSION, hookimpl
from rerank_core.scorer import (
    Batch,
    Configurable,
    Identified,
    ListRanker,
    Output,
    Permutation,
    QueryRow,
    Resumable,
    Row,
    Scorer,
    TextScorer,
    Tokens,
)
from rerank_core.spec import Head, ModelOption, ModelSpec, Template, TokenVectors
from rerank_core.spec.reranker_json import write_spec
from rerank_core.types import Document, Hit, Match, Passage, Ranking, Usage

if TYPE_CHECKING:
    from rerank_core.ensemble import Ensemble
    from rerank_core.identity.calibration import write_calibration
    from rerank_core.index.index import Index
    from rerank_core.index.protocols import Explains, Indexable
    from rerank_core.loading import load
    from rerank_core.options import CallOptions, Options
    from rerank_core.reranker import Reranker
else:  # imported when used, since plugins and `rerank models` only describe models
    _NAMES = {
        "ensemble": "Ensemble",
        "identity.calibration": "write_calibration",
        "index.index": "Index",
        "index.protocols": "Explains Indexable",
        "loading": "load",
        "options": "CallOptions Options",
        "reranker": "Reranker",
    }
    _HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "Batch",
    "CallOptions",
    "CheckpointError",
    "Combine",
    "Configurable",
    "Document",
    "DuplicateModelError",
    "Ensemble",
    "Explains",
    "FirstP",
    "Head",
    "Hit",
    "Identified",
    "Index",
    "IndexStoreError",
    "Indexable",
    "InputError",
    "KMaxP",
    "ListRanker",
    "Match",
    "MaxP",
    "MeanP",
    "MissingDependencyError",
    "ModelOption",
    "ModelSpec",
    "NonFiniteScoreError",
    "Options",
    "Output",
    "Passage",
    "Permutation",
    "PluginError",
    "PluginLoadError",
    "QueryRow",
    "Ranking",
    "RerankError",
    "Reranker",
    "Resumable",
    "Row",
    "Scorer",
    "Template",
    "TextScorer",
    "TokenVectors",
    "Tokens",
    "UnknownModelError",
    "Usage",
    "hookimpl",
    "load",
    "models",
    "write_calibration",
    "write_spec",
]


def models() -> list[ModelSpec]:
    """The models of every installed plugin, sorted by name. Does not import torch."""
    from rerank_core.plugins.registry import default  # a plugin that describes models needs no registry

    return default().models()
