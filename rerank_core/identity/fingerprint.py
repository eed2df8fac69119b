"""The fingerprint of a loaded model: equal where raw scores are equal by construction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rerank_core.backends.source_files import SourceFiles, digests
from rerank_core.errors import InputError, PluginError
from rerank_core.identity.settings import plain, score_settings
from rerank_core.options import Options
from rerank_core.planning.row_plan import Rules
from rerank_core.scorer import AnyScorer, Identified
from rerank_core.spec import ModelSpec
from rerank_core.spec.compat import CompatProfile

__all__ = ["digest_of", "fingerprint_of"]

# Changed whenever the same model would get another fingerprint.
_FORMAT = 1


def fingerprint_of(
    spec: ModelSpec,
    options: Options,
    rules: Rules,
    profile: CompatProfile | None,
    scorer: AnyScorer,
    files: SourceFiles | None,
) -> str:
    """The fingerprint of a loaded model: 64 hexadecimal digits.

    Args:
        rules, profile: of every call; see `base_rules`.
        files: the files that the model was loaded from; None for a scorer that the caller made.

    Raises:
        InputError: a scorer that the caller made and that does not identify itself.
        CheckpointError: a file changed after the model was loaded.
        PluginError: a model with weights whose plugin did not read them from the folder of `locate`.
    """
    settings = score_settings(spec, rules, profile, options)
    checkpoint = options.checkpoint or spec.checkpoint
    data: dict[str, Any] = {"format": _FORMAT, **settings, "files": digests(files or {})}
    if isinstance(scorer, Identified):
        data["identity"] = plain(scorer.identity())
    elif files is None:
        raise InputError(
            f"the scorer of {spec.name!r}, a {type(scorer).__name__}, was made by the caller, so that its weights are "
            "unknown: publish the model to a folder and load that, or give the scorer a method identity()"
        )
    elif checkpoint and not data["files"]:
        raise PluginError(
            f"{spec.name!r} has its weights in {checkpoint!r}, and its scorer {spec.scorer!r} read none of them from "
            "the folder that locate() returns; its plugin must do that, or give the scorer a method identity() with "
            "the digest of its files"
        )
    return digest_of(data)


def digest_of(data: Mapping[str, Any]) -> str:
    """The sha256 of plain data."""
    import hashlib  # takes 15 ms, and importing rerank_core does not need it

    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
