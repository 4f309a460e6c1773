"""Frames between client, server and worker: a length (4 bytes, little-endian) and that many bytes of JSON."""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTH = struct.Struct("<I")

MAX_FRAME = 1 << 20
"""Most bytes of a request; longer programs are refused."""
MAX_REPLY = 1 << 22
"""Most bytes of a result: `Limits.result_bytes` for the largest limits that a config allows."""


class BrokenFrameError(ValueError):
    """Bytes that are not a frame of this protocol."""


def pack(value: Any, most: int = MAX_FRAME) -> bytes:
    """`value` as a frame. Raises `BrokenFrameError` when it has more than `most` bytes."""
    content = json.dumps(value).encode()
    if len(content) > most:
        raise BrokenFrameError(f"a message of {len(content)} bytes; at most {most} are allowed")
    return LENGTH.pack(len(content)) + content


def content_length(head: bytes, most: int = MAX_FRAME) -> int:
    """Number of bytes after a frame's first four. Raises `BrokenFrameError` if it exceeds `most`."""
    (length,) = LENGTH.unpack(head)
    if length > most:
        raise BrokenFrameError(f"a message announces {length} bytes; at most {most} are allowed")
    return int(length)


def unpack(content: bytes) -> dict[str, Any]:
    """The object in a frame's content. Raises `BrokenFrameError` for anything but a JSON object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BrokenFrameError(f"a message is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BrokenFrameError("a message is not a JSON object")
    return value
