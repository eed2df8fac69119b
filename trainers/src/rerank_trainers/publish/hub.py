"""A published folder to the Hugging Face hub."""

from __future__ import annotations

from os import PathLike, fspath

from rerank_trainers.errors import PublishError

__all__ = ["push"]


def push(directory: str | PathLike[str], repo: str, *, private: bool = False) -> str:
    """Upload a folder to ``owner/name``, which is made where it is not there, and return its address.

    The token is that of ``hf auth login`` or HF_TOKEN.

    Raises:
        PublishError: the hub cannot be reached, or refuses. The folder stays.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=fspath(directory), commit_message="Published by rerank-trainers")
    except Exception as error:  # a lost connection is an error of whatever HTTP library the hub uses
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PublishError(f"{fspath(directory)!r} is published here, but not pushed to {repo!r}: {first}") from error
    return f"https://huggingface.co/{repo}"
