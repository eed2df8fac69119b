"""Late-interaction models by name whose conventions are read from the files that their authors publish."""

from __future__ import annotations

from dataclasses import replace

from rerank_colbert.folders import spec_of
from rerank_core import CheckpointError, ModelSpec, Options
from rerank_core.backends.torch import TorchScorer, build, locate, model_folder

__all__ = ["scorer"]


def scorer(spec: ModelSpec, options: Options) -> TorchScorer:
    """The factory of models that have a name and a limit here, and markers, expansion, skipped tokens and projection in
    their folder.

    Raises:
        CheckpointError: a folder that is not of late interaction, or is incomplete.
    """
    directory = model_folder(locate(spec, options), spec, options)
    found = spec_of(directory, ())
    if found is None or found.scorer is not None:
        raise CheckpointError(
            f"{directory} has no settings of PyLate, sentence-transformers or Stanford's ColBERT, from which "
            f"{spec.name!r} takes its markers and its projection; give a folder of late interaction"
        )
    return build(replace(spec, scorer=None, template=found.template, head=found.head), options)
