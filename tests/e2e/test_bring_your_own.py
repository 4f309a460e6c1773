"""The page "Bring your own" as a reader runs it: its sections form one recipe, and its commands run in order in a folder with files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from transformers import AutoTokenizer, pipeline

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
from mathquarry.models.policy.tokenizer import train_tokenizer
from tests.conftest import REPOSITORY
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

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
    save(new_policy(ScratchModel(layers=1, hidden=32, heads=2, intermediate=64), tokenizer, 0), tokenizer, folder / "my-model", "paper")
    (folder / "my-model" / SETTINGS_FILE).unlink()
    return folder


def test_the_page_runs_as_it_is_printed(folder: Path, command_line: CommandLine) -> None:
    (folder / "mine.toml").write_text("\n".join(blocks("toml")), encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**command_line.environment, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    (commands,) = blocks("bash")
    for command in commands.splitlines():
        ended = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    pages = datasets.load_dataset(str(folder / "my-corpus"), split="train", cache_dir=str(folder / "cache"))
    assert pages.num_rows > 0
    assert "User: " in AutoTokenizer.from_pretrained(folder / "my-policy").chat_template
    message = [{"role": "user", "content": "What is 2 and 3?"}]
    assert pipeline("text-generation", str(folder / "my-policy"), max_new_tokens=4)(message)[0]["generated_text"][-1]["role"] == "assistant"
    assert (folder / "evaluation" / "report.html").exists()
    trained = next(folder.glob("store/artifacts/curate/*/examples.jsonl")).read_text(encoding="utf-8")
    assert "What is 2 and 4?" in trained


def test_every_part_of_the_page_has_a_section_of_the_recipe() -> None:
    parts = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if part.splitlines()[0] != "Run it"]
    assert {part.splitlines()[0] for part in parts if "```toml" not in part} == set()
    assert len(parts) >= 6
