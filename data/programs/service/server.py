"""The service's front: connections in, programs to workers, limits kept, results out.

One connection is one dialogue. A request is `{"program": str, "keep": bool}`; the reply `{"stdout", "value", "error", "timed_out",
"killed", "truncated"}` or `{"refused": str}`. Blocks of a dialogue share a worker as long as `keep` is true; otherwise the worker is gone
before the reply is sent. A worker that was killed takes the dialogue's variables with it, and the next block starts with none.
"""

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
    """The server's view of the fork server. Keeps workers in reserve, so that forking takes place while another program runs."""

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
        """A worker that has run nothing."""
        self._ask()
        return await self._reserve.popleft()

    def _ask(self) -> None:
        control, their_control = socket.socketpair()
        output, their_output = os.pipe()
        socket.send_fds(self._channel, [b"fork"], [their_control.fileno(), their_output])
        their_control.close()
        os.close(their_output)
        forked: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._asked.append((forked, control, output))
        self._reserve.append(forked)

    def _on_message(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._channel, 64, 1)
        if not message:
            os._exit(1)  # without it there is no service; whoever started us sees that we are gone
        kind, pid, *status = message.split()
        if kind == b"forked":
            forked, control, output = self._asked.popleft()
            self._workers[int(pid)] = worker = Worker(descriptors[0], control, output, self._limits)
            forked.set_result(worker)
        else:
            self._workers.pop(int(pid)).exited.set_result(int(status[0]))


class Worker:
    """The server's view of a worker."""

    def __init__(self, pidfd: int, control: socket.socket, output: int, limits: Limits) -> None:
        self._pidfd, self._control, self._output, self._limits = pidfd, control, output, limits
        self._printed = bytearray()
        self._printed_bytes = 0
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended = False
        control.setblocking(False)
        os.set_blocking(output, False)

    async def run(self, program: str) -> dict[str, Any]:
        """The result of one block. Afterwards the worker stands still until the next, or has `ended`."""
        loop = asyncio.get_running_loop()
        self._printed, self._printed_bytes = bytearray(), 0
        value: str | None = None
        error: str | None = None
        timed_out = False
        loop.add_reader(self._output, self._on_output)
        try:
            reply = await asyncio.wait_for(self._ask(program), self._limits.seconds)
            value, error = _text(reply, "value"), _text(reply, "error")
            self._signal(signal.SIGSTOP)  # nothing runs between blocks
        except TimeoutError:
            timed_out = True
            await self._kill()
            error = f"TimeoutError: stopped after {self._limits.seconds:g} seconds"
        except (BrokenFrameError, OSError):
            error = f"the program's process {_ending(await self._kill())}"
        finally:
            loop.remove_reader(self._output)
        self._on_output()  # what it wrote before it replied or ended is in the pipe by now
        if self.exited.done():
            self._close()
        return {
            "stdout": self._printed.decode("utf-8", "replace"),
            "value": value,
            "error": error,
            "timed_out": timed_out,
            "killed": self.ended,
            "truncated": self._printed_bytes > len(self._printed),
        }

    async def end(self) -> None:
        """Kill it if it is alive; returns when it is gone."""
        if not self.ended:
            await self._kill()
            self._close()

    async def _ask(self, program: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self._signal(signal.SIGCONT)
        await loop.sock_sendall(self._control, pack({"program": program}))
        head = await self._receive(LENGTH.size)
        return unpack(await self._receive(content_length(head)))

    async def _receive(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = await asyncio.get_running_loop().sock_recv(self._control, count - len(content))
            if not part:
                raise BrokenFrameError("it ended")
            content += part
        return content

    def _on_output(self) -> None:
        try:
            while part := os.read(self._output, CHUNK):
                self._printed += part[: self._limits.output_bytes - len(self._printed)]
                self._printed_bytes += len(part)
                if self._printed_bytes > self._limits.flood_bytes:
                    self._signal(signal.SIGKILL)
                    return
                if len(part) < CHUNK:
                    return  # others may have something to say
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
            signal.pidfd_send_signal(self._pidfd, number)

    def _close(self) -> None:
        self._control.close()
        os.close(self._output)
        os.close(self._pidfd)


class Server:
    """Serves dialogues."""

    def __init__(self, forks: ForkServer, limits: Limits) -> None:
        self._forks, self._limits = forks, limits
        self._turns = asyncio.Semaphore(limits.running)
        self._sessions = 0

    async def serve(self, listener: socket.socket) -> None:
        """Serve for ever."""
        server = await asyncio.start_unix_server(self._dialogue, sock=listener, limit=CHUNK, backlog=self._limits.sessions)
        async with server:
            print("ready", flush=True)
            await server.serve_forever()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker: Worker | None = None
        self._sessions += 1
        try:
            while True:
                head = await reader.readexactly(LENGTH.size)
                request = unpack(await reader.readexactly(content_length(head)))
                if self._sessions > self._limits.sessions:
                    writer.write(pack({"refused": f"{self._limits.sessions} dialogues are open, which is the limit"}))
                    return
                async with self._turns:
                    if worker is None or worker.ended:
                        worker = await self._forks.fork()
                    result = await worker.run(request["program"])
                    if not request["keep"]:
                        await worker.end()
                writer.write(pack(result))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done
        finally:
            self._sessions -= 1
            if worker is not None:
                await worker.end()
            writer.close()


async def serve(channel: socket.socket, listener: socket.socket, limits: Limits, with_parent: bool) -> None:
    """Serve for ever, or as long as standard input is open; `channel` leads to a fork server that is ready."""
    if with_parent:
        asyncio.get_running_loop().add_reader(0, os._exit, 0)
    await Server(ForkServer(channel, limits), limits).serve(listener)


def _text(reply: dict[str, Any], name: str) -> str | None:
    value = reply.get(name)
    if value is not None and not isinstance(value, str):
        raise BrokenFrameError(f"{name} is no text")
    return value


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
