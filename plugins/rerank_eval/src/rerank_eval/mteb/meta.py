"""mteb's `ModelMeta` of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from rerank_eval.runs.model_run import RunFacts

__all__ = ["model_meta"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LANGUAGES = {"en": "eng-Latn", "zh": "zho-Hans", "ja": "jpn-Jpan", "ko": "kor-Hang"}
_BYTES = {"int8": 1, "float16": 2, "bfloat16": 2}


def model_meta(
    source: str,
    spec: Mapping[str, Any],
    facts: RunFacts,
    fingerprint: str,
    *,
    options: Mapping[str, Any],
    embed_dim: int | None = None,
    experiment: Mapping[str, Any] | None = None,
) -> Any:
    """The metadata. What nobody knows of the model, such as the data that it was trained on, is None.

    Args:
        source: what was given to `load`.
        spec: `ModelSpec.facts`; empty where they are not known.
        fingerprint: `Reranker.fingerprint`, which becomes the revision: results of other weights, or of other options
            that change scores, lie in a folder of their own.
        options: without secrets.
        experiment: settings beside those of the model.
    """
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import Licenses

    hub_id = _hub_id(source, spec, options)
    known = [_LANGUAGES.get(one) for one in spec.get("languages", ())]
    license_name = str(spec.get("license", "")).lower()
    kinds = {"maxsim": "late-interaction", "cosine": "dense", "dot": "dense"}
    similarity = {
        "maxsim": ScoringFunction.MAX_SIM,
        "cosine": ScoringFunction.COSINE,
        "dot": ScoringFunction.DOT_PRODUCT,
    }
    runs_here = facts.device is not None
    size = facts.parameters and facts.parameters * _BYTES.get(facts.dtype or "", 4) / 2**20
    return ModelMeta(
        loader=None,
        loader_kwargs=dict(options),
        name=hub_id or _other_name(source, spec),
        revision=fingerprint,
        release_date=None,
        languages=None if None in known or not known else known,
        n_parameters=facts.parameters,
        memory_usage_mb=size,
        max_tokens=options.get("max_length") or spec.get("max_length"),
        embed_dim=embed_dim,
        license=license_name if license_name in _choices(Licenses) else None,
        open_weights=True if runs_here else None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "Transformers"] if runs_here else [],
        reference=f"https://huggingface.co/{hub_id}" if hub_id else None,
        similarity_fn_name=similarity.get(facts.score_space),
        use_instructions=any(one["name"] == "instruction" for one in spec.get("options", ())),
        training_datasets=None,
        model_type=[kinds.get(facts.score_space, "cross-encoder")],
        modalities=["text"],
        experiment_kwargs=experiment or None,
    )


def _hub_id(source: str, spec: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """The model's id on the hub; None where its weights are from elsewhere."""
    if options.get("checkpoint"):
        return None
    own = str(spec.get("checkpoint", "")) or source
    return own if _HUB_ID.fullmatch(own) and not Path(own).exists() else None


def _other_name(source: str, spec: Mapping[str, Any]) -> str:
    """A name for a model that is not on the hub; mteb wants an organisation and a name."""
    if re.match(r"[./~]", source) or Path(source).is_dir():
        return f"local/{Path(source).expanduser().resolve().name}"
    return f"rerank-core/{spec.get('name') or source}".replace(":", "-")


def _choices(literal: Any) -> set[str]:
    """All strings of a type made of literals."""
    found = set()
    for one in get_args(literal):
        found |= {one} if isinstance(one, str) else _choices(one)
    return found
