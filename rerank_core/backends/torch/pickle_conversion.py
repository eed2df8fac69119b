"""How a folder's pickled weights become safetensors, as lines that its owner runs; a stranger's file is not opened."""

from __future__ import annotations

from pathlib import Path

__all__ = ["conversion"]


def conversion(folder: Path, pickled: str, made: str = "model.safetensors") -> str:
    """Python that writes every tensor of a folder's pickled files, under its own name, beside them; nothing else in the
    folder changes, whatever kind of model it is.

    Args:
        pickled: a pattern of names.
    """
    return (
        "Convert it once; these lines read tensors and run nothing that is in the file:\n"
        "    import pathlib, safetensors.torch, torch\n"
        f"    folder, tensors = pathlib.Path({str(folder)!r}), {{}}\n"
        f"    for file in folder.glob({pickled!r}):\n"
        "        tensors |= torch.load(file, map_location='cpu', weights_only=True)\n"
        "    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}\n"
        f"    safetensors.torch.save_file(tensors, folder / {made!r}, metadata={{'format': 'pt'}})"
    )
