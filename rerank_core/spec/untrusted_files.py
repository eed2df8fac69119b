"""Safe reading of a checkpoint's files, which are untrusted: a fault in them is raised as a CheckpointError."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rerank_core.errors import CheckpointError, InputError, MissingDependencyError, RerankError, short

__all__ = [
    "JsonObject",
    "optional_json",
    "read_json",
    "read_json_list",
    "reading",
    "reason",
    "regular_file",
    "sha256_of",
]

_T = TypeVar("_T")

# Settings that another library's message may recommend and that this library does not have or does not allow.
_OTHER_SETTINGS = re.compile(
    r"trust_remote_code|ignore_mismatched_sizes|from_tf|from_flax|force_download|use_safetensors|weights_only|\btoken=|"
    r"\bauth_token|huggingface\.co|huggingface-cli|`?hf auth|device_map|max_memory|offload_folder|RUST_BACKTRACE"
)
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_MESSAGE_CHARACTERS = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonObject(dict[str, Any]):
    """The object in a JSON file; errors about its values name the file and the key."""

    def __init__(self, values: Mapping[str, Any], file: Path) -> None:
        super().__init__(values)
        self.file = file

    def of(self, name: str, kind: type[_T], default: _T) -> _T:
        """The value of a key, checked to be of type ``kind``; ``default`` where the key is missing or null.

        Raises:
            CheckpointError: the value has another type, or is NaN or infinite.
        """
        value = self.get(name)
        if value is None:
            return default
        checked: Any = value
        if kind is float and type(value) is int and abs(value) < 2**63:
            checked = float(value)
        # In Python True is an int, and NaN is a float that differs from itself.
        if not isinstance(checked, kind) or (kind is not bool and isinstance(checked, bool)) or checked != checked:
            raise self.wrong(name, f"it must be {_KINDS.get(kind, kind.__name__)}")
        if isinstance(checked, float) and abs(checked) == float("inf"):
            raise self.wrong(name, "it must be finite")
        return checked

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings as a tuple; None where the key is missing.

        Raises:
            CheckpointError: the value is no list of strings.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "it must be a list of strings")
        return tuple(value)

    def inner(self, name: str) -> JsonObject:
        """The object under a key; an empty one where the key is missing.

        Raises:
            CheckpointError: the value is no object.
        """
        return JsonObject(self.of(name, dict, {}), self.file)

    def wrong(self, name: str, must: str) -> CheckpointError:
        """The error for an invalid value; ``must`` says which values are valid."""
        return CheckpointError(f"{self.file}: {name} is {short(self[name])}; {must}")


_KINDS: dict[type, str] = {
    int: "an integer", float: "a number", str: "a string", bool: "true or false", dict: "an object", list: "a list",
}  # fmt: skip


def read_json(path: Path) -> JsonObject:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing, is no JSON, holds no object, or holds text that is no Unicode.
    """
    data = _parsed(path)
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path} holds {type(data).__name__}, not a JSON object")
    return JsonObject(data, path)


def optional_json(path: Path) -> JsonObject:
    """The object in a JSON file; an empty one where there is no such file. A broken link is an error.

    Raises:
        CheckpointError: see `read_json`.
    """
    return read_json(path) if os.path.lexists(path) else JsonObject({}, path)


def read_json_list(path: Path) -> list[JsonObject]:
    """The objects in a JSON file that holds a list of them, such as ``modules.json`` of sentence-transformers.

    Raises:
        CheckpointError: the file is missing, is no JSON, or holds no list of objects.
    """
    data = _parsed(path)
    if not isinstance(data, list):
        raise CheckpointError(f"{path} holds {type(data).__name__}, not a list of JSON objects")
    for item in data:
        if not isinstance(item, Mapping):
            raise CheckpointError(f"{path} holds {short(item)} in its list, which is not a JSON object")
    return [JsonObject(item, path) for item in data]


def _parsed(path: Path) -> Any:
    try:
        text = regular_file(path).read_text(encoding="utf-8")
        data = json.loads(text)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; a checkpoint directory needs it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {reason(error)}") from error
    # JSON can encode half of a surrogate pair, which no tokenizer accepts and UTF-8 cannot encode.
    if "\\u" in text and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise CheckpointError(f"{path} holds half of a surrogate pair, which is no Unicode text")
    return data


def regular_file(path: Path) -> Path:
    """``path``, checked to be a regular file or not to exist.

    Raises:
        CheckpointError: it is a folder, a device, a pipe (whose reader would wait forever) or a broken link.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise CheckpointError(f"{path} is a broken link; download the model again") from None
        return path
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is no regular file; a checkpoint's files are")
    return path


@contextmanager
def reading(what: Path | str, failure: str = "cannot be used", *, inputs: bool = True) -> Iterator[None]:
    """Turn the errors that a folder's files cause inside the block into CheckpointErrors that name the folder.

    Errors of this library and out-of-memory errors pass unchanged.

    Args:
        what, failure: the beginning of the message: the folder or file, and the failure.
        inputs: False where no value inside the block comes from the caller, so that an InputError is about the files
            and becomes a CheckpointError too.
    """
    try:
        yield
    except InputError as error:
        if inputs:
            raise
        raise CheckpointError(f"{what}: {error}") from error
    except (RerankError, MemoryError):
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} {failure} without a package that is not installed here: {reason(error)}"
        ) from error
    except Exception as error:
        if "OutOfMemory" in type(error).__name__:  # torch's, without importing torch
            raise
        raise CheckpointError(f"{what} {failure}: {type(error).__name__}: {reason(error)}") from error
    except BaseException as error:
        if not _panicked(error):
            raise
        raise CheckpointError(f"{what} {failure}: a native library aborted: {reason(error)}") from error


def _panicked(error: BaseException) -> bool:
    """Whether this is the panic of a library written in Rust; its class is no `Exception` and cannot be imported."""
    return type(error).__name__ == "PanicException"


def reason(error: BaseException) -> str:
    """The message of another library's error, without advice that does not apply here, such as to trust remote code."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 -- the error's own __str__ raises
        message = ""
    kept = [part.strip() for part in _SENTENCE.split(message) if part.strip() and not _OTHER_SETTINGS.search(part)]
    text = " ".join(kept).rstrip(":;, ") or type(error).__name__
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _MESSAGE_CHARACTERS else text[:_MESSAGE_CHARACTERS] + " …"


def sha256_of(path: Path) -> str:
    """The hex digest of a file."""
    import hashlib  # takes 10 ms, and importing rerank_core does not need it

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
