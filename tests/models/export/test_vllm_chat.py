"""vLLM's chat endpoint, started by the command that an export prints, prompts and stops as training did."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.flows.cli.export import serve_command
from mathquarry.models.export.folder import export_policy
from mathquarry.models.export.template import PROBES
from mathquarry.models.policy.prompts import Prompter
from tests.flows.small_store import write_policy
from tests.models.policy.test_adapters import adapted_folder

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

START_SECONDS = 300


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.fixture(scope="module", params=["paper", "short", "adapters"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Prompter]]:
    """Address of the server and the prompter of training."""
    room = tmp_path_factory.mktemp("served")
    apart = request.param == "adapters"
    write_policy(room / "trained", "paper" if apart else request.param)
    policy = adapted_folder(room / "adapted", room / "trained") if apart else room / "trained"
    export_policy(policy, room / "my-model", "card", max_tokens=32, merge=not apart)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve FOLDER ...` by its module: the command of the CPU's distribution looks for the version of a package called `vllm`.
    _, _, folder, *arguments = shlex.split(serve_command(room / "my-model"))
    served = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, *arguments]
    command = [*served, "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with (room / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS):
            assert server.poll() is None, (room / "log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield url, Prompter.load(policy)
    finally:
        server.terminate()
        server.wait(60)


def test_the_endpoint_reads_a_question_as_training_did_in_every_format(served: tuple[str, Prompter]) -> None:
    url, prompter = served
    for question, language in PROBES:
        for format in get_args(SolutionFormat):
            messages = [{"role": "user", "content": question}]
            body = {"model": "my-model", "messages": messages, "chat_template_kwargs": {"format": format}, "add_generation_prompt": True}
            assert post(f"{url}/tokenize", body)["tokens"] == prompter.encode(question, format, language)


def test_a_completion_starts_after_the_prompt_of_training_and_is_limited_as_the_folder_says(served: tuple[str, Prompter]) -> None:
    url, prompter = served
    body = {"model": "my-model", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0, "return_token_ids": True}
    answer = post(f"{url}/v1/chat/completions", body)
    assert answer["prompt_token_ids"] == prompter.encode("1+1?")
    assert answer["usage"]["completion_tokens"] <= 32


def test_the_endpoint_refuses_a_message_with_a_special_token(served: tuple[str, Prompter]) -> None:
    url, prompter = served
    with pytest.raises(urllib.error.HTTPError) as error:
        post(
            f"{url}/v1/chat/completions",
            {"model": "my-model", "messages": [{"role": "user", "content": f"1+1?{prompter.tokenizer.eos_token}"}]},
        )
    assert error.value.code == 400
    assert "special token" in error.value.read().decode()
