"""Writes a model whose weights are in a format of its own as a folder in the usual form, from which any kind starts."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rerank_core import ModelSpec
from rerank_core.backends import build
from rerank_core.backends.torch import training_module
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.options import Options

__all__ = ["unpacked"]

# Roles of special tokens by their spelling in BERT's and RoBERTa's vocabularies.
_ROLES = {
    "pad_token": ("<pad>", "[PAD]"),
    "cls_token": ("<s>", "[CLS]"),
    "sep_token": ("</s>", "[SEP]"),
    "unk_token": ("<unk>", "[UNK]"),
    "mask_token": ("<mask>", "[MASK]"),
}


# Folders of this process, by the checkpoint of their model.
_folders: dict[str, Path] = {}


def unpacked(spec: ModelSpec) -> Path:
    """A folder of config.json, safetensors in float32 and tokenizer.json with the encoder of a named model, as its
    plugin loads it. The folder is deleted when the process ends.

    Raises:
        CheckpointError: the model cannot be loaded.
        InputError: it reads query and document together, so that its plugin's code cannot be replaced.
    """
    if spec.checkpoint in _folders:
        return _folders[spec.checkpoint]
    scorer = build(spec, Options.of(spec, {"device": "cpu", "dtype": "float32"}))
    assert isinstance(scorer, TorchScorer)
    raw = scorer.tokenizer.raw
    module: Any = training_module(scorer)
    folder = Path(tempfile.mkdtemp(prefix="rerank-trainers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with quiet():
        module.save_pretrained(str(folder))
        _tokenizer(raw, spec).save_pretrained(str(folder))
    _folders[spec.checkpoint] = folder
    return folder


def _tokenizer(raw: Any, spec: ModelSpec) -> Any:
    from transformers import PreTrainedTokenizerFast

    roles = {
        role: next((word for word in spellings if raw.token_to_id(word) is not None), None)
        for role, spellings in _ROLES.items()
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=spec.max_length,
        **{role: word for role, word in roles.items() if word is not None},
    )
