"""The page "Bring your own" as a reader runs it: its sections form one recipe, and its commands run in order in a folder with files.

What comes out is then used without MathQuarry: the corpus by `datasets`, the policy by transformers and by vLLM's chat endpoint.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, GeneratedCrawl
from mathquarry.data.mine.pages.shards import warc_files
from mathquarry.data.problems.config import GeneratedProblems
from mathquarry.data.problems.generated import generate_problems
from mathquarry.data.problems.problem import write_problems
from mathquarry.data.store.workspace import Workspace
from mathquarry.data.texts.generated import generated_texts
from mathquarry.models.policy.checkpoint import SETTINGS_FILE, new_policy, save
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import train_tokenizer
from tests.conftest import REPOSITORY
from tests.e2e.command_line import CommandLine
from tests.models.export.serving import chat, serving

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PAGE = (REPOSITORY / "docs" / "bring-your-own.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's files, in the forms that the page shows, made here."""
    folder = tmp_path_factory.mktemp("mine")
    seed_row, problem_row, solution_row = (json.loads(block) for block in blocks("json"))
    assert (set(seed_row), set(problem_row), set(solution_row)) == ({"body", "link"}, {"prompt", "target"}, {"task", "worked"})
    train, test = generate_problems(GeneratedProblems(train=200, test=40, largest=6), 0)
    for name, problems in (("train", train), ("test", test)):
        lines(
            folder / f"problems-{name}.jsonl",
            [{"prompt": one.question, "target": f"{one.solution}\n#### {one.answer}"} for one in problems],
        )
    lines(
        folder / "solutions.jsonl", [solution_row, *({"task": f"What is {n} and 1?", "worked": rf"\boxed{{{n + 1}}}"} for n in range(20))]
    )
    lines(folder / "benchmark.jsonl", [{"question": one.question} for one in test])
    texts = list(generated_texts("mathematics", 3, 80))
    lines(folder / "seed.jsonl", [{"body": text, "link": f"https://seed.example/{n}"} for n, text in enumerate(texts)])
    room = Workspace.at(folder / "room")
    for name, problems in (("train", train), ("test", test)):
        write_problems(folder / "room" / f"{name}.jsonl", problems)
    build_crawl(
        CrawlConfig(source=GeneratedCrawl(pages=300, domains=12, warc_files=2, near_duplicates=12, url_duplicates=6, contaminated=8)),
        folder / "room",
        room,
    )
    (folder / "crawl").mkdir()
    for number, file in enumerate(warc_files(room.out)):
        Path(file.path).rename(folder / "crawl" / f"{number}.warc.gz")
    tokenizer = train_tokenizer([*texts, *(one.question + one.solution for one in train), "User: Assistant: \\boxed{}"], 320)
    # A head of 32 is the smallest that vLLM takes on a CPU.
    save(new_policy(ScratchModel(layers=1, hidden=32, heads=1, intermediate=64), tokenizer, 0), tokenizer, folder / "my-model", "paper")
    (folder / "my-model" / SETTINGS_FILE).unlink()
    return folder


@dataclass(frozen=True)
class Ran:
    """The folder after the page's commands, and what they printed."""

    folder: Path
    environment: dict[str, str]
    printed: str

    def sql(self, query: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(f"mathquarry ledger sql {shlex.quote(query)} --json").splitlines()]

    def run(self, command: str) -> str:
        ended = subprocess.run(command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


@pytest.fixture(scope="module")
def ran(folder: Path, command_line: CommandLine) -> Ran:
    (folder / "mine.toml").write_text("\n".join(blocks("toml")), encoding="utf-8")
    (function,) = blocks("python")
    (folder / "my_rewards.py").write_text(function, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**command_line.environment, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    (commands,) = blocks("bash")
    begun = Ran(folder, environment, "")
    return replace(begun, printed="".join(begun.run(command) for command in commands.splitlines()))


def test_the_corpus_is_a_data_set(ran: Ran) -> None:
    pages = datasets.load_dataset(str(ran.folder / "my-corpus"), split="train", cache_dir=str(ran.folder / "cache"))
    assert pages.num_rows > 0


def test_solutions_of_ones_own_are_trained_on(ran: Ran) -> None:
    trained = next(ran.folder.glob("store/artifacts/curate/*/examples.jsonl")).read_text(encoding="utf-8")
    assert "What is 2 and 4?" in trained


def test_the_reward_is_the_function_and_the_answer_and_no_reward_model_is_trained(ran: Ran) -> None:
    (rollouts,) = ran.folder.glob("store/artifacts/grpo/*/rollouts.parquet")
    rows = pq.read_table(rollouts).to_pylist()
    assert all(row["reward"] == pytest.approx(0.5 * dict(row["rewards"])["short"][0] + row["correct"]) for row in rows)
    assert any(dict(row["rewards"])["short"][0] < 0 for row in rows)
    assert ran.sql("select count(*) as models from artifacts where stage = 'reward'") == [{"models": 0}]
    recorded = ran.sql("select distinct name from metrics where name like 'rewards/%' order by all")
    assert [row["name"] for row in recorded] == ["rewards/rule", "rewards/short"]
    assert ran.sql("select path from sources where path like 'function:%'") == [{"path": "function:my_rewards:short"}]


def test_the_policy_answers_in_transformers_and_vllm_alike(ran: Ran) -> None:
    exported, evaluated = re.findall(r"^serve it: +(.*)$", ran.printed, re.MULTILINE)
    assert exported == evaluated
    messages = [{"role": "user", "content": "What is 2 and 3?"}]
    tokenizer, model = (kind.from_pretrained(ran.folder / "my-policy") for kind in (AutoTokenizer, AutoModelForCausalLM))
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    (ids,) = model.generate(**prompt, max_new_tokens=24).tolist()
    with serving(exported, ran.folder, ran.folder / "server.log") as url:
        served = chat(url, "my-policy", messages[0]["content"])
    policy = next(ran.folder.glob("store/artifacts/grpo/*/model"))
    assert served["prompt_token_ids"] == Prompter.load(policy).encode(messages[0]["content"])
    assert served["prompt_token_ids"] + served["choices"][0]["token_ids"][:24] == ids


def test_the_policy_is_evaluated_with_a_report(ran: Ran) -> None:
    assert re.search(r"^mine +cot +\w+ +8 ", ran.printed, re.MULTILINE)
    assert (ran.folder / "evaluation" / "report.html").exists()


def test_every_part_of_the_page_has_a_section_of_the_recipe() -> None:
    parts = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if part.splitlines()[0] != "Run it"]
    assert {part.splitlines()[0] for part in parts if "```toml" not in part} == set()
    assert len(parts) >= 6
