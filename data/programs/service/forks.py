"""The processes that run one dialogue each, and the fork server that starts them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from contextlib import suppress
from typing import Any

from .limits import Limits
from .wire import LENGTH, BrokenFrameError, content_length, pack, unpack

CHUNK = 1 << 16


class ForkServer:
    """The server's view of the fork server. Keeps workers in reserve, so that forking overlaps with running programs."""

    def __init__(self, channel: socket.socket, limits: Limits) -> None:
        self._channel, self._limits = channel, limits
        self._asked: deque[tuple[asyncio.Future[Worker], socket.socket, int]] = deque()
        self._reserve: deque[asyncio.Future[Worker]] = deque()
        self._workers: dict[int, Worker] = {}
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._on_message)
        for _ in range(limits.running):
            self._ask()

    async def fork(self) -> Worker:
        """A fresh worker. Raises `OSError` if the system has no process or descriptor for it."""
        self._ask()
        return await self._reserve.popleft()

    def _ask(self) -> None:
        control, their_control = socket.socketpair()
        output, their_output = os.pipe()
        try:
            socket.send_fds(self._channel, [b"fork"], [their_control.fileno(), their_output])
        finally:
            their_control.close()
            os.close(their_output)
        forked: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._asked.append((forked, control, output))
        self._reserve.append(forked)

    def _on_message(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._channel, 64, 1)
        if not message:
            os._exit(1)  # there is no service without it; the process that started us notices our end
        kind, pid, *status = message.split()
        if kind == b"forked":
            forked, control, output = self._asked.popleft()
            self._workers[int(pid)] = worker = Worker(int(pid), descriptors[0], control, output, self._limits)
            forked.set_result(worker)
        elif kind == b"failed":
            forked, control, output = self._asked.popleft()
            control.close()
            os.close(output)
            forked.set_exception(OSError(int(pid), os.strerror(int(pid))))
        else:
            self._workers.pop(int(pid)).exited.set_result(int(status[0]))


class Worker:
    """The server's view of a worker."""

    def __init__(self, pid: int, pidfd: int, control: socket.socket, output: int, limits: Limits) -> None:
        self.pid, self.pidfd, self._control, self._output, self._limits = pid, pidfd, control, output, limits
        self.held = 0
        self.robbed = False
        """Whether it was ended between its blocks because of its memory."""
        self._printed = bytearray()
        self._printed_bytes = 0
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended = False
        self._closed = False
        control.setblocking(False)
        os.set_blocking(output, False)

    async def run(self, program: str) -> dict[str, Any]:
        """The result of one block. Afterwards the worker is stopped until the next block, or has `ended`."""
        loop = asyncio.get_running_loop()
        self._printed, self._printed_bytes = bytearray(), 0
        value: str | None = None
        error: str | None = None
        timed_out = False
        loop.add_reader(self._output, self._on_output)
        try:
            value, error = await asyncio.wait_for(self._ask(program), self._limits.seconds)
            self._signal(signal.SIGSTOP)  # nothing runs between blocks
        except TimeoutError:
            timed_out = True
            await self._kill()
            error = f"TimeoutError: stopped after {self._limits.seconds:g} seconds"
        except (BrokenFrameError, OSError) as broken:
            error = _ending(await self._kill(), broken if isinstance(broken, BadReplyError) else None)
        finally:
            loop.remove_reader(self._output)
        self._on_output()  # everything it wrote before replying or ending is in the pipe by now
        if self.ended or self.exited.done():
            await self.end()
        return {
            "stdout": self._printed.decode("utf-8", "replace"),
            "value": value,
            "error": error,
            "timed_out": timed_out,
            "killed": self.ended,
            "truncated": self._printed_bytes > len(self._printed),
        }

    async def end(self) -> None:
        """Kill it if it is alive; returns when it is gone and its descriptors are closed."""
        if self._closed:
            return
        try:
            await self._kill()
        finally:
            self._close()

    async def _ask(self, program: str) -> tuple[str | None, str | None]:
        """Value and error. Raises `BrokenFrameError` for an invalid or too long reply, and `OSError`."""
        loop = asyncio.get_running_loop()
        self._signal(signal.SIGCONT)
        await loop.sock_sendall(self._control, pack({"program": program}))
        head = await self._receive(LENGTH.size)
        try:
            length = content_length(head, self._limits.reply_bytes)
        except BrokenFrameError as error:
            raise BadReplyError(str(error)) from None
        content = await self._receive(length)
        try:
            reply = unpack(content)
        except BrokenFrameError as error:
            raise BadReplyError(str(error)) from None
        return self._text(reply, "value"), self._text(reply, "error")

    def _text(self, reply: dict[str, Any], name: str) -> str | None:
        value = reply.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise BadReplyError(f"{name} is no text")
        if len(value) > self._limits.value_characters:
            raise BadReplyError(f"{name} has {len(value)} characters; at most {self._limits.value_characters} are allowed")
        return value

    async def _receive(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            part = await asyncio.get_running_loop().sock_recv(self._control, count - len(content))
            if not part:
                raise BrokenFrameError("it ended")
            content += part
        return bytes(content)

    def _on_output(self) -> None:
        try:
            while part := os.read(self._output, CHUNK):
                self._printed += part[: self._limits.output_bytes - len(self._printed)]
                self._printed_bytes += len(part)
                if self._printed_bytes > self._limits.flood_bytes:
                    self._signal(signal.SIGKILL)
                    return
                if len(part) < CHUNK:
                    return  # let other workers be read
            asyncio.get_running_loop().remove_reader(self._output)
        except BlockingIOError:
            return

    async def _kill(self) -> int:
        """Kill it and wait until it is gone. Returns its exit status, negative for a signal."""
        self.ended = True
        self._signal(signal.SIGKILL)
        return await asyncio.shield(self.exited)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def _close(self) -> None:
        self._closed = True  # a descriptor's number is soon another worker's
        self._control.close()
        os.close(self._output)
        os.close(self.pidfd)


class BadReplyError(BrokenFrameError):
    """The worker's reply has the wrong content: the program wrote to the descriptor itself."""


def _ending(status: int, broken: BrokenFrameError | None) -> str:
    """The message about a process that did not answer, from its exit status."""
    if broken is not None:
        return f"the program's process was killed for its reply: {broken}"
    if status >= 0:
        return f"the program's process exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    return f"the program's process was killed by {name}"
