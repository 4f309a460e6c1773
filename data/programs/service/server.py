"""The service's front: connections in, programs to workers, limits kept, results out.

One connection is one dialogue. A request is `{"program": str, "keep": bool}` (with `"health": true` it waits for no turn); the reply
`{"stdout", "value", "error", "timed_out", "killed", "truncated"}` or `{"refused": str}`. Blocks of a dialogue share a worker as long as
`keep` is true; otherwise the worker is gone before the reply is sent. A worker that was killed takes the dialogue's variables
with it, and the next block starts with none.
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
from .memory import Memory
from .wire import LENGTH, BrokenFrameError, content_length, pack, unpack

CHUNK = 1 << 16
PLACE_SECONDS = 1.0
"""How long a new dialogue waits for one of `Limits.sessions` to end."""


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
        """A worker that has run nothing. Raises `OSError` when the system has no process or no descriptor for it."""
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
            os._exit(1)  # without it there is no service; whoever started us sees that we are gone
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
        """Ended between its blocks, for the memory that it held."""
        self._printed = bytearray()
        self._printed_bytes = 0
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended = False
        self._closed = False
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
            value, error = await asyncio.wait_for(self._ask(program), self._limits.seconds)
            self._signal(signal.SIGSTOP)  # nothing runs between blocks
        except TimeoutError:
            timed_out = True
            await self._kill()
            error = f"TimeoutError: stopped after {self._limits.seconds:g} seconds"
        except (BrokenFrameError, OSError) as broken:
            error = _ending(await self._kill(), broken if isinstance(broken, _BadReplyError) else None)
        finally:
            loop.remove_reader(self._output)
        self._on_output()  # what it wrote before it replied or ended is in the pipe by now
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
        """Value and error. Raises `BrokenFrameError` for a reply that is none, or longer than allowed, and `OSError`."""
        loop = asyncio.get_running_loop()
        self._signal(signal.SIGCONT)
        await loop.sock_sendall(self._control, pack({"program": program}))
        head = await self._receive(LENGTH.size)
        try:
            length = content_length(head, self._limits.reply_bytes)
        except BrokenFrameError as error:
            raise _BadReplyError(str(error)) from None
        content = await self._receive(length)
        try:
            reply = unpack(content)
        except BrokenFrameError as error:
            raise _BadReplyError(str(error)) from None
        return self._text(reply, "value"), self._text(reply, "error")

    def _text(self, reply: dict[str, Any], name: str) -> str | None:
        value = reply.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise _BadReplyError(f"{name} is no text")
        if len(value) > self._limits.value_characters:
            raise _BadReplyError(f"{name} has {len(value)} characters; at most {self._limits.value_characters} are allowed")
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
            signal.pidfd_send_signal(self.pidfd, number)

    def _close(self) -> None:
        self._closed = True  # a descriptor's number is soon another worker's
        self._control.close()
        os.close(self._output)
        os.close(self.pidfd)


class _BadReplyError(BrokenFrameError):
    """The worker answered, but not what a worker answers: the program has written on the descriptor itself."""


class Server:
    """Serves dialogues."""

    def __init__(self, forks: ForkServer, limits: Limits, memory: Memory) -> None:
        self._forks, self._limits, self._memory = forks, limits, memory
        self._idle: set[Worker] = set()
        self._turns = asyncio.Semaphore(limits.running)
        self._places = asyncio.Semaphore(limits.sessions)
        self._examined = asyncio.Semaphore(1)

    async def serve(self, listener: socket.socket) -> None:
        """Serve for ever."""
        server = await asyncio.start_unix_server(self._dialogue, sock=listener, limit=CHUNK, backlog=self._limits.sessions)
        async with server:
            print("ready", flush=True)
            await server.serve_forever()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker: Worker | None = None
        place: asyncio.Semaphore | None = None
        try:
            while True:
                head = await reader.readexactly(LENGTH.size)
                request = unpack(await reader.readexactly(content_length(head)))
                health = request.get("health") is True  # neither waits for a turn nor takes a place
                if place is None and not health:
                    place = await self._place()
                    if place is None:
                        writer.write(pack({"refused": f"{self._limits.sessions} dialogues are open, which is the limit"}))
                        return
                async with self._examined if health else self._turns:
                    try:
                        result, worker = await self._block(request["program"], worker)
                    except OSError as error:
                        result = _lost(error)
                    if worker is not None and not request["keep"]:
                        self._idle.discard(worker)
                        await worker.end()
                writer.write(pack(result, self._limits.result_bytes))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done
        finally:
            try:
                if worker is not None:
                    self._idle.discard(worker)
                    await worker.end()
            finally:
                if place is not None:
                    place.release()  # only now: there are never more workers than dialogues and those in reserve
                writer.close()

    async def _block(self, program: str, worker: Worker | None) -> tuple[dict[str, Any], Worker | None]:
        """The result of a dialogue's block, and the worker that its next one goes to."""
        if worker is not None:
            self._idle.discard(worker)
            if worker.robbed:
                return self._robbed(), None
        if worker is None or worker.ended:
            worker = await self._forks.fork()
        result = await worker.run(program)
        if not worker.ended:
            worker.held = self._memory.held(worker.pid, worker.pidfd)
            self._idle.add(worker)
            await self._bound_memory()
            if worker.robbed:
                return {**self._robbed(), "stdout": result["stdout"], "truncated": result["truncated"]}, None
        return result, worker

    async def _bound_memory(self) -> None:
        """End dialogues that stand still, those first that hold most, until the rest holds what may be held."""
        while sum(worker.held for worker in self._idle) > self._limits.held_bytes:
            largest = max(self._idle, key=lambda worker: worker.held)
            self._idle.discard(largest)
            largest.robbed = True
            await largest.end()

    def _robbed(self) -> dict[str, Any]:
        most = self._limits.held_bytes >> 20
        error = f"MemoryError: dialogues held more than {most} MiB between their blocks, and this one the most; its variables are gone"
        return {"stdout": "", "value": None, "error": error, "killed": True}

    async def _place(self) -> asyncio.Semaphore | None:
        """A dialogue's place; none when all are taken. Waits a little, since one that was just closed may not be gone yet."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._places.acquire(), PLACE_SECONDS)
            return self._places
        return None


async def serve(channel: socket.socket, listener: socket.socket, limits: Limits, memory: Memory, with_parent: bool) -> None:
    """Serve for ever, or as long as standard input is open; `channel` leads to a fork server that is ready."""
    if with_parent:
        asyncio.get_running_loop().add_reader(0, os._exit, 0)
    await Server(ForkServer(channel, limits), limits, memory).serve(listener)


def _lost(error: OSError) -> dict[str, Any]:
    """The result of a block whose process could not be had."""
    return {"stdout": "", "value": None, "error": f"the program got no process: {error}", "killed": True}


def _ending(status: int, broken: BrokenFrameError | None) -> str:
    """What is said of a process that did not answer, with the exit status that it left."""
    if broken is not None:
        return f"the program's process was killed for its reply: {broken}"
    if status >= 0:
        return f"the program's process exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    return f"the program's process was killed by {name}"
