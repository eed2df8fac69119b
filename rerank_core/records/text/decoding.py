"""From bytes to text: detects the encoding, decodes, and numbers the lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from rerank_core.errors import InputError, short
from rerank_core.records.text.streams import Source

__all__ = [
    "BYTE_ORDER_MARK",
    "MAX_RECORD_CHARS",
    "checked_encoding",
    "decoded_pieces",
    "encoding_of_bytes",
    "encoding_of_source",
    "numbered_lines",
]

# Longest record in characters; it bounds the memory that a compressed stream can take.
MAX_RECORD_CHARS = 1 << 26

# A decoded byte order mark; concatenated files have further ones inside.
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

_BLOCK = 1 << 18
# Bytes that are searched for the first non-ASCII byte, from which the encoding is detected.
_MAX_SEARCHED = 1 << 26
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
# Codecs used in place of a named one: GB18030 is a superset of GB2312 and GBK.
_CODEC_REPLACEMENTS = {"utf-8-sig": "utf-8", "utf-32": "utf-32-le", "gb2312": "gb18030", "gbk": "gb18030"}
# Non-ASCII characters that are needed before text is taken for GB18030.
_MIN_CHARACTERS = 12


def checked_encoding(name: str) -> str:
    """Python's canonical name of a text encoding.

    Raises:
        InputError: Python has no text encoding of this name.
    """
    try:
        codec = codecs.lookup(name).name
        # Codecs that do not encode text, such as base64 and idna, fail here.
        "".encode(codec)
        b"a".decode(codec, "replace")
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"encoding is {short(name)}, which Python does not know; use for example utf-8, utf-16, gb18030, "
            "big5, shift_jis, euc-kr or cp1252"
        ) from error
    return codec


def encoding_of_bytes(head: bytes, encoding: str | None, name: str) -> str | None:
    """Detect the encoding of a text from its first bytes; None if all are ASCII, so that it is still unknown.

    In this order: a byte order mark; ``encoding``; the NUL bytes of UTF-16 without a mark; UTF-8 if the bytes decode as
    such; GB18030 if at least 90 % of the non-ASCII characters are Chinese punctuation or among the 3,755 most common
    Chinese characters. Any other text is returned as UTF-8, and decoding it fails at the first invalid byte with a
    message that asks for the encoding.

    Args:
        encoding: the encoding that the caller names; a byte order mark takes precedence.

    Raises:
        InputError: the bytes are binary data, or ``encoding`` is unknown.
    """
    marked = next((codec for mark, codec in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    if encoding is not None:
        codec = checked_encoding(encoding)
        # UTF-16 without a mark is little-endian unless its NUL bytes say otherwise, as Windows writes it.
        return (
            (_utf16_without_mark(head) or "utf-16-le") if codec == "utf-16" else _CODEC_REPLACEMENTS.get(codec, codec)
        )
    if b"\0" in head:
        utf16 = _utf16_without_mark(head)
        if utf16 is not None:
            return utf16
        if head.count(0) > len(head) // 20 or not _decodes(head, "utf-8"):
            raise InputError(
                f"{name!r} holds NUL bytes, so it is not text; give a text file, or name its encoding with --encoding"
            )
    if head.isascii():
        return None
    if not _decodes(head, "utf-8") and _is_chinese(head):
        import logging

        logging.getLogger("rerank_core").warning(
            "%s is not UTF-8 and is read as GB18030; if that is wrong, name its encoding with --encoding", name
        )
        return "gb18030"
    return "utf-8"


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether bytes are valid in an encoding; the last character may be incomplete."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(head: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: ASCII characters have a NUL byte at odd or at even positions only."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    for encoding, here, other in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if here >= 2 and here > 20 * other and here * 50 > len(head) and _decodes(head, encoding):
            return encoding
    return None


def _is_chinese(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(head)
    except UnicodeDecodeError:
        return False
    pairs = [char.encode("gb18030") for char in text if not char.isascii()]
    common = sum(len(pair) == 2 and 0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    punctuation = sum(len(pair) == 2 and pair[0] in (0xA1, 0xA3) and pair[1] >= 0xA1 for pair in pairs)
    # Korean in EUC-KR uses only the first half of the rows of common Chinese characters, so require some of the second.
    second = sum(len(pair) == 2 and 0xC9 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    return len(pairs) >= _MIN_CHARACTERS and common + punctuation >= 0.9 * len(pairs) and second >= 0.15 * common


def encoding_of_source(source: Source, encoding: str | None) -> str:
    """Detect the encoding of a whole source, reading until the first non-ASCII byte; UTF-8 if there is none.

    Raises:
        InputError: as `encoding_of_bytes`.
    """
    codec, searched = encoding_of_bytes(source.head, encoding, source.name), 0
    while codec is None and searched < _MAX_SEARCHED and (block := source.stream.read(_BLOCK)):
        searched += len(block)
        codec = encoding_of_bytes(block, encoding, source.name)
    return codec or "utf-8"


def decoded_pieces(source: Source, encoding: str | None = None, errors: str = "strict") -> Iterator[str]:
    """Yield the text of a source in pieces, without its byte order mark.

    Args:
        errors: error handler of the decoder, as in `codecs`.

    Raises:
        InputError: bytes that are invalid in the encoding, with their line.
    """
    name = source.name
    codec = encoding_of_bytes(source.head, encoding, name)
    decoder = None if codec is None else codecs.getincrementaldecoder(codec)(errors)
    line, first = 1, True
    while True:
        block = source.stream.read(_BLOCK)
        if decoder is None and not block.isascii():
            codec = encoding_of_bytes(block, encoding, name) or "utf-8"
            decoder = codecs.getincrementaldecoder(codec)(errors)
        try:
            text = block.decode("ascii") if decoder is None else decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise _undecodable(error, str(codec), line, name) from error
        if first and text:
            text, first = text.removeprefix(BYTE_ORDER_MARK), False
        line += text.count("\n")
        if text:
            yield text
        if not block:
            return


def _undecodable(error: UnicodeError, encoding: str, line: int, name: str) -> InputError:
    if isinstance(error, UnicodeDecodeError):
        good = error.object[: error.start].decode(encoding, "replace")
        line += good.count("\n")
        byte = f"byte {error.object[error.start]:#04x}"
    else:
        byte = "a byte"
    return InputError(
        f"{name}:{line}: {byte} is not {encoding.upper()}; if the text has another encoding, name it with "
        "--encoding, for example gb18030, big5, shift_jis or cp1252"
    )


def numbered_lines(pieces: Iterable[str], name: str) -> Iterator[tuple[int, str]]:
    """Yield ``(number, line)`` for each line of a text, with its line feed; numbers start at 1.

    Only a line feed ends a line, because JSON strings may contain the other separators of `str.splitlines`. In a
    text that begins with carriage returns and no line feeds, as old Macs wrote it, carriage returns end lines.

    Raises:
        InputError: a line longer than `MAX_RECORD_CHARS`.
    """
    number, size, line_end = 1, 0, None
    unfinished: list[str] = []
    for piece in pieces:
        if line_end is None and ("\n" in piece or "\r" in piece[:-1]):
            line_end = "\n" if "\n" in piece else "\r"
        if line_end == "\r":
            piece = piece.replace("\r", "\n")
        start = 0
        while (end := piece.find("\n", start)) >= 0:
            yield number, "".join([*unfinished, piece[start : end + 1]])
            number, unfinished, size, start = number + 1, [], 0, end + 1
        unfinished.append(piece[start:])
        size += len(piece) - start
        if size > MAX_RECORD_CHARS:
            raise InputError(
                f"{name}:{number}: the line is longer than {MAX_RECORD_CHARS:,} characters, the limit of one record"
            )
    if size:
        yield number, "".join(unfinished)
