"""Which files of a repository a model needs."""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["PICKLED", "UNWANTED", "WANTED", "is_wanted"]

# Configuration, tokenizer, chat templates and safetensors files. `*` also matches `/`, so the modules of
# sentence-transformers, such as 1_Dense/config.json, are among them, and additional_chat_templates/NAME.jinja.
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
# Of late-interaction models: two small files of tensors, and ColBERT's settings.
WANTED += ["colbert_linear.pt", "sparse_linear.pt", "artifact.metadata"]
PICKLED = "pytorch_model.bin"
UNWANTED = ["onnx/*", "openvino/*"]


def is_wanted(path: str, *, pickled: bool) -> bool:
    """Whether a model needs a file of its repository, by the rules of the hub's own library.

    Args:
        path: the file's path in the repository, with ``/`` between folders.
        pickled: whether ``pytorch_model.bin`` is needed too.

    >>> [is_wanted(path, pickled=False) for path in ("1_Dense/config.json", "onnx/config.json", "pytorch_model.bin")]
    [True, False, False]
    """
    wanted = [*WANTED, PICKLED] if pickled else WANTED
    return any(fnmatchcase(path, pattern) for pattern in wanted) and not any(
        fnmatchcase(path, pattern) for pattern in UNWANTED
    )
