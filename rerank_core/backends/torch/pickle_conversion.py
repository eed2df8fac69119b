"""Instructions for an error message: Python code that converts a folder's pickled weights to safetensors."""

from __future__ import annotations

from pathlib import Path

__all__ = ["conversion_code"]


def conversion_code(folder: Path, pickled: str, target: str = "model.safetensors") -> str:
    """Python code for the user to run. It writes all tensors of the pickled files to ``target`` in the same folder,
    under their names, for every kind of model, and changes no other file.

    Args:
        pickled: a glob pattern of file names.
    """
    return (
        "Convert it once; this code reads tensors and runs no code from the file:\n"
        "    import pathlib, safetensors.torch, torch\n"
        f"    folder, tensors = pathlib.Path({str(folder)!r}), {{}}\n"
        f"    for file in folder.glob({pickled!r}):\n"
        "        tensors |= torch.load(file, map_location='cpu', weights_only=True)\n"
        "    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}\n"
        f"    safetensors.torch.save_file(tensors, folder / {target!r}, metadata={{'format': 'pt'}})"
    )
