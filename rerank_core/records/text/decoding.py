"""From bytes to text: which encoding it is, and lines that know their number."""

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

# Characters that one record may have: what a compressed stream unpacks to has no other bound.
MAX_RECORD_CHARS = 1 << 26

# A byte order mark, decoded; where files were joined there is one inside.
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

_BLOCK = 1 << 18
# Text is searched this far for its first character beyond ASCII, which tells the encoding.
_MAX_SEARCHED = 1 << 26
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
# Of UTF-16 without a mark, Windows writes the little-endian one; GB18030 has all characters of the older two.
_CODECS_USED = {"utf-8-sig": "utf-8", "utf-32": "utf-32-le", "gb2312": "gb18030", "gbk": "gb18030"}
# So many characters beyond ASCII make a guess at GB18030 safe.
_MIN_CHARACTERS = 12


def checked_encoding(name: str) -> str:
    """The codec of an encoding's name, as Python calls it.

    Raises:
        InputError: no text encoding that Python knows.
    """
    try:
        found = codecs.lookup(name).name
        # Codecs that are no encodings of texts fail here, and so does that of domain names.
        "".encode(found)
        b"a".decode(found, "replace")
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"encoding is {short(name)}, which Python does not know; such are utf-8, utf-16, gb18030, big5, shift_jis, "
            "euc-kr, cp1252"
        ) from error
    return found


def encoding_of_bytes(head: bytes, encoding: str | None, name: str) -> str | None:
    """The encoding of a text that begins with these bytes; None where they are all ASCII and any may follow.

    A byte order mark says it, and so do the NUL bytes of UTF-16 without one. What is not UTF-8 is GB18030 where nearly
    all its characters are among the 3,755 that Chinese is mostly written with. Anything else is taken for UTF-8, and
    fails at its first byte that is none, where the encoding is asked for.

    Args:
        encoding: what the caller says; a byte order mark is believed more.

    Raises:
        InputError: bytes that are no text.
    """
    marked = next((found for mark, found in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    if encoding is not None:
        said = checked_encoding(encoding)
        return (_utf16_without_mark(head) or "utf-16-le") if said == "utf-16" else _CODECS_USED.get(said, said)
    if b"\0" in head:
        wide = _utf16_without_mark(head)
        if wide is not None:
            return wide
        if head.count(0) > len(head) // 20 or not _decodes(head, "utf-8"):
            raise InputError(f"{name!r} holds NUL bytes, so it is no text; name text files, or say its encoding")
    if head.isascii():
        return None
    if not _decodes(head, "utf-8") and _is_chinese(head):
        import logging

        logging.getLogger("rerank_core").warning(
            "%s is no UTF-8, and is read as GB18030; if it is another, say it with --encoding", name
        )
        return "gb18030"
    return "utf-8"


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether bytes are of an encoding; the last character may be cut off."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(head: bytes) -> str | None:
    """UTF-16 without a mark: its ASCII characters have their NULs on one side."""
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
    # Korean in its own encoding fills the first half of the same rows, ordered by sound, and never the second.
    second = sum(len(pair) == 2 and 0xC9 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    return len(pairs) >= _MIN_CHARACTERS and common + punctuation >= 0.9 * len(pairs) and second >= 0.15 * common


def encoding_of_source(source: Source, encoding: str | None) -> str:
    """The encoding of all of a source, of which as much is read as it takes to see a character beyond ASCII.

    Raises:
        InputError: as `encoding_of_bytes`.
    """
    found, searched = encoding_of_bytes(source.head, encoding, source.name), 0
    while found is None and searched < _MAX_SEARCHED and (block := source.stream.read(_BLOCK)):
        searched += len(block)
        found = encoding_of_bytes(block, encoding, source.name)
    return found or "utf-8"


def decoded_pieces(source: Source, encoding: str | None = None, errors: str = "strict") -> Iterator[str]:
    """The text of a source in pieces, without its byte order mark.

    Raises:
        InputError: bytes that are not of the encoding, with their line.
    """
    name = source.name
    chosen = encoding_of_bytes(source.head, encoding, name)
    decoder = None if chosen is None else codecs.getincrementaldecoder(chosen)(errors)
    line, first = 1, True
    while True:
        block = source.stream.read(_BLOCK)
        if decoder is None and not block.isascii():
            chosen = encoding_of_bytes(block, encoding, name) or "utf-8"
            decoder = codecs.getincrementaldecoder(chosen)(errors)
        try:
            text = block.decode("ascii") if decoder is None else decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise _undecodable(error, str(chosen), line, name) from error
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
        f"{name}:{line}: {byte} is not {encoding.upper()}; if the text is of another encoding, say which with "
        "--encoding, for example gb18030, big5, shift_jis or cp1252"
    )


def numbered_lines(pieces: Iterable[str], name: str) -> Iterator[tuple[int, str]]:
    """``(number, line)`` of a text, line feeds included.

    Only a line feed ends a line, since JSON strings may hold the other separators that `str.splitlines` knows; in a
    text that has carriage returns and begins without any line feed, as old Macs wrote it, carriage returns do.

    Raises:
        InputError: a line longer than `MAX_RECORD_CHARS`.
    """
    number, size, ends = 1, 0, None
    left: list[str] = []
    for piece in pieces:
        if ends is None and ("\n" in piece or "\r" in piece[:-1]):
            ends = "\n" if "\n" in piece else "\r"
        if ends == "\r":
            piece = piece.replace("\r", "\n")
        start = 0
        while (end := piece.find("\n", start)) >= 0:
            yield number, "".join([*left, piece[start : end + 1]])
            number, left, size, start = number + 1, [], 0, end + 1
        left.append(piece[start:])
        size += len(piece) - start
        if size > MAX_RECORD_CHARS:
            raise InputError(
                f"{name}:{number}: the line is longer than {MAX_RECORD_CHARS:,} characters; no record is so long"
            )
    if size:
        yield number, "".join(left)
