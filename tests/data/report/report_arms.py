"""Made-up artifacts of a comparison of training methods, of experiments, and of two runs side by side, for the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.runs.run_differences import ComparedRun
from mathquarry.data.report.sections.grid import FROZEN, REFRESHED, SHARED, ArmKey, name_of
from mathquarry.data.store.workspace import MetricLog
from tests.data.report.report_run import HOSTILE, make_run

BATCH = 100
FROM_SFT = ("sft", "evaluate-sft", "reward", "grpo", "evaluate-rl")


def trained(folder: Path, name: str, bits: list[float]) -> ReportArtifact:
    path = folder / name
    path.mkdir(parents=True)
    for step, value in enumerate(bits):
        MetricLog(path / "metrics.jsonl").log(step * 5, problems_bits=value)
        MetricLog(path / "metrics.jsonl").log(step * 5 + 1, loss=1.0)
    summary = {"tokens": (len(bits) - 1) * 5 * BATCH, "problems_bits": bits[-1]}
    return ReportArtifact(name, "pretrain", name, path, {"pretrain": {"batch_tokens": BATCH}}, summary, {}, 1.0, False)


def scored(folder: Path, name: str, greedy: float) -> ReportArtifact:
    scores = {"questions": 50, "greedy": greedy, "greedy_se": 0.07}
    return ReportArtifact(name, "evaluate", name, folder / name, {}, scores, {}, 1.0, False)


def experiment(tmp_path: Path) -> list[ReportArtifact]:
    """Two seeds: `mined` is 0.2 bits ahead of `crawl` in both, and no better after fine-tuning."""
    made = []
    for seed, shift in enumerate((0.0, 0.1)):
        made.append(trained(tmp_path, f"pretrain-code-start-{seed}", [2.0, 1.8 + shift]))
        made.append(trained(tmp_path, f"pretrain-code-crawl-{seed}", [1.8, 1.5 + shift]))
        made.append(scored(tmp_path, f"evaluate-code-crawl-{seed}", 0.4 + shift))
        made.append(trained(tmp_path, f"pretrain-part1-code-two-mines-{seed}", [1.8, 1.6]))
        made.append(trained(tmp_path, f"pretrain-code-two-mines-{seed}", [1.6, 1.3 + 1.2 * shift]))
        made.append(scored(tmp_path, f"evaluate-code-two-mines-{seed}", 0.45))
    return made


def method_artifact(folder: Path, name: str, summary: dict | None = None, curve: list[float] | None = None) -> ReportArtifact:
    path = folder / name
    path.mkdir(parents=True)
    for step, value in enumerate(curve or []):
        MetricLog(path / "metrics.jsonl").log(step * 5, test_accuracy=value)
    return ReportArtifact(name, name.split("-")[0], name, path, {}, summary or {}, {}, 1.0, False)


def method_scores(greedy: float, maj: float) -> dict[str, float]:
    at_k = {f"pass@{k}": 0.9 for k in (1, 2, 4)} | {f"maj@{k}": maj for k in (1, 2, 4)}
    return {"questions": 100, "greedy": greedy, "greedy_se": 0.02} | at_k | {f"{name}_se": 0.02 for name in at_k}


def compared_methods(tmp_path: Path) -> list[ReportArtifact]:
    made = [method_artifact(tmp_path, "evaluate-sft", method_scores(0.5, 0.5))]
    for method, values in {"rft": (0.60, 0.62), "online-rft": (0.70, 0.72), "grpo+os": (0.70, 0.73)}.items():
        for seed, value in enumerate(values):
            made.append(method_artifact(tmp_path, f"grpo-{method}-{seed}", curve=[0.5, value]))
            made.append(method_artifact(tmp_path, f"evaluate-{method}-{seed}", method_scores(value, value)))
    return made


def rewarded(folder: Path, name: str, aucs: list[float]) -> ReportArtifact:
    made = method_artifact(folder, name)
    for step, value in enumerate(aucs, 1):
        MetricLog(made.path / "metrics.jsonl").log(step, reward_auc=value)
    return made


def iterations(tmp_path: Path) -> list[ReportArtifact]:
    """Two seeds, two iterations: with a refresh 0.9 and 1.0, without 0.8 and 0.8."""
    made = [method_artifact(tmp_path, "evaluate-sft", method_scores(0.5, 0.5))]
    for seed in (0, 1):
        made.append(method_artifact(tmp_path, f"reward-{seed}-0", {"auc": 0.9, "auc_within_question": 0.8}))
        made.append(rewarded(tmp_path, f"grpo-both-{seed}-1", [0.9, 0.8]))
        made.append(method_artifact(tmp_path, f"evaluate-both-{seed}-1", method_scores(0.7, 0.7)))
        made.append(method_artifact(tmp_path, f"reward-{seed}-1", {"before_auc": 0.7 + seed / 10, "auc": 0.95, "auc_within_question": 0.9}))
        for arm, value in (("refreshed", 0.9 + seed / 10), ("frozen", 0.8)):
            made.append(rewarded(tmp_path, f"grpo-{arm}-{seed}-2", [value - 0.1, value - 0.3]))
            made.append(method_artifact(tmp_path, f"evaluate-{arm}-{seed}-2", method_scores(value, value)))
    return made


def grid(tmp_path: Path, seeds: int = 3) -> list[ReportArtifact]:
    """Two iterations: a sum of steps is 10 points above the completion's reward, a refresh 5 points above none, all with spread."""
    made = [method_artifact(tmp_path, "evaluate-sft", method_scores(0.5, 0.5))]
    for seed in range(seeds):
        for credit, above in (("outcome", 0.0), ("step-sum", 0.1)):
            first = ArmKey(credit, "process", SHARED)
            made += _arm_iteration(tmp_path, first, seed, 1, 0.6 + above)
            for model, refreshed in ((REFRESHED, 0.05), (FROZEN, 0.0)):
                arm = first._replace(model=model)
                made += _arm_iteration(tmp_path, arm, seed, 2, 0.65 + above + refreshed + 0.002 * seed * (1 + above + refreshed))
        for iteration in (1, 2):
            made += _arm_iteration(tmp_path, ArmKey("outcome", "rule", SHARED), seed, iteration, 0.7 + 0.01 * iteration)
    return made


def _arm_iteration(folder: Path, arm: ArmKey, seed: int, iteration: int, greedy: float) -> list[ReportArtifact]:
    grpo = rewarded(folder, name_of("grpo", arm, seed, iteration), [0.9 - 0.1 * iteration + 0.01 * seed, 0.8])
    scored = method_artifact(folder, name_of("evaluate", arm, seed, iteration), method_scores(greedy, greedy))
    return [replace(grpo, seconds=60.0), replace(scored, seconds=10.0)]


def make_two_runs(folder: Path) -> list[ComparedRun]:
    """The second fine-tunes longer, so that all later artifacts differ, and scores better."""
    runs = []
    for letter in "AB":
        record, artifacts = make_run(folder / letter, HOSTILE, 0.02 * (letter == "B"))
        if letter == "B":
            moved = {artifact.key: f"b{artifact.key[1:]}" for artifact in artifacts if artifact.name.startswith(FROM_SFT)}
            config = record["config"] | {"sft": {"steps": 500}, "name": f"small{HOSTILE}"}
            stages = [stage | {"key": moved.get(stage["key"], stage["key"])} for stage in record["stages"]]
            record = record | {"id": "20310505", "config": config, "stages": stages}
            artifacts = [
                replace(
                    artifact,
                    key=moved.get(artifact.key, artifact.key),
                    inputs={role: moved.get(key, key) for role, key in artifact.inputs.items()},
                    config={"sft": {"steps": 500}} if artifact.name == "sft" else artifact.config,
                )
                for artifact in artifacts
            ]
        runs.append(ComparedRun(letter, record, artifacts))
    return runs
