"""A model as data, as a plugin author writes it (`ModelSpec`), and functions that read a checkpoint folder.

Plain frozen data; nothing here imports torch. Files of a checkpoint folder are untrusted: read them with
`read_json`, `optional_json`, `read_json_list`, `inside` and `reading`, so that a damaged file is a `CheckpointError`
about the folder.
"""

from rerank_core.spec.compat import CompatProfile, CompatRules
from rerank_core.spec.folders.modules_json import Module, modules_after_transformer
from rerank_core.spec.folders.transformer_settings import TransformerSettings, encoder_settings
from rerank_core.spec.head import Head
from rerank_core.spec.head_options import layer_options
from rerank_core.spec.hub_or_folder import directory_of, model_name_of
from rerank_core.spec.model_option import ModelOption
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.reranker_json import inside, max_length_of
from rerank_core.spec.template import Template
from rerank_core.spec.token_vectors import TokenVectors
from rerank_core.spec.untrusted_files import JsonObject, optional_json, read_json, read_json_list, reading

__all__ = [
    "CompatProfile",
    "CompatRules",
    "Head",
    "JsonObject",
    "ModelOption",
    "ModelSpec",
    "Module",
    "Template",
    "TokenVectors",
    "TransformerSettings",
    "directory_of",
    "encoder_settings",
    "inside",
    "layer_options",
    "max_length_of",
    "model_name_of",
    "modules_after_transformer",
    "optional_json",
    "read_json",
    "read_json_list",
    "reading",
]
