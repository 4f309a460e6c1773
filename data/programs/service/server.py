"""The service's front end: accepts connections, sends programs to workers, enforces limits, and returns results.

One connection is one dialogue. A request is `{"program": str, "keep": bool}` (with `"health": true` it does not wait for a turn); the
reply is `{"stdout", "value", "error", "timed_out", "killed", "truncated"}` or `{"refused": str}`. Blocks of a dialogue share a worker as
long as `keep` is true; otherwise the worker is gone before the reply is sent. When a worker is killed, the dialogue's variables are lost,
and the next block starts without any.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

from .forks import CHUNK, ForkServer, Worker
from .limits import Limits
from .memory import Memory
from .wire import LENGTH, content_length, pack, unpack

PLACE_SECONDS = 1.0
"""How long a new dialogue waits for one of `Limits.sessions` to end."""


class Server:
    """Serves dialogues."""

    def __init__(self, forks: ForkServer, limits: Limits, memory: Memory) -> None:
        self._forks, self._limits, self._memory = forks, limits, memory
        self._idle: set[Worker] = set()
        self._turns = asyncio.Semaphore(limits.running)
        self._places = asyncio.Semaphore(limits.sessions)
        self._examined = asyncio.Semaphore(1)

    async def serve(self, listener: socket.socket) -> None:
        """Serve forever."""
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
                health = request.get("health") is True  # it neither waits for a turn nor takes a place
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
                    place.release()  # only now, so that there are never more workers than dialogues plus reserve
                writer.close()

    async def _block(self, program: str, worker: Worker | None) -> tuple[dict[str, Any], Worker | None]:
        """The result of a dialogue's block, and the worker for its next block."""
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
        """End idle dialogues, the largest first, until the others fit the memory limit."""
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
        """A dialogue's place, or None if all are taken. Waits briefly, since a dialogue that was just closed may not be gone yet."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._places.acquire(), PLACE_SECONDS)
            return self._places
        return None


async def serve(channel: socket.socket, listener: socket.socket, limits: Limits, memory: Memory, with_parent: bool) -> None:
    """Serve forever, or while standard input is open; `channel` leads to a fork server that is ready."""
    if with_parent:
        asyncio.get_running_loop().add_reader(0, os._exit, 0)
    await Server(ForkServer(channel, limits), limits, memory).serve(listener)


def _lost(error: OSError) -> dict[str, Any]:
    """The result of a block that could not get a process."""
    return {"stdout": "", "value": None, "error": f"the program got no process: {error}", "killed": True}
