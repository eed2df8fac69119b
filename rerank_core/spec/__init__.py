"""What a plugin author writes: `ModelSpec` = `Template` + `Head` + limits. Plain frozen data."""

from rerank_core.spec.compat import PROFILES, CompatProfile, CompatRules
from rerank_core.spec.head import Head, HeadKind
from rerank_core.spec.layer_options import layer_options
from rerank_core.spec.model_option import ModelOption
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.template import Template
from rerank_core.spec.token_vectors import TokenVectors

__all__ = [
    "PROFILES",
    "CompatProfile",
    "CompatRules",
    "Head",
    "HeadKind",
    "ModelOption",
    "ModelSpec",
    "Template",
    "TokenVectors",
    "layer_options",
]
