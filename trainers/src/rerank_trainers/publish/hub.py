"""Uploads a published folder to the Hugging Face hub."""

from __future__ import annotations

from os import PathLike, fspath

from rerank_trainers.errors import PublishError

__all__ = ["push"]


def push(directory: str | PathLike[str], repo: str, *, private: bool = False) -> str:
    """Upload a folder to ``owner/name``, creating the repository if needed, and return its URL.

    Uses the token of ``hf auth login`` or HF_TOKEN, and the hub that HF_ENDPOINT names.

    Raises:
        PublishError: the hub cannot be reached, or refuses the upload; the local folder stays.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=fspath(directory), commit_message="Published by rerank-trainers")
    except Exception as error:  # a lost connection raises an error of the hub's HTTP library
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PublishError(f"{fspath(directory)!r} is published here, but not pushed to {repo!r}: {first}") from error
    return f"{api.endpoint}/{repo}"
