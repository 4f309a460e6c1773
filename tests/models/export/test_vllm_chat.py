"""vLLM's chat endpoint, started by the command that an export prints, prompts, answers and stops as training did."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.flows.cli.export import serve_command
from mathquarry.models.export.folder import export_policy
from mathquarry.models.export.template import PROBES
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.hf import TransformersEngine
from tests.flows.small_store import write_policy
from tests.models.export.serving import chat, post, serving
from tests.models.policy.test_adapters import adapted_folder

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module", params=[("paper", True), ("short", False)], ids=["merged adapters", "separate adapters"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of the server and the policy of training, which has adapters. tests/e2e/test_bring_your_own.py serves one without."""
    room = tmp_path_factory.mktemp("served")
    style, merge = request.param
    write_policy(room / "base", style)
    policy = adapted_folder(room / "adapted", room / "base", style=style)
    export_policy(policy, room / "my-model", "card", max_tokens=32, merge=merge)
    with serving(serve_command(room / "my-model"), room, room / "log") as url:
        yield url, policy


def test_the_endpoint_reads_a_question_as_training_did_in_every_format(served: tuple[str, Path]) -> None:
    url, policy = served
    prompter = Prompter.load(policy)
    for question, language in PROBES:
        for format in get_args(SolutionFormat):
            messages = [{"role": "user", "content": question}]
            body = {"model": "my-model", "messages": messages, "chat_template_kwargs": {"format": format}, "add_generation_prompt": True}
            assert post(f"{url}/tokenize", body)["tokens"] == prompter.encode(question, format, language)


def test_a_completion_is_that_of_the_policy_in_training_and_is_limited_as_the_folder_says(served: tuple[str, Path]) -> None:
    url, policy = served
    prompt = Prompter.load(policy).encode("1+1?")
    answer = chat(url, "my-model", "1+1?")
    assert answer["prompt_token_ids"] == prompt
    engine = TransformersEngine.from_folder(RolloutConfig(), policy)
    ((completion,),) = engine.generate([prompt], n=1, temperature=0, max_tokens=32, seeds=[0])
    assert answer["choices"][0]["token_ids"] == completion.tokens


def test_the_endpoint_refuses_a_message_with_a_special_token(served: tuple[str, Path]) -> None:
    url, policy = served
    with pytest.raises(urllib.error.HTTPError) as error:
        chat(url, "my-model", f"1+1?{Prompter.load(policy).tokenizer.eos_token}")
    assert error.value.code == 400
    assert "special token" in error.value.read().decode()
