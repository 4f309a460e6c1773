"""vLLM's chat server, started by the command that an export prints."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 300


@contextmanager
def serving(command: str, folder: Path, log: Path) -> Iterator[str]:
    """Run `vllm serve ...` in a folder. Yields the server's address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve MODEL ...` by its module: the command of the CPU's distribution looks for the version of a package called `vllm`.
    _, _, model, *arguments = shlex.split(command)
    served = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *arguments]
    started = [*served, "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        server = subprocess.Popen(started, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS):
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        else:
            raise AssertionError(f"no answer after {START_SECONDS} s:\n{log.read_text()[-3000:]}")
        yield url
    finally:
        server.terminate()
        server.wait(60)


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def chat(url: str, model: str, question: str) -> dict[str, Any]:
    """The greedy answer of the chat endpoint."""
    messages = [{"role": "user", "content": question}]
    return post(f"{url}/v1/chat/completions", {"model": model, "messages": messages, "temperature": 0, "return_token_ids": True})
