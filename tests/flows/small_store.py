"""A store with a policy of random weights, its scores, and a corpus of three pages, made in a second: input for exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import write_json
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.mine.library.decontaminate import QUOTES_SCHEMA
from mathquarry.data.mine.record.corpus import CORPUS_SCHEMA
from mathquarry.data.store.sources import Source
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import new_policy, save
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.tokenizer import train_tokenizer

SECRET = "/home/someone/secret folder"
SCORES = {
    "questions": 24,
    "too_long": 0,
    **{name: value for reading in ("", "lenient_") for name, value in ((f"{reading}greedy", 0.25), (f"{reading}greedy_se", 0.0884))},
    "pass@1": 0.125,
    "pass@1_se": 0.05,
    "lenient_pass@1": 0.125,
    "lenient_pass@1_se": 0.05,
    "finished": 0.9,
    "mean_tokens": 11.0,
}


def write_policy(folder: Path, style: str = "paper") -> None:
    texts = ["How many pens? Tom has 3 pens.\nUser: Assistant: Answer: \\boxed{7}"] * 4
    tokenizer = train_tokenizer(texts, 300)
    shape = ScratchModel(
        layers=1, hidden=32, heads=1, intermediate=48, vocabulary=300
    )  # a head of 32, the smallest that vLLM takes on a CPU
    save(new_policy(shape, tokenizer, seed=0), tokenizer, folder, style)  # type: ignore[arg-type]


def page(number: int) -> dict[str, Any]:
    kinds = [{"kind": "mathml", "count": 1}]
    address = {"url": f"https://a.example/{number}", "host": "a.example"}
    numbers = {"score": 0.9, "tokens": 10, "formulas": 1, "round": 1}
    return {**address, "text": f"Page {number}: $x^{number}$", "formula_kinds": kinds, "language": "en", **numbers}


def corpus_work(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "corpus").mkdir(parents=True)
    for part, pages in enumerate(([1, 2], [3])):
        table = pa.Table.from_pylist([page(number) for number in pages], CORPUS_SCHEMA)
        pq.write_table(table, workspace.out / "corpus" / f"part-{part:04d}.parquet")
    quote = {"benchmark": "gsm8k", "problem": "gsm8k-test-1", "part": "question", "n": 10, "segments": 1, "quote": "words of a benchmark"}
    quotes = pa.Table.from_pylist([{"url": "https://b.example/", "removed": "page", **quote}], QUOTES_SCHEMA)
    pq.write_table(quotes, workspace.out / "contamination.parquet")
    record = {
        "rounds": [{"round": 1, "pages": 3, "tokens": 30, "overlap": None}],
        "funnel": [{"step": "captured", "pages": 5, "tokens": None}, {"step": "collected", "pages": 3, "tokens": 30}],
        "contamination": [{"benchmark": "gsm8k", "n": 10, "pages": 1, "segments": 1}],
        "decontamination": {"remove": "page", "pages_hit": 1, "segments_hit": 1, "pages_dropped": 1, "tokens_removed": 12},
    }
    write_json(workspace.out / "rounds.json", record)
    return {"pages": 3}


def make_store(root: Path) -> dict[str, Artifact]:
    store = Store(root)
    ledger = Ledger(store)

    def policy_work(workspace: Workspace) -> dict[str, Any]:
        write_policy(workspace.out / "model")
        return {"loss": 1.0}

    made: dict[str, Artifact] = {}
    crawl_source = {"kind": "files", "warcs": [f"{SECRET}/a.warc.gz"]}
    problem_source = {
        "kind": "files",
        "dataset": "gsm8k",
        "train": [f"{SECRET}/gsm8k-train.jsonl"],
        "test": ["hf://openai/gsm8k:main:test"],
    }
    plan: list[tuple[str, dict[str, Any], dict[str, str], tuple[Source, ...], Any]] = [
        ("crawl", {"crawl": {"source": crawl_source}}, {}, (Source(f"{SECRET}/a.warc.gz", "ab" * 32, 99),), lambda workspace: {}),
        ("problems", {"problems": {"source": problem_source}}, {}, (), lambda workspace: {}),
        ("mine", {"mine": {"annotations": f"{SECRET}/a.toml"}}, {"crawl": "crawl", "problems": "problems"}, (), corpus_work),
        ("sft", {"sft": {}, "model": {"kind": "pretrained", "path": "some-org/base-model@v1"}}, {"corpus": "mine"}, (), policy_work),
        ("reward", {"reward": {}}, {"sft": "sft"}, (), lambda workspace: {}),
        ("evaluate", {"evaluate": {"formats": ["cot"]}}, {"policy": "sft", "problems": "problems"}, (), lambda workspace: SCORES),
    ]
    for stage, config, inputs, sources, work in plan:
        identity = Identity(stage, 1, config, {role: made[name].key for role, name in inputs.items()}, sources)
        made[stage] = store.build(identity, work)
        ledger.record(made[stage])
    return made
