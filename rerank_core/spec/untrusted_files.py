"""What a checkpoint's files may do to their reader. Anybody may have written them: their faults are named as theirs."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rerank_core.errors import CheckpointError, InputError, MissingDependencyError, RerankError, short

__all__ = ["JsonObject", "read_json", "read_json_list", "reading", "reason", "regular_file"]

_T = TypeVar("_T")

# Names of settings, of which a library's message may say that they be set. Here they cannot be, or must not.
_FOREIGN = re.compile(
    r"trust_remote_code|ignore_mismatched_sizes|from_tf|from_flax|force_download|use_safetensors|weights_only|\btoken=|"
    r"\bauth_token|huggingface\.co|huggingface-cli|`?hf auth|device_map|max_memory|offload_folder|RUST_BACKTRACE"
)
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_LONGEST = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonObject(dict[str, Any]):
    """The object in a JSON file, which knows the file, so that a value of the wrong type is named with its place."""

    def __init__(self, values: Mapping[str, Any], file: Path) -> None:
        super().__init__(values)
        self.file = file

    def of(self, name: str, kind: type[_T], default: _T) -> _T:
        """A value of a type; ``default`` where the file does not say, or says null.

        Raises:
            CheckpointError: another type, a number that is no number (NaN, infinity), or text that is no Unicode.
        """
        value = self.get(name)
        if value is None:
            return default
        found: Any = value
        if kind is float and type(value) is int and abs(value) < 2**63:
            found = float(value)
        # True is an int to Python, and NaN a float.
        if not isinstance(found, kind) or (kind is not bool and isinstance(found, bool)) or found != found:
            raise self.wrong(name, f"it must be {_KINDS.get(kind, kind.__name__)}")
        if isinstance(found, float) and abs(found) == float("inf"):
            raise self.wrong(name, "it must be finite")
        return found

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Several strings; None where the file does not say.

        Raises:
            CheckpointError: anything else.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "it must be a list of strings")
        return tuple(value)

    def inner(self, name: str) -> JsonObject:
        """The object under a name; an empty one where the file does not say.

        Raises:
            CheckpointError: anything else.
        """
        return JsonObject(self.of(name, dict, {}), self.file)

    def wrong(self, name: str, must: str) -> CheckpointError:
        """The error of a value that cannot be used."""
        return CheckpointError(f"{self.file}: {name} is {short(self[name])}; {must}")


_KINDS: dict[type, str] = {
    int: "an integer", float: "a number", str: "a string", bool: "true or false", dict: "an object", list: "a list",
}  # fmt: skip


def read_json(path: Path) -> JsonObject:
    """The object in a JSON file.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    data = _parsed(path)
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path} holds {type(data).__name__}, not a JSON object")
    return JsonObject(data, path)


def read_json_list(path: Path) -> list[JsonObject]:
    """The objects in a JSON file that holds a list of them, such as ``modules.json`` of sentence-transformers.

    Raises:
        CheckpointError: missing, not JSON, or not a list of objects.
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
    # JSON can spell half of a surrogate pair; no tokenizer and no file takes it.
    if "\\u" in text and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise CheckpointError(f"{path} holds half of a surrogate pair, which is no Unicode text")
    return data


def regular_file(path: Path) -> Path:
    """``path``, where a regular file is behind it, or nothing at all.

    Raises:
        CheckpointError: a folder, a device, a pipe (whose reader would wait for ever) or a link that leads nowhere.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise CheckpointError(f"{path} is a link that leads nowhere; download the model again") from None
        return path
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is no regular file; a checkpoint's files are")
    return path


@contextmanager
def reading(what: Path | str, failure: str = "cannot be used", *, inputs: bool = True) -> Iterator[None]:
    """Whatever is raised inside because of a folder's files is a CheckpointError that says so.

    Errors of this library pass as they are, and so does a machine without memory.

    Args:
        what, failure: the message's beginning: the folder or file, and what it does.
        inputs: False where nothing inside comes from the caller, so that an InputError too is about the files.
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
        raise CheckpointError(f"{what} {failure}: a native library gave up: {reason(error)}") from error


def _panicked(error: BaseException) -> bool:
    """Whether this is what a library in Rust raises where it would stop; it is no `Exception`, and cannot be
    imported."""
    return type(error).__name__ == "PanicException"


def reason(error: BaseException) -> str:
    """What an error of another library says, without advice that does not hold here, such as to trust remote code."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 -- an error that cannot even be shown
        said = ""
    kept = [part.strip() for part in _SENTENCE.split(said) if part.strip() and not _FOREIGN.search(part)]
    text = " ".join(kept).rstrip(":;, ") or type(error).__name__
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
