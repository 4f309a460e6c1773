"""The process in which pages are extracted. `Extractor` starts it, feeds it and kills it.

Protocol, on standard input and output: a length (4 bytes, little-endian) and that many bytes. Requests are pages as UTF-8; replies are
`Extracted` as one line of JSON without the text, which follows as UTF-8, or `{"error": ...}`. A reply of length 0 means that the imports
are done. Arguments: seconds per page, bytes of memory, and `careful` or `plain`.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable

from mathquarry.data.extract.html import Extracted, extract
from mathquarry.data.extract.plain import extract_plain

LENGTH = struct.Struct("<I")


def main(seconds: float, memory_bytes: int, extract_page: Callable[[bytes], Extracted]) -> None:
    """Answer requests until standard input closes."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles Ctrl-C, and closes standard input
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills this process; a backup for the caller's timer, in case the caller is gone
    _reply(replies, b"")
    while head := sys.stdin.buffer.read(LENGTH.size):
        page = sys.stdin.buffer.read(*LENGTH.unpack(head))
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 5)
        try:
            found = {**vars(extract_page(page))}
            text = found.pop("text").encode("utf-8", "surrogatepass")
        except Exception as error:  # any failure is reported and counted, and affects only that page
            found, text = {"error": f"{type(error).__name__}: {error}"}, b""
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(replies, json.dumps(found).encode() + b"\n" + text)


def _reply(replies, content: bytes) -> None:  # type: ignore[no-untyped-def]
    replies.write(LENGTH.pack(len(content)) + content)
    replies.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), {"careful": extract, "plain": extract_plain}[sys.argv[3]])
