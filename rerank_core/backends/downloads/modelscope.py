"""ModelScope, through its own library (the package modelscope-hub) and cache; MODELSCOPE_ENDPOINT names another server.

A branch has one folder in the cache, in which the library replaces the files that have changed. It deletes none, and
does not record which files a revision has. Two rules make up for that: the weights are fetched last, so that a folder
with weights has the files that explain them, and a folder with a file of an earlier revision is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from rerank_core.backends.downloads.files import PICKLED, is_wanted
from rerank_core.errors import CheckpointError, MissingDependencyError, RerankError, short
from rerank_core.spec.hub_or_folder import SUFFIX, Remote

__all__ = ["download"]


def download(model: Remote, *, revision: str | None, offline: bool, pickled: bool) -> Path:
    """The folder of a model's files, or the path of its one file, in ModelScope's cache.

    Arguments and errors are those of `rerank_core.backends.locate.fetch`.
    """
    with _errors_of(model.name, revision, offline) as api:
        if offline:
            return _cached(api, model, revision)
        listed = [file for file in api.list_repo_files(model.id, "model", revision=revision) if not file.is_dir]
        for file in listed:
            _check_path(file.path, model)
        if model.file is not None:
            wanted = [file for file in listed if file.path == model.file]
        else:
            wanted = [file for file in listed if is_wanted(file.path, pickled=pickled)]
        if not wanted:
            files = "no such file" if model.file is not None else "none of a model's files"
            raise CheckpointError(f"{model.name!r}: the repository has {files}; it has {len(listed)} others")
        folder = Path()
        for weights in (False, True):
            part = [_entry(file) for file in wanted if _is_weights(file.path) is weights]
            if part:
                bars = _bars() if weights else []
                folder = api.download_repo(
                    model.id, "model", revision=revision, file_list=part, progress_callbacks=bars
                )
    if model.file is not None:
        return folder / model.file
    _check_leftovers(folder, {file.path for file in listed}, model, pickled)
    return folder


def _bars() -> list[Any]:
    """A bar of bytes for each file; by itself the library shows none for a large file."""
    from modelscope_hub import TqdmCallback

    return [TqdmCallback]


def _cached(api: Any, model: Remote, revision: str | None) -> Path:
    """The files in the cache.

    Raises:
        CheckpointError: the folder is one that earlier versions of the library made, which names no revision.
    """
    if model.file is not None:
        path: Path = api.download_file(model.id, "model", model.file, revision=revision, local_files_only=True)
        folder = path.parents[len(PurePosixPath(model.file).parts) - 1]
    else:
        path = folder = api.download_repo(model.id, "model", revision=revision, local_files_only=True)
    if revision is not None and folder.name != revision:
        raise CheckpointError(
            f"{model.name!r} at revision {revision!r} was not found in ModelScope's cache (offline=True): {folder} is "
            "of an earlier version of the library and names no revision. Delete it, or leave revision out"
        )
    return path


def _entry(file: Any) -> dict[str, Any]:
    """A listed file as `download_repo` takes it. The size 0 may also mean that the server does not know it."""
    return {"Path": file.path, "Sha256": file.sha256, "Size": file.size or None}


def _is_weights(path: str) -> bool:
    return path.endswith((".safetensors", PICKLED, SUFFIX))


def _check_path(path: str, model: Remote) -> None:
    """Refuse a path of the server that would be written outside the cache's folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
        raise CheckpointError(f"{model.name!r} lists a file {short(path)}, which is not inside its folder")


def _check_leftovers(folder: Path, listed: set[str], model: Remote, pickled: bool) -> None:
    """Refuse files that the revision does not have, since they would be read."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))  # the library's own notes
        if name not in listed and not hidden and is_wanted(name, pickled=pickled) and path.is_file():
            raise CheckpointError(
                f"{str(path)!r} is not part of {model.name!r} any more: it is left from an earlier revision and would "
                "be read with the others. Delete it"
            )


@contextmanager
def _errors_of(name: str, revision: str | None, offline: bool) -> Iterator[Any]:
    """ModelScope's client; its errors about a model or file of this name become CheckpointErrors."""
    try:
        import modelscope_hub
        from modelscope_hub import errors
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{name!r} is on ModelScope, which needs {error.name!r}: pip install 'rerank-core[modelscope]'"
        ) from error
    site = modelscope_hub.get_default_config().endpoint
    try:
        yield modelscope_hub.HubApi()
    except RerankError:
        raise
    except Exception as error:  # a lost connection raises an error of the HTTP library
        at = repr(name) if revision is None else f"{name!r} at revision {revision!r}"
        if offline:
            failed = "was not found in ModelScope's cache (offline=True)"
        elif isinstance(error, errors.NotExistError):
            failed = f"was not found on {site}"
        elif isinstance(error, (errors.AuthenticationError, errors.PermissionDeniedError)):
            failed = f"may not be read on {site}: give a token of an account that may (MODELSCOPE_API_TOKEN)"
        else:
            failed = f"cannot be downloaded from {site}"
        causes = [error, *getattr(error, "failed_files", {}).values()]
        said = "; ".join(" ".join(str(cause).split()) or type(cause).__name__ for cause in causes[:2])
        raise CheckpointError(f"{at} {failed}: {said}") from error
