"""Which GGUF file a path means: the file itself, or the only one of a folder without other weights."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.hub_or_folder import SUFFIX

__all__ = ["gguf_of"]

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_OTHER_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def gguf_of(path: Path) -> Path | None:
    """The GGUF file that a path means; None where it means something else.

    A folder means its only ``.gguf`` file. Weights in safetensors or pickled files beside it are used instead of it.

    Raises:
        CheckpointError: a folder with several ``.gguf`` files, or a file that is a part of a split one.
    """
    if path.suffix == SUFFIX and path.is_file():
        return _whole(path)
    if not path.is_dir() or any(next(path.glob(pattern), None) for pattern in _OTHER_WEIGHTS):
        return None
    files = sorted(file for file in path.glob(f"*{SUFFIX}") if file.is_file())
    if not files:
        return None
    if len(files) > 1 and not all(_PART.search(file.name) for file in files):
        names = ", ".join(file.name for file in files[:5]) + (", …" if len(files) > 5 else "")
        raise CheckpointError(
            f"{str(path)!r} holds {len(files)} GGUF files ({names}); choose one by its path, such as "
            f"{os.path.join(path, files[0].name)!r}"
        )
    return _whole(files[0])


def _whole(file: Path) -> Path:
    if part := _PART.search(file.name):
        raise CheckpointError(
            f"{short(str(file))} is one of {int(part[1])} parts of a split GGUF file, which are not read; join them "
            "with `llama-gguf-split --merge FIRST_PART JOINED.gguf` and give the joined file"
        )
    return file
