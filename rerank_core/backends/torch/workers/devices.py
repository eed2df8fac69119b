"""The devices that a user names: checked, and all GPUs listed."""

from __future__ import annotations

import torch

from rerank_core.errors import InputError, short
from rerank_core.options import ALL_GPUS

__all__ = ["device_of", "devices_of"]


def devices_of(names: str) -> list[str]:
    """The devices of the option ``device`` that asks for several, each tried with a tensor.

    Raises:
        InputError: a device that cannot be used, or no GPU at all.
    """
    if names == ALL_GPUS:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise InputError(
                f"device {names!r} cannot be used here: torch finds no CUDA device. Leave it out to use the best device"
            )
        return [f"cuda:{number}" for number in range(count)]
    return [str(device_of(name)) for name in names.split(",")]


def device_of(name: str | None) -> torch.device:
    """A device by its name; by default the best one.

    Raises:
        InputError: a device that cannot be used.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if "," in name or name == ALL_GPUS:
        raise InputError(f"device {short(name)} names several devices, where a module is loaded on one; name one")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # fails on the meta device, whose tensors have no data
    except (RuntimeError, AssertionError, ImportError) as error:
        message = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"device {short(name)} cannot be used here: {message}. Leave it out to use the best device"
        ) from error
    if device.type == "cpu" and device.index:
        raise InputError(f"device {name!r} cannot be used here: there is one CPU device, 'cpu'")
    return device
