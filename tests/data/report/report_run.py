"""A made-up run in the files' real formats, for the tests of the report. Its numbers mean nothing, but what a stage counts in its rows is
counted in these; its text is hostile where it can be.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import rankdata

from mathquarry.data.files import read_json
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.mine.domains.table import wilson_interval
from mathquarry.data.report.build import ReportArtifact
from mathquarry.data.store.store import Store
from mathquarry.data.store.workspace import MetricLog

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\"'&{{ 7 * 7 }}</pre>"


CODE = {"version": "0.1.0", "revision": "3f9c1a2b4d5e", "python": "3.11.9"}
ENVIRONMENT: dict[str, Any] = {
    "system": "Linux 6.8",
    "machine": "x86_64",
    "host": "container",
    "processor": "EPYC",
    "processors": 16,
    "memory_bytes": 128 << 30,
    "gpus": [{"name": "H200", "memory_mib": 143360.0, "watts": 700.0, "driver": "570.86"}] * 2,
    "packages": {"torch": "2.13.0", "transformers": "5.19.0"},
}


def make_run(folder: Path, hostile: str = "", better: float = 0.0, **rl: int) -> tuple[dict[str, Any], list[ReportArtifact]]:
    """The record of a run and its artifacts, written below `folder`. `hostile` is put wherever a model or a page could write; policies
    from SFT on are `better` by that much; `rl` are the sizes of `write_rl`.
    """
    random.seed(0)
    made: list[ReportArtifact] = []

    def add(name: str, summary: dict[str, Any], inputs: dict[str, str], seconds: float, config: dict[str, Any] | None = None) -> Path:
        path = folder / name
        path.mkdir(parents=True)
        stage = name.split("-")[0]
        manifest: dict[str, Any] = {"code": CODE}
        if stage != "crawl":  # as an earlier version wrote it
            manifest |= {"usage": {"cpu_seconds": 1.5 * seconds, "peak_bytes": (2 << 30) + len(made)}, "environment": ENVIRONMENT}
        if stage == "crawl":
            manifest["sources"] = [{"path": f"crawl{hostile}.warc.gz", "sha256": 32 * "0a", "bytes": 70_000}]
        (path / "manifest.json").write_text(json.dumps(manifest))
        keys = {artifact.name: artifact.key for artifact in made}
        key = hashlib.sha256(name.encode()).hexdigest()[:20]
        resolved = {role: keys[source] for role, source in inputs.items()}
        made.append(ReportArtifact(name, stage, key, path, config or {}, summary, resolved, seconds, False))
        return path

    add("problems", {"train": 4000, "test": 1000}, {}, 0.8)
    add("crawl", {"pages": 3000}, {"problems": "problems"}, 6.1)
    planted = {"contaminated": 60, "near_duplicates": 120, "url_duplicates": 40}
    counts = {f"{when}_{what}": value for what, value in planted.items() for when in ("planted", "removed")}
    write_mining(add("mine", counts, {"crawl": "crawl", "problems": "problems"}, 31.4), hostile)
    write_loss(add("pretrain", {"tokens": 122 * 8192}, {"corpus": "mine", "problems": "problems"}, 48.0), 122, 6.1, 1.9, 8192)
    add("curate", {"examples": 5200}, {"problems": "problems"}, 1.3)
    write_loss(add("sft", {"tokens": 250 * 8192}, {"base": "pretrain", "examples": "curate"}, 96.5), 250, 2.1, 0.42, 8192)
    write_scores(made, add, "evaluate-base", "pretrain", 0.004, hostile)
    write_scores(made, add, "evaluate-sft", "sft", 0.61 + better, hostile)
    policy = "sft"
    for iteration in range(3):
        if iteration:
            name = f"grpo-{iteration}"
            inputs = {"policy": policy, "reward": f"reward-{iteration - 1}", "problems": "problems"}
            write_rl(add(name, {"completions": 2880}, inputs, 74.0, {"grpo": {"num_updates": iteration}}), iteration, hostile, **rl)
            policy = name
            write_scores(made, add, f"evaluate-rl-{iteration}", policy, 0.61 + better + 0.11 * iteration, hostile)
        metrics = {
            "auc": 0.93,
            "auc_within_question": 0.87,
            "step_auc": 0.9,
            "accuracy": 0.86,
            "correct_share": 0.5,
            "training_solutions": 7210,
        }
        if iteration:
            metrics |= {"before_auc": 0.81 + 0.03 * iteration, "replayed_solutions": 801}
        config = {"reward": {"supervision": "process"}}
        path = add(f"reward-{iteration}", metrics, {"policy": policy, "problems": "problems"}, 38.2, config)
        write_loss(path, 40, 0.7, 0.35)
        calibration = [{"score": 0.1 * bin, "right": 0.01 * bin * bin, "count": 20} for bin in range(1, 10)]
        best_of_n = {"1": 0.5, "2": 0.61, "4": 0.68 + 0.01 * iteration, "8": None}
        (path / "curves.json").write_text(json.dumps({"calibration": calibration, "best_of_n": best_of_n}))
    stages = [
        {"name": artifact.name, "stage": artifact.stage, "key": artifact.key, "reused": artifact.name == "crawl"} for artifact in made
    ]
    config = {"name": "tiny", "description": "the whole path " + hostile, "grpo": {"kl_coef": 0.04, "iterations": 2}, "sft": {"steps": 250}}
    started = "2021-05-04T10:11:12Z"
    run = {"id": "20310504-101112-a1b2c3", "recipe": "tiny", "started": started, "status": "running", "stages": stages, "config": config}
    return run, made


def write_loss(path: Path, steps: int, first: float, last: float, tokens_a_step: int | None = None) -> None:
    """A falling loss with noise."""
    log = MetricLog(path / "metrics.jsonl")
    for step in range(1, steps + 1):
        loss = last + (first - last) * math.exp(-5 * step / steps) + random.gauss(0, 0.03)
        log.log(step, loss=loss, learning_rate=1e-3, tokens=step * tokens_a_step if tokens_a_step else None)


def write_mining(path: Path, hostile: str) -> None:
    """rounds.json of three rounds, their corpus, the dropped pages, domains.parquet and samples.parquet."""
    rounds = [
        {
            "round": number,
            "pages": pages,
            "tokens": pages * 520,
            "budget": 400_000,
            "threshold": threshold,
            "overlap": overlap,
            "seed_positives": 300 + 120 * number,
            "seed_negatives": 300,
            "separation": {"auc": None if number == 1 else 0.9 + 0.01 * number, "positives": 20, "negatives": 30},
            "warnings": [f"the threshold splits a group of equal scores {hostile}"] if number == 3 else [],
            "domains": 46,
            "mathematical_domains": [f"host{index}.example" for index in range(14 + number)],
            "accepted_paths": ["host1.example/questions/"],
            "pages_added": added,
            "scores": [round(900 * math.exp(-0.1 * (bin - 4) ** 2) + 300 * math.exp(-0.05 * (bin - 33) ** 2)) for bin in range(46)],
            "tokenizer": "bpe-100k",
            "tokens_counted": pages * 560,
            "tokens_error": pages * 4,
            "labelled": {
                "pages": 1200,
                "average_precision": 0.9 + 0.02 * number,
                "curve": [[1 - recall / 20, 1 - (recall / 20) ** (4 * number), recall / 20] for recall in range(1, 21)],
            },
        }
        for number, pages, threshold, overlap, added in [(1, 690, 0.71, None, 118), (2, 766, 0.64, 0.88, 21), (3, 769, 0.66, 0.985, 2)]
    ]
    funnel = [
        {"step": "captured", "pages": 3040, "tokens": None},
        {"step": "extracted", "pages": 2981, "tokens": 1_640_000},
        {"step": "without url-duplicates", "pages": 2941, "tokens": 1_610_000},
        {"step": "without near-duplicates", "pages": 2821, "tokens": 1_540_000},
        {"step": "not contaminated", "pages": 2761, "tokens": 1_500_000},
        {"step": "collected", "pages": 769, "tokens": 399_880},
    ]
    dropped = {"not-selected": 1992, "near-duplicate": 120, "contaminated": 60, "too-short": 59, "url-duplicate": 40}
    record = {
        "rounds": rounds,
        "stopped": "overlap",
        "dropped": dropped,
        "contamination": [{"benchmark": "test.jsonl" + hostile, "n": 10, "pages": 60, "segments": 71}],
        "decontamination": {"remove": "page", "pages_hit": 60, "segments_hit": 71, "pages_dropped": 60, "tokens_removed": 41_000},
        "funnel": funnel,
    }
    (path / "rounds.json").write_text(json.dumps(record))
    reasons = [reason for reason, pages in dropped.items() for _ in range(pages)]
    urls = [f"https://host{index % 46}.example/dropped/{index}{hostile}" for index in range(len(reasons))]
    pq.write_table(pa.table({"url": urls, "reason": reasons, "detail": [""] * len(reasons)}), path / "dropped.parquet")
    (path / "corpus").mkdir()
    for part, pages in enumerate((500, 269)):
        urls = [f"https://host{index % 14}.example/{part}/{index}{hostile}" for index in range(pages)]
        table = pa.table({"url": urls, "host": [url.split("/")[2] for url in urls], "tokens": [520] * pages, "round": [1 + part] * pages})
        pq.write_table(table, path / "corpus" / f"part-{part:04d}.parquet")
    rows = [domain(f"{name}{index}.example{hostile}", index, hostile) for index, name in enumerate(["algebra", "forum", "recipes"] * 15)]
    pq.write_table(pa.Table.from_pylist(rows), path / "domains.parquet")
    text = "The roots of $ax^2 + bx + c = 0$ are\n\n$$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}.$$\n\n"
    text += "It costs \\$5, and $\\unknown$ stays as it is."
    samples = [
        {
            "kind": kind,
            "url": f"https://host{index}.example/notes/{index}{hostile}",
            "title": f"Quadratic equations {index}{hostile}",
            "score": 0.66 + 0.01 * index,
            "formulas": 3,
            "tokens": 480,
            "text": f"{text}\n\n${hostile}$ {hostile}",
        }
        for kind in ("collected", "just-above", "just-below", "rejected")
        for index in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(samples), path / "samples.parquet")


def domain(host: str, index: int, hostile: str) -> dict[str, Any]:
    """A row of domains.parquet."""
    pages, collected = 60 + index, max(1, 52 - 3 * index)
    low, high = wilson_interval(collected, pages)
    names = ["/questions/", "/notes/"]
    samples = [{"title": f"Lecture {number}{hostile}", "path": f"/notes/{number}", "collected": number < 2} for number in range(3)]
    prefixes = [
        {
            "prefix": prefix + hostile,
            "pages": pages // 2,
            "collected": collected // 2,
            "share": collected / pages,
            "gain": 3.5,
            "samples": samples,
        }
        for prefix in names
    ]
    return {
        "host": host,
        "pages": pages,
        "collected": collected,
        "share": collected / pages,
        "share_low": low,
        "share_high": high,
        "mathematical": index < 14,
        "gain": (pages - collected) * collected / pages,
        "scores": [pages - collected - 8, 2, 1, 1, 0, 1, 1, 2, 0, collected],
        "accepted": names if index < 6 else [],
        "prefixes": prefixes,
        "samples": samples,
    }


def write_scores(made: list[ReportArtifact], add: Any, name: str, policy: str, greedy: float, hostile: str) -> None:
    """An evaluate artifact with its answers."""
    scores: dict[str, Any] = {"questions": 1000, "too_long": 0, "greedy": greedy, "greedy_se": math.sqrt(greedy * (1 - greedy) / 1000)}
    for k in (1, 2, 4, 8):
        at_k = 1 - (1 - 0.9 * greedy) ** (0.5 + 0.5 * k)
        scores |= {f"pass@{k}": at_k, f"pass@{k}_se": 0.012, f"maj@{k}": min(0.99, greedy * (0.9 + 0.01 * k)), f"maj@{k}_se": 0.013}
    if name != "evaluate-base":  # which an earlier version wrote
        scores |= {f"lenient_{score}": value for score, value in scores.items() if score not in ("questions", "too_long")}
    path = add(name, scores, {"policy": policy, "problems": "problems"}, 21.0)
    rows = [
        {
            "problem_id": f"p{index}",
            "question": f"Ann has {index} apples and buys 3 more. How many apples has she?{hostile}",
            "gold": str(index + 3),
            "kind": kind,
            "text": f"{index} + 3 = {index + 3}\nThe answer is \\boxed{{{index + 3}}}{hostile}",
            "correct": (index * 619) % 1000 < round(1000 * greedy) if kind == "greedy" else random.random() < greedy,
            "finished": True,
        }
        for index in range(1000)
        for kind in ("greedy", "sample")[: 2 if index < 20 else 1]
    ]
    if name != "evaluate-base":
        rows = [row | graded(row, format, hostile) for format in ("cot", "tool") for row in rows[: None if format == "cot" else 40]]
    pq.write_table(pa.Table.from_pylist(rows), path / "answers.parquet")


def graded(row: dict[str, Any], format: str, hostile: str) -> dict[str, Any]:
    """The columns for how an answer was graded, and which programs were run for it."""
    failed = {"program": "print(1/0)" + hostile, "output": "ZeroDivisionError" + hostile, "error": "ZeroDivisionError" + hostile}
    ran = {"program": "print(4)", "output": "4" + hostile, "error": None}
    return {
        "format": format,
        "tokens": len(row["text"]),
        "calls": [ran, failed] if format == "tool" else [],
        "extracted": row["gold"] if row["correct"] else None,
        "reason": "equal numbers" if row["correct"] else f"no answer: {hostile}",
    }


def write_rl(
    path: Path, iteration: int, hostile: str, steps: int = 30, questions: int = 6, completions: int = 16, lines: int = 2, tokens: int = 30
) -> None:
    """Rollouts of an iteration, one row group per step, and its metrics. A completion has `lines` lines before its answer."""
    log = MetricLog(path / "metrics.jsonl")
    with pq.ParquetWriter(path / "rollouts.parquet", SCHEMA) as file:
        for step in range(1, steps + 1):
            progress = (step + steps * (iteration - 1)) / (2 * steps)
            groups = [
                make_group(
                    random.gauss(0.35 + 0.6 * progress, 0.25), completions, lines, hostile, group=group, step=step, iteration=iteration
                )
                for group in range(questions)
            ]
            table = pa.Table.from_pylist([row for rows in groups for row in rows], SCHEMA)
            ids = pa.ListArray.from_arrays(np.arange(len(table) + 1, dtype=np.int32) * tokens, np.arange(len(table) * tokens) % 50_000)
            file.write_table(table.set_column(table.column_names.index("completion"), "completion", ids.cast(pa.list_(pa.int32()))))
            log.log(
                step,
                **measured(groups),
                kl=0.04 * step / steps,
                entropy=0.35 - 0.2 * progress,
                completion_tokens=24 - 2 * progress,
                probe_mean=2e-6 + 1e-6 * random.random(),
                probe_largest=9e-6,
                clip_fraction=0.0,
                gradient_norm=0.4 + random.random() / 10,
            )


SCHEMA = pa.schema(
    [
        *((name, pa.int32()) for name in ("iteration", "step")),
        *((name, pa.string()) for name in ("problem_id", "question")),
        *((name, pa.int32()) for name in ("group", "sample")),
        ("text", pa.string()),
        *((name, pa.list_(pa.int32())) for name in ("completion", "step_ends")),
        ("step_rewards", pa.list_(pa.float32())),
        ("reward", pa.float32()),
        ("advantage", pa.list_(pa.float32())),
        *((name, pa.bool_()) for name in ("correct", "finished")),
        ("gold", pa.string()),
    ]
)
"""As in models/rl/rollout_table.py, which needs torch."""


def make_group(right_share: float, completions: int, lines: int, hostile: str, **place: int) -> list[dict[str, Any]]:
    """The completions of one question. The reward model is right more often than not."""
    boxes = place["group"] + 2
    rows = []
    for sample in range(completions):
        correct = random.random() < right_share
        answer = 4 * boxes - 3 + (not correct)
        rewards = [min(1.0, max(0.0, random.gauss(0.7 if correct else 0.4, 0.15))) for _ in range(lines + 1)]
        work = "".join(f"{boxes} * {line + 4} = {(line + 4) * boxes}, of which we need the {line + 1}.\n" for line in range(lines))
        rows.append(
            {
                **place,
                "problem_id": f"t{place['step']}-{boxes}",
                "question": f"Tom has {boxes} boxes of 4 pens and gives 3 pens away. How many are left? {hostile}",
                "gold": str(4 * boxes - 3),
                "sample": sample,
                "text": f"{work}The answer is \\boxed{{{answer}}}{hostile}",
                "step_ends": list(range(9, 10 * (lines + 1), 10)),
                "step_rewards": rewards,
                "reward": rewards[-1],
                "correct": correct,
                "finished": random.random() < 0.98,
            }
        )
    mean = fmean(row["reward"] for row in rows)
    spread = pstdev(row["reward"] for row in rows) or 1.0
    return [row | {"advantage": [(reward - mean) / spread for reward in row["step_rewards"]]} for row in rows]


def measured(groups: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float | None]:
    """The metrics of a step that follow from its rows."""
    rows = [row for group in groups for row in group]
    right = [sum(row["correct"] for row in group) for group in groups]
    size = len(groups[0])
    ranks = rankdata([row["reward"] for row in rows])
    positive = sum(right)
    rank_sum = sum(rank for rank, row in zip(ranks, rows, strict=True) if row["correct"])
    pairs = positive * (len(rows) - positive)
    return {
        "reward": fmean(row["reward"] for row in rows),
        "accuracy": positive / len(rows),
        "reward_auc": (rank_sum - positive * (positive + 1) / 2) / pairs if pairs else None,
        "truncated_share": 1 - fmean(row["finished"] for row in rows),
        "groups_all_right": sum(number == size for number in right) / len(right),
        "groups_mixed": sum(0 < number < size for number in right) / len(right),
        "groups_all_wrong": sum(number == 0 for number in right) / len(right),
    }


def in_store(folder: Path, artifacts: Sequence[ReportArtifact], *runs: dict[str, Any]) -> tuple[Ledger, list[ReportArtifact]]:
    """The artifacts moved into a store at `folder`, with complete manifests, real keys, and the store's ledger."""
    store = Store(folder)
    keys = {
        key: key if re.fullmatch("[0-9a-f]{20}", key) else hashlib.sha256(key.encode()).hexdigest()[:20]
        for key in (artifact.key for artifact in artifacts)
    }
    moved = []
    for artifact in artifacts:
        key = keys[artifact.key]
        path = store.folder(artifact.stage, key)
        if artifact.path.exists() and not path.exists():
            shutil.copytree(artifact.path, path)
        path.mkdir(parents=True, exist_ok=True)
        earlier = read_json(path / "manifest.json") if (path / "manifest.json").exists() else {}
        inputs = {role: keys[other] for role, other in artifact.inputs.items()}
        manifest = {
            "key": key,
            "stage": artifact.stage,
            "version": 1,
            "created": "2021-05-04T10:11:12Z",
            "seconds": artifact.seconds,
            "files": [],
            "config": artifact.config,
            "summary": artifact.summary,
            "inputs": inputs,
            "sources": [],
            "code": CODE,
        }
        manifest |= {name: earlier[name] for name in ("sources", "usage", "environment") if name in earlier}
        (path / "manifest.json").write_text(json.dumps(manifest))
        moved.append(replace(artifact, key=key, path=path, inputs=inputs))
    for run in runs:
        store.write_run(run | {"ended": run["started"]})
    ledger = Ledger(store)
    ledger.sync()
    return ledger, moved
