"""The hub of Hugging Face, or the mirror that HF_ENDPOINT names, through its own library and cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rerank_core.backends.downloads.files import PICKLED, UNWANTED, WANTED
from rerank_core.errors import CheckpointError, MissingDependencyError
from rerank_core.spec.hub_or_folder import Remote

__all__ = ["download"]

_HUB = "https://huggingface.co"


def download(model: Remote, *, revision: str | None, offline: bool, pickled: bool) -> Path:
    """The folder of a model's files, or the path of its one file, in the hub's cache.

    Arguments and errors are those of `rerank_core.backends.locate.fetch`.
    """
    with _errors_of(model.name, revision, offline) as hub:
        if model.file is not None:
            return Path(hub.hf_hub_download(model.id, model.file, revision=revision, local_files_only=offline))
        return Path(
            hub.snapshot_download(
                model.id,
                revision=revision,
                local_files_only=offline,
                allow_patterns=[*WANTED, PICKLED] if pickled else WANTED,
                ignore_patterns=UNWANTED,
            )
        )


@contextmanager
def _errors_of(name: str, revision: str | None, offline: bool) -> Iterator[Any]:
    """The hub's library; its errors about a model or file of this name become CheckpointErrors."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{name!r} is on the hub, which needs {error.name!r}: pip install 'rerank-core[torch]'"
        ) from error
    try:
        yield huggingface_hub
    except Exception as error:  # a lost connection raises an error of the HTTP library that this version uses
        hub = "on the hub" if constants.ENDPOINT == _HUB else f"on {constants.ENDPOINT} (HF_ENDPOINT)"
        at = repr(name) if revision is None else f"{name!r} at revision {revision!r}"
        absent = (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError, ValueError)
        if offline:
            failed = "was not found in the local cache (offline=True)"
        elif isinstance(error, errors.GatedRepoError):
            failed = f"is gated {hub}: agree to its terms on its page, and give a token (`hf auth login`, or HF_TOKEN)"
        elif isinstance(error, absent) and not isinstance(error, errors.LocalEntryNotFoundError):
            failed = f"was not found {hub}"
        else:
            failed = f"cannot be downloaded {hub.replace('on', 'from', 1)}, and is not in the local cache"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"{at} {failed}: {' '.join(lines[:2]) or type(error).__name__}") from error
