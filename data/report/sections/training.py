"""Sections "training" (loss curves), "reward model" and "reinforcement learning" (curves over all iterations)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact, joined, of_stage, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, number, percent, rounded, short
from mathquarry.data.report.page.charts import Line, lines, stacked_shares
from mathquarry.data.report.page.source import Named, Source, keys, metrics_source, summary_source
from mathquarry.data.report.sections.rl_trends import iterations_of, trend_table

TITLES = {"pretrain": "Pretraining loss", "sft": "Fine-tuning loss"}

REWARD_COLUMNS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("training_solutions", "New solutions", count),
    ("replayed_solutions", "Replayed", count),
    ("correct_share", "Correct share of new", percent),
    ("before_auc", "AUC before", rounded),
    ("auc", "AUC after", rounded),
    ("auc_within_question", "AUC within a question", rounded),
    ("step_auc", "AUC of steps", rounded),
    ("accuracy", "Correct side of 0.5", percent),
)
"""(metric of the summary, heading, format)."""


@dataclass(frozen=True)
class Panel:
    """One chart in the RL section: metrics by name with their labels."""

    title: str
    metrics: tuple[tuple[str, str], ...]
    note: str = ""
    y_format: str = ""
    stacked: bool = False
    if_any: bool = False
    """Left out if every value is zero."""


PANELS = (
    Panel(
        "Reward and true accuracy",
        (("reward", "reward model's score"), ("accuracy", "share of correct answers")),
        "A reward that rises while accuracy does not is reward hacking.",
        ".2f",
    ),
    Panel(
        "Groups by outcome",
        (("groups_all_right", "all correct"), ("groups_mixed", "mixed"), ("groups_all_wrong", "all wrong")),
        "Groups of completions of one question, by correctness.",
        stacked=True,
    ),
    Panel("KL to the reference", (("kl", "KL"),), "Eq. 4, in nats per token. The reference is the policy at the start of the iteration."),
    Panel("Entropy", (("entropy", "entropy"),), "Nats per token, estimated at the sampled tokens."),
    Panel("Completion length", (("completion_tokens", "tokens"),), "Mean tokens per completion."),
    Panel("Truncated completions", (("truncated_share", "share"),), "Share of completions that reached the maximum length.", ".1%"),
    Panel(
        "Reward model's AUC on the rollouts",
        (("reward_auc", "AUC"),),
        "How well it separates correct from wrong completions of a step.",
        ".2f",
    ),
    Panel(
        "Trainer against engine",
        (("probe_mean", "mean"), ("probe_largest", "largest")),
        "Difference of log-probabilities in the check after each weight sync, in nats.",
        ".1e",
    ),
    Panel(
        "Engine against trainer on the rollouts",
        (("mismatch_mean", "mean"),),
        "Difference of log-probabilities of all sampled tokens, before each step's first update, in nats.",
        ".1e",
    ),
    Panel("Held-out accuracy", (("test_accuracy", "greedy"),), "Greedy answers to held-out questions.", ".0%"),
    Panel("Spread of advantages", (("advantage_std", "standard deviation"),), "Over all tokens of a step.", ".2f"),
    Panel(
        "Tokens per second",
        (("sample_tokens_per_second", "sample"), ("score_tokens_per_second", "score"), ("update_tokens_per_second", "update")),
        "Completion tokens of a step, divided by the time of each phase.",
        ".2s",
    ),
    Panel("Peak memory", (("peak_gib", "GiB"),), "Of the GPU, or of the process without a GPU.", ".2f"),
    Panel("Clipped tokens", (("clip_fraction", "share"),), "Share of tokens whose gradient is clipped.", ".2%", if_any=True),
    Panel("Gradient norm", (("gradient_norm", "norm"),), "Before clipping."),
)


def loss_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show the losses of pretraining and fine-tuning."""
    blocks: list[Block] = []
    for stage, title in TITLES.items():
        for artifact in of_stage(artifacts, stage):
            records = artifact.metrics()
            steps, losses = series(records, "loss")
            if not losses:
                continue
            tokens = series(records, "tokens")[1]
            by_tokens = len(tokens) == len(steps)
            curve = Line("loss", tokens if by_tokens else steps, losses)
            note = f"{count(steps[-1])} steps" + (f", {short(tokens[-1])} tokens" if by_tokens else "") + f"; last loss {losses[-1]:.3f}."
            source = metrics_source([(artifact.name, artifact)], ["loss", "tokens"])
            blocks.append(Chart(title, lines([curve], "tokens" if by_tokens else "step"), note, source=source))
    if not blocks:
        return None
    return Section("training", "Training losses", "Cross-entropy in nats per token, on the batch of each step.", blocks)


def reward_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show how well the reward model separates correct from wrong completions, before and after each training."""
    models = of_stage(artifacts, "reward")
    if not models:
        return None
    named = [(f"after RL {model.iteration}" if model.iteration else "first training", model) for model in models]
    kept = [column for column in REWARD_COLUMNS if any(number(model.summary, column[0]) is not None for model in models)]
    rows = [[name, *(shown(number(model.summary, metric)) for metric, _, shown in kept)] for name, model in named]
    headers = ["Reward model", *(heading for _, heading, _ in kept)]
    source = summary_source(named, [metric for metric, _, _ in kept])
    blocks: list[Block] = [Table(headers, rows, frozenset(range(1, len(headers))), source=source)]
    curves = [Line(name, *series(model.metrics(), "loss")) for name, model in named]
    curves = [curve for curve in curves if curve.y]
    if curves:
        note = "Binary cross-entropy at the labelled tokens."
        blocks.append(Chart("Reward model loss", lines(curves, "step"), note, wide=True, source=metrics_source(named, ["loss"])))
    found = [(name, model.json("curves.json")) for name, model in named]
    known = [(name, curves) for name, curves in found if curves]
    held = f"from json_files where file = 'curves.json' and artifact in {keys(models)}"
    source = Source.of(models, f"select artifact, content->'calibration' as calibration, content->'best_of_n' as best_of_n\n{held}")
    calibrated = [
        Line(name, [point["score"] for point in curves["calibration"]], [point["right"] for point in curves["calibration"]])
        for name, curves in known
    ]
    if calibrated:
        ideal = Line("ideal", [0.0, 1.0], [0.0, 1.0], "@faint")
        note = "Share of correct solutions by score, on held-out questions. On the diagonal, scores are probabilities."
        blocks.append(Chart("Calibration", lines([*calibrated, ideal], "score", ".0%", (0, 1), points=True), note, source=source))
        best = [
            Line(
                name,
                [int(n) for n, value in curves["best_of_n"].items() if value is not None],
                [v for v in curves["best_of_n"].values() if v is not None],
            )
            for name, curves in known
        ]
        note = "Accuracy of the best-scored of N different solutions to a held-out question; N = 1 is a random solution."
        blocks.append(Chart("Best of N", lines(best, "N", ".0%", log_x=True, points=True), note, source=source))
    supervision = models[0].config.get("reward", {}).get("supervision", "")
    return Section(
        "reward",
        "Reward model",
        (f"{supervision.capitalize()} supervision. " if supervision else "")
        + "AUC: the probability that a correct solution scores above a wrong one, on held-out questions; 0.5 is guessing.  "
        "“Before” is the model before this training, on the new policy's solutions.",
        blocks,
    )


def rl_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show GRPO's curves, with the iterations one after another on one axis."""
    records, begins = joined(of_stage(artifacts, "grpo"))
    named = [(f"iteration {artifact.iteration}" if artifact.iteration else artifact.name, artifact) for _, artifact in begins]
    marks = [(float(step), name) for (step, _), (name, _) in zip(begins, named, strict=True)]
    blocks: list[Block] = [chart for panel in PANELS if (chart := _chart(panel, records, marks, named)) is not None]
    if not blocks:
        return None
    if table := trend_table(iterations_of(artifacts)):
        blocks.insert(0, table)
    return Section(
        "rl",
        "Reinforcement learning",
        f"{len(marks)} GRPO iteration{'s' if len(marks) > 1 else ''}, a dotted line where each starts: a new reference, and a reward model "
        "refreshed on the policy's own completions. Accuracy is that of the sampled training completions, according to the answer checker.",
        blocks,
    )


def _chart(panel: Panel, records: Sequence[dict[str, Any]], marks: Sequence[tuple[float, str]], named: Named) -> Chart | None:
    curves = [Line(label, *series(records, name)) for name, label in panel.metrics]
    curves = [curve for curve in curves if curve.y]
    if not curves or (panel.if_any and not any(any(curve.y) for curve in curves)):
        return None
    if panel.stacked:
        tones = {"all correct": "@good", "mixed": "@c1", "all wrong": "@bad"}
        curves = [Line(curve.name, curve.x, curve.y, tones.get(curve.name)) for curve in curves]
        spec = stacked_shares(curves, "step", marks)
    else:
        spec = lines(curves, "step", y_format=panel.y_format, marks=marks)
    return Chart(panel.title, spec, panel.note, source=metrics_source(named, [name for name, _ in panel.metrics]))
