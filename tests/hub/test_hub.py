"""Loading from the hub and pushing to it, through a local server with the hub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.flows.small_store import make_store, write_policy
from tests.hub.hub_server import TOKEN, HubServer, Repository, hub_server

pytestmark = pytest.mark.slow


@dataclass
class Client:
    """A process whose hub is the local server."""

    process: subprocess.Popen[str]

    def __call__(self, *arguments: str, token: str = "", status: int = 0) -> str:
        """Its output; if it should fail, its error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, "token": token}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the client ended"
        answer: dict[str, Any] = json.loads(line)
        assert answer["status"] == status, answer
        return str(answer["error"] if status else answer["out"])

    def refused(self, *arguments: str, token: str = "") -> str:
        """The one line of an error."""
        error = self(*arguments, token=token, status=1)
        assert error.count("\n") == 0, error
        return error


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _calm(hub: HubServer) -> Iterator[None]:
    yield
    hub.busy = 0
    hub.break_off.clear()
    hub.requests.clear()


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("home")
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # Nothing of this machine's own account or cache.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {**own, "PYTHONPATH": str(REPOSITORY), "CLIENT_OUT": str(home / "out"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.hub.client"]
    with (home / "err").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=REPOSITORY
        )
    try:
        yield Client(process)
    finally:
        process.kill()
        process.communicate()


CARD = b"---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: data/train.jsonl\n---\n"


def rows(*answers: int) -> bytes:
    return "".join(json.dumps({"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"}) + "\n" for n in answers).encode()


def data_set(hub: HubServer, name: str, *answers: int, **more: Any) -> Repository:
    repository = hub.add("dataset", name, **more)
    repository.commit({"README.md": CARD, "data/train.jsonl": rows(*answers)})
    return repository


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_policy(folder)
    return folder


def test_problems_come_from_a_set_on_the_hub_at_the_revision_that_is_pinned(hub: HubServer, client: Client) -> None:
    repository = data_set(hub, "org/pinned", 1, 2)
    first = repository.refs["main"]
    repository.refs["v1"] = first
    repository.commit({"README.md": CARD, "data/train.jsonl": rows(7)})
    assert json.loads(client("problems", "hf://org/pinned:main:train")) == ["7"]
    assert json.loads(client("problems", "hf://org/pinned@v1:main:train")) == ["1", "2"]
    assert json.loads(client("problems", f"hf://org/pinned@{first}:main:train")) == ["1", "2"]


def test_a_set_revision_config_or_split_that_is_not_there_is_one_line(hub: HubServer, client: Client) -> None:
    data_set(hub, "org/there", 1)
    assert "has no such repository, or it is private" in client.refused("problems", "hf://org/nowhere:main:train")
    assert "cannot load hf://org/there@v9:main:train" in client.refused("problems", "hf://org/there@v9:main:train")
    assert "other" in client.refused("problems", "hf://org/there:other:train")
    assert "validation" in client.refused("problems", "hf://org/there:main:validation")


def test_a_gated_set_needs_a_token_and_says_so(hub: HubServer, client: Client) -> None:
    data_set(hub, "org/gated", 1, 2, 3, gated=True)
    error = client.refused("problems", "hf://org/gated:main:train")
    assert "gated" in error
    assert "HF_TOKEN" in error
    assert json.loads(client("problems", "hf://org/gated:main:train", token=TOKEN)) == ["1", "2", "3"]


def test_a_busy_hub_is_asked_again_until_it_answers(hub: HubServer, client: Client, model_folder: Path) -> None:
    hub.add("model", "org/busy", model_folder)
    hub.busy = 2
    client("sample", "org/busy", "1+1?", "--max-tokens", "2")
    assert hub.busy == 0


def test_a_hub_that_stays_busy_is_one_line(hub: HubServer, client: Client, model_folder: Path) -> None:
    hub.add("model", "org/overrun", model_folder)
    hub.busy = 1_000_000
    assert "has had too many requests. Wait some minutes, or set HF_TOKEN" in client.refused("sample", "org/overrun", "1+1?")


def test_a_policy_starts_from_a_model_on_the_hub_at_the_revision_that_is_pinned(
    hub: HubServer, client: Client, model_folder: Path, tmp_path: Path
) -> None:
    repository = hub.add("model", "org/start", model_folder)
    repository.refs["v1"] = repository.refs["main"]
    later = dict(repository.commits[repository.refs["main"]])
    later.pop("model.safetensors")
    repository.commit(later)
    style, _ = json.loads(client("start", "org/start@v1"))
    assert style == "paper"
    assert hub.asked("/cdn/")
    assert "cannot load the model in org/start" in client.refused("start", "org/start")


def test_a_broken_transfer_of_weights_goes_on_where_it_broke(hub: HubServer, client: Client, model_folder: Path) -> None:
    repository = hub.add("model", "org/broken", model_folder)
    # Larger than what the client writes down at a time.
    large = {"other.safetensors": bytes(24 << 20)}
    repository.commit({**repository.commits[repository.refs["main"]], **large})
    hub.break_off["other.safetensors"] = 21 << 20
    client("sample", "org/broken", "1+1?", "--max-tokens", "2")
    first, then = (asked for method, path, asked in hub.asked("other.safetensors") if method == "GET" and path.startswith("/cdn/"))
    assert first is None
    assert then == f"bytes={20 << 20}-"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nothing-here", "has no such repository, or it is private. Check the name, or set HF_TOKEN"),
        ("org/plain@v7", "it has no such revision. Check what follows the @"),
        ("org/locked", "it is gated. Accept its terms on its page, and set HF_TOKEN"),
        ("org/pickles", "has no .safetensors file, and other weights are not read"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(hub: HubServer, client: Client, model_folder: Path, name: str, message: str) -> None:
    hub.add("model", "org/plain", model_folder)
    hub.add("model", "org/locked", model_folder, gated=True)
    hub.add("model", "org/pickles").commit({"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert message in client.refused("sample", name, "1+1?")


def test_an_export_is_pushed_as_a_private_model_that_can_be_asked_from_there(hub: HubServer, client: Client, tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    out = client("export", "sft", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--push", "me/my-model", token=TOKEN)
    assert f"{hub.url}/me/my-model" in out
    pushed = hub.repositories["model", "me/my-model"]
    assert pushed.private
    there = pushed.commits[pushed.refs["main"]]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        k: v for k, v in there.items() if k != ".gitattributes"
    }
    client("sample", "me/my-model", "1+1?", "--max-tokens", "2", token=TOKEN)


def test_a_corpus_is_pushed_as_a_data_set_that_opens_from_there(hub: HubServer, client: Client, tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    where = ["--store", str(tmp_path / "store"), "--push", "me/my-pages", "--public"]
    client("export-corpus", "mine", str(tmp_path / "out"), *where, token=TOKEN)
    assert not hub.repositories["dataset", "me/my-pages"].private
    assert json.loads(client("rows", "me/my-pages")) == 3


def test_a_push_without_the_right_to_is_one_line_and_the_folder_is_kept(hub: HubServer, client: Client, tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    error = client.refused("export", "sft", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--push", "me/not-mine")
    assert f"{tmp_path / 'out'} is exported and could not be pushed to me/not-mine" in error
    assert "HF_TOKEN" in error
    assert (tmp_path / "out" / "model.safetensors").exists()


SETS = {"openai/gsm8k": ("main", "train", "test"), "weitianwen/cmath": ("default", "test")}


@pytest.fixture
def public(hub: HubServer, model_folder: Path) -> HubServer:
    """What recipe `smollm` names on the hub, small."""
    for number, (name, (config, *splits)) in enumerate(SETS.items()):
        files = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in splits)
        card = f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{files}---\n".encode()
        contents = {
            f"{split}.jsonl": rows(*range(100 * number + 20 * place, 100 * number + 20 * place + 20)) for place, split in enumerate(splits)
        }
        hub.add("dataset", name).commit({"README.md": card, **contents})
    data_set(hub, "open-web-math/open-web-math", 1)
    repository = hub.repositories["dataset", "open-web-math/open-web-math"]
    repository.commit(
        {"README.md": CARD.replace(b"main", b"default"), "data/train.jsonl": b'{"text": "Let $x$ be.", "url": "https://a.example"}\n'}
    )
    hub.add("model", "HuggingFaceTB/SmolLM2-135M-Instruct", model_folder)
    return hub


def dry(*overrides: str, until: str = "curate") -> list[str]:
    return ["run", "smollm", "--dry-run", "--until", until, *(part for one in overrides for part in ("--set", one))]


def test_the_recipe_of_public_sources_passes_its_preflight(public: HubServer, client: Client, tmp_path: Path) -> None:
    said = client(*dry(until="pretrain"), "--store", str(tmp_path))
    assert "stages: problems -> crawl -> mine -> pretrain" in said
    assert "The hub is unreachable" not in said


@pytest.mark.slow
def test_the_recipe_of_public_sources_makes_its_problems_and_examples(public: HubServer, client: Client, tmp_path: Path) -> None:
    first = public.repositories["dataset", "openai/gsm8k"].refs["main"]
    pinned = f'problems.source.train=["hf://openai/gsm8k@{first}:main:train"]'
    public.busy = 2
    client("run", "smollm", "--until", "curate", "--store", str(tmp_path), "--set", pinned)
    (problems,) = tmp_path.glob("artifacts/problems/*")
    assert [len((problems / f"{split}.jsonl").read_text().splitlines()) for split in ("train", "test", "benchmarks")] == [20, 20, 20]
    assert list(tmp_path.glob("artifacts/curate/*/examples.jsonl"))


OWN = 'problems.source={kind="files", dataset="own", train=["hf://org/plain-rows:main:train"], test=["gsm8k=hub"], sets={own={%s}}}'


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            OWN % 'question="prompt"',
            "problems.source.train: hf://org/plain-rows:main:train, row 0: there is no column `prompt`; the row has",
        ),
        (OWN % 'answer="target"', "problems.source.train: hf://org/plain-rows:main:train, row 0: there is no column `target`; the row has"),
        (
            OWN % 'answer_from="boxed"',
            r"problems.source.train: hf://org/plain-rows:main:train, row 0: no answer in \boxed{} in column `answer`",
        ),
        ('problems.source.train=["math=hf://org/plain-rows:main:train"]', "problems.source.train: hf://org/plain-rows:main:train, row 0"),
        (
            'problems.source.train=["hf://org/plain-rows:other:train"]',
            "problems.source.train: hf://org/plain-rows:other:train: BuilderConfig",
        ),
        (
            'problems.source.train=["hf://org/plain-rows:main:validation"]',
            "problems.source.train: hf://org/plain-rows:main:validation: Bad split",
        ),
        (
            'problems.source.train=["hf://openai/gsm8k:main:test"]',
            "problems.source.train: hf://openai/gsm8k:main:test is named as a test split",
        ),
        ('curate.files=[{path="hf://org/plain-rows:main:train", solution="worked", answer_from="hash"}]', "there is no column `worked`"),
        (
            'problems.source.train=["hf://org/nowhere:main:train"]',
            "problems.source.train: org/nowhere is neither a file or folder here nor on",
        ),
        ('problems.source.train=["hf://org/plain-rows@v9:main:train"]', "org/plain-rows@v9: the hub has no such revision"),
        (
            'problems.source.train=["hf://org/locked-rows:main:train"]',
            "org/locked-rows is gated: accept its terms on the hub, and set HF_TOKEN",
        ),
    ],
)
def test_a_hub_set_that_cannot_be_read_as_the_recipe_says_is_refused_before_the_first_stage(
    public: HubServer, client: Client, override: str, message: str, tmp_path: Path
) -> None:
    data_set(public, "org/plain-rows", 1, 2)
    data_set(public, "org/locked-rows", 1, 2, gated=True)
    assert message in client.refused(*dry(override), "--store", str(tmp_path))
    assert not list(tmp_path.glob("artifacts/*"))


def test_texts_of_the_hub_without_the_column_are_refused_before_the_first_stage(public: HubServer, client: Client, tmp_path: Path) -> None:
    error = client.refused(*dry('mine.seed_pages.text_column="body"', until="mine"), "--store", str(tmp_path))
    assert "mine.seed_pages: hf://open-web-math/open-web-math has no column body, only text, url. Correct the column's name" in error


def test_a_hub_that_stays_busy_or_is_away_refuses_nothing(public: HubServer, client: Client, tmp_path: Path) -> None:
    public.busy = 1_000_000
    assert "The hub is unreachable" in client(*dry('problems.source.train=["hf://org/plain-rows:other:train"]'), "--store", str(tmp_path))
