"""The process of one dialogue: runs its blocks one after another in one namespace, like a notebook.

The program can write to its output just as this file can, since both are one process; the server trusts none of it.
"""

from __future__ import annotations

import ast
import io
import os
import sys
import traceback
from _sitebuiltins import Quitter
from contextlib import suppress
from typing import Any, NoReturn

from .wire import LENGTH, MAX_REPLY, pack, unpack

CONTROL = 3
"""File descriptor for incoming blocks and outgoing replies."""
PROGRAM = "<program>"


def serve(value_characters: int) -> NoReturn:
    """Answer blocks until the server closes the connection."""
    # `site`, which is not imported here, normally provides these two.
    leave = {name: Quitter(name, "Ctrl-D (i.e. EOF)") for name in ("exit", "quit")}
    namespace: dict[str, Any] = {"__name__": "__main__", **leave}
    sys.set_int_max_str_digits(0)  # time and output are limited anyway
    try:
        while head := _read(LENGTH.size):
            request = unpack(_read(*LENGTH.unpack(head)))
            value, error = run_block(request["program"], namespace)
            _write(pack({"value": _cut(value, value_characters), "error": _cut(error, value_characters)}, MAX_REPLY))
    finally:
        os._exit(0)


def run_block(program: str, namespace: dict[str, Any]) -> tuple[str | None, str | None]:
    """`repr` of the last statement's value, if it is an expression that has one, and the exception, if any."""
    # Line by line, so that output printed before a kill has been sent.
    output = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
    sys.stdout = stream = io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)
    try:
        return _run(program, namespace), None
    except SystemExit as request:
        return None, None if request.code in (None, 0) else f"SystemExit: {request.code}"
    except BaseException as error:
        return None, traceback.format_exception_only(error)[-1].strip()
    finally:
        with suppress(OSError, ValueError):  # the program may have closed it
            stream.flush()


def _run(program: str, namespace: dict[str, Any]) -> str | None:
    tree = ast.parse(program, PROGRAM)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, PROGRAM, "exec", dont_inherit=True), namespace)
        return None
    del tree.body[-1]
    exec(compile(tree, PROGRAM, "exec", dont_inherit=True), namespace)
    value = eval(compile(ast.Expression(last.value), PROGRAM, "eval", dont_inherit=True), namespace)
    return None if value is None else repr(value)


def _cut(text: str | None, characters: int) -> str | None:
    return text if text is None else text[:characters]


def _read(count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = os.read(CONTROL, count - len(content))
        if not part:
            return b""
        content += part
    return content


def _write(content: bytes) -> None:
    while content:
        content = content[os.write(CONTROL, content) :]
