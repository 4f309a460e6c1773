"""Opens a problem file, decompresses it, and detects its format."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from mathquarry.data.errors import MathQuarryError

LARGEST = 4 << 30
"""Maximum decompressed size in bytes (our choice)."""
LONGEST_LINE = 64 << 20
"""Maximum length of a line in characters (our choice)."""
_BLOCK = 1 << 20
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
_TABLES = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_OTHERS = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, which only names the file. Fetch the file itself (`git lfs pull`).",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet. Unpack it, or save it as CSV.",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet. Save it as CSV.",
    b"\xfd7zXZ\x00": "compressed with xz. Decompress it (`xz -d`).",
    b"7z\xbc\xaf": "a 7-Zip archive. Unpack it.",
    b"SQLite format 3\x00": "an SQLite database. Export the table as CSV.",
    b"\x80\x04": "a Python pickle, which is not read, since it can run code. Write it as JSON lines.",
    b"\x89HDF": "an HDF5 file. Write it as Parquet.",
    b"Obj\x01": "an Avro file. Write it as Parquet.",
    b"ORC": "an ORC file. Write it as Parquet.",
    b"%PDF": "a PDF.",
}
_SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class NotText(MathQuarryError):
    """A file that is not a table, and not text in its stated encoding."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        tried = f"neither UTF-8 nor {encoding}" if encoding else "not UTF-8"
        super().__init__(
            f"{path} is {tried}. Set problems.encoding to its encoding (for example gb18030, big5, shift_jis, cp1252), "
            "or fetch it again if it is damaged."
        )


def check_encoding(name: str | None) -> None:
    """Raise `MathQuarryError` if a name is not a text encoding."""
    try:
        "".encode("utf-8" if name is None else name)
    except (LookupError, UnicodeError, ValueError):
        raise MathQuarryError(f"problems.encoding: {name!r} is not a text encoding. Use one of Python's names, such as gb18030.") from None


class Unpacked:
    """Opens a file and detects its `kind` from its first bytes: parquet, arrow or text. It can be read several times.

    Raises `OSError` like other files, and `MathQuarryError` if the file is of another kind, damaged, or larger than `LARGEST` bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = ExitStack()
        with path.open("rb") as file:
            head = file.read(64)
        self._packing = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
        self.head = b"".join(self._blocks(1)) if self._packing else head
        for magic, name in _OTHERS.items():
            if self.head.startswith(magic):
                raise MathQuarryError(f"{path} is {name}")
        if self.head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise MathQuarryError(f"{path} is a web page, perhaps of a site that asks to log in. Fetch the file itself.")
        self.kind = next((name for magic, name in _TABLES.items() if self.head.startswith(magic)), "text")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.close()

    @property
    def separator(self) -> str:
        """The column separator, if the file's name implies one; else empty."""
        candidates = next((_SEPARATORS[suffix] for suffix in map(str.lower, self.path.suffixes) if suffix in _SEPARATORS), "")
        line = next(self._blocks(), b"").partition(b"\n")[0] if candidates else b""
        return max(candidates, key=lambda one: line.count(one.encode()), default="")

    def encodings(self, stated: str | None) -> list[str]:
        """Return encodings to try, in order: only that of a byte order mark; or UTF-8, then `stated`."""
        if marked := next((name for mark, name in _MARKS.items() if self.head.startswith(mark)), None):
            return [marked]
        if stated and b"\0" in self.head:  # UTF-16 without its mark is valid UTF-8
            return [stated]
        return ["utf-8", *([stated] if stated else [])]

    def binary(self) -> pa.NativeFile:
        """Return the bytes as a seekable file."""
        if self._packing is None:
            return self._files.enter_context(pa.OSFile(str(self.path)))
        return pa.BufferReader(b"".join(self._blocks()))

    def text(self, coding: str) -> Iterator[str]:
        """Yield the lines, decoded strictly, in parts if they are longer than `LONGEST_LINE`. Raises `UnicodeDecodeError`."""
        file = io.TextIOWrapper(io.BufferedReader(_Stream(self._blocks())), encoding=coding)
        return iter(lambda: file.readline(LONGEST_LINE + 1), "")

    def _blocks(self, most: int | None = None) -> Iterator[bytes]:
        read = number = 0
        file = self._files.enter_context(self.path.open("rb"))
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), self._packing) if self._packing else file
        try:
            while (most is None or number < most) and (block := stream.read(_BLOCK)):
                yield block
                number += 1
                read += len(block)
                if read > LARGEST:
                    raise MathQuarryError(f"{self.path} decompresses to more than {LARGEST:,} bytes. Split it, and list the parts.")
        except OSError as error:
            if error.errno is not None:
                raise
            raise MathQuarryError(f"{self.path} is damaged after {read:,} bytes: {error}. Fetch it again.") from None


class _Stream(io.RawIOBase):
    """Presents blocks as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._ready = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        self._ready = self._ready or next(self._blocks, b"")
        found, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)
