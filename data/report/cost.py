"""Sections "cost" and "environment": time, tokens and an estimate of energy by artifact; and what the artifacts were made on.

Manifests of earlier versions do not say what an artifact used or was made on: that is a dash here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact, series
from data.report.blocks import Section, Table, count, duration, number, short
from data.report.provenance import time_section

CORE_WATTS = 10.0
"""Power of a processor core at work, its share of the machine's memory and fans with it. Assumed (our choice), not measured."""
ON_GPU = frozenset({"pretrain", "sft", "rejection", "reward", "grpo", "evaluate", "harness"})
"""Stages that compute on GPUs where there are any."""
JOULES = 3.6e6
"""In a kilowatt-hour."""

ENERGY = (
    f"Energy is an estimate, not a measurement: processor time at {CORE_WATTS:g} W a core (an assumption), and for stages that train or "
    "sample, wall-clock time at the power limit of every GPU they could use (an upper bound). Cooling and other machines are not in it."
)
NOTES = (
    "Peak memory is that of the process that made the artifact, without its child processes. Tokens trained are those of the batches, "
    "padding included; GRPO learns from the tokens it samples, each as often as there are updates a step. Tokens that only a reward "
    "model's labels were sampled from are not recorded."
)


@dataclass(frozen=True)
class Cost:
    """What an artifact took; None is what was not recorded."""

    seconds: float
    cpu_seconds: float | None
    gpu_seconds: float | None
    peak_bytes: float | None
    trained: float | None
    sampled: float | None
    joules: float | None


def cost_of(artifact: ReportArtifact) -> Cost:
    """From the manifest, the summary, the metrics and the rows of answers."""
    manifest = artifact.json("manifest.json") or {}
    usage, place = manifest.get("usage", {}), manifest.get("environment", {})
    gpus = (place["gpus"] if artifact.stage in ON_GPU else []) if place else None
    cpu = number(usage, "cpu_seconds")
    joules = None
    if cpu is not None and gpus is not None and all(gpu["watts"] is not None for gpu in gpus):
        joules = CORE_WATTS * cpu + artifact.seconds * sum(gpu["watts"] for gpu in gpus)
    gpu_seconds = None if gpus is None else artifact.seconds * len(gpus)
    trained, sampled = _tokens(artifact)
    return Cost(artifact.seconds, cpu, gpu_seconds, number(usage, "peak_bytes"), trained, sampled, joules)


def _tokens(artifact: ReportArtifact) -> tuple[float | None, float | None]:
    """(trained, sampled)."""
    if artifact.stage in ("pretrain", "sft", "reward"):
        return number(artifact.summary, "tokens"), None
    if artifact.stage == "grpo":
        outputs, lengths = number(artifact.summary, "outputs"), series(artifact.metrics(), "output_tokens")[1]
        # Every step has the same number of outputs.
        sampled = None if outputs is None or not lengths else outputs * sum(lengths) / len(lengths)
        config = artifact.config.get("grpo", {})
        trained = None if sampled is None else config.get("updates_per_step", 1) * sampled
        return trained, None if config.get("paradigm", {}).get("data") == "examples" else sampled
    files = {"evaluate": "answers.parquet", "rejection": "solutions.parquet"}
    path = artifact.path / files.get(artifact.stage, "")
    if artifact.stage in files and path.exists() and "tokens" in pq.read_schema(path).names:
        return None, pc.sum(pq.read_table(path, columns=["tokens"])["tokens"]).as_py()
    return None, None


def total(costs: Sequence[Cost]) -> Cost:
    """Sums of what is known, and the greatest memory."""

    def known(name: str) -> list[float]:
        return [value for cost in costs if (value := getattr(cost, name)) is not None]

    sums = {name: sum(values) if (values := known(name)) else None for name in Cost.__annotations__ if name != "seconds"}
    peak = max(known("peak_bytes"), default=None)
    return Cost(**{**sums, "seconds": sum(known("seconds")), "peak_bytes": peak})  # type: ignore[arg-type]


HEADERS = ("Time", "Processor time", "GPU time", "Peak memory", "Tokens trained", "Tokens sampled", "Energy, estimated")


def cost_cells(cost: Cost) -> list[str]:
    """The cells under `HEADERS`."""
    return [
        duration(cost.seconds),
        _time(cost.cpu_seconds),
        _time(cost.gpu_seconds or None),
        "–" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**30:.2f} GiB",
        "–" if cost.trained is None else short(cost.trained),
        "–" if cost.sampled is None else short(cost.sampled),
        energy(cost.joules),
    ]


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def energy(joules: float | None) -> str:
    """In the unit that reads best."""
    if joules is None:
        return "–"
    if joules < 36:
        return "< 0.01 Wh"
    return f"{joules / 3600:.3g} Wh" if joules < JOULES else f"{joules / JOULES:,.3g} kWh"


def cost_section(artifacts: Sequence[ReportArtifact], reused: Mapping[str, bool]) -> Section:
    """Time as bars, and the rest as a table; `reused` tells by name which artifacts this run found in the store."""
    costs = [cost_of(artifact) for artifact in artifacts]
    rows = [[artifact.name, *cost_cells(cost)] for artifact, cost in zip(artifacts, costs, strict=True)]
    made = [cost for artifact, cost in zip(artifacts, costs, strict=True) if not reused.get(artifact.name)]
    if 0 < len(made) < len(costs):
        rows.append(["Made in this run", *cost_cells(total(made))])
    rows.append(["All", *cost_cells(total(costs))])
    time = time_section(artifacts, reused)
    unknown = sum(cost.joules is None for cost in costs)
    missing = f" {unknown} of {len(costs)} artifacts did not record what it takes to estimate it." if unknown else ""
    note = f"Sums leave out dashes, which were not recorded or are none. {ENERGY}{missing} {NOTES}"
    table = Table(["Artifact", *HEADERS], rows, frozenset(range(1, len(HEADERS) + 1)), "What each artifact took", note=note)
    return Section("cost", "Cost", time.lead, [*time.blocks, table])


def environment_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """What the artifacts were made on, a column for each environment; None where no manifest says anything of it."""
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    for artifact in artifacts:
        facts = _facts(artifact.json("manifest.json") or {})
        found.setdefault(json.dumps(facts), (facts, []))[1].append(artifact.name)
    if not any(facts for facts, _ in found.values()):
        return None
    names = list(dict.fromkeys(name for facts, _ in found.values() for name in facts))
    rows = [[name, *(facts.get(name, "–") for facts, _ in found.values())] for name in names]
    headers = ["", "All artifacts"]
    if len(found) > 1:
        headers = ["", *(f"{len(made)} artifacts" if len(made) > 1 else made[0] for _, made in found.values())]
        rows.append(["Artifacts", *(", ".join(made) for _, made in found.values())])
    return Section(
        "environment",
        "Environment",
        "What the artifacts were made on, as their manifests say. It is not part of their keys.",
        [Table(headers, rows)],
    )


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    code, place = manifest.get("code", {}), manifest.get("environment", {})
    facts = {}
    if code.get("version"):
        facts["MathQuarry"] = " ".join(str(code[part]) for part in ("version", "revision") if code.get(part))
    if code.get("python"):
        facts["Python"] = str(code["python"])
    if not place:
        return facts
    gpus = place["gpus"]
    described = [f"{gpu['name']}, {(gpu['memory_mib'] or 0) / 1024:.0f} GiB, driver {gpu['driver']}" for gpu in gpus or []]
    return {
        **facts,
        **place["packages"],
        "System": f"{place['system']}, {place['machine']}",
        "Host": place["host"],
        "Processor": f"{count(place['processors'])} × {place['processor'] or 'unknown'}",
        "Memory": f"{place['memory_bytes'] / 2**30:.0f} GiB",
        "GPUs": "–" if gpus is None else "; ".join(f"{described.count(one)} × {one}" for one in dict.fromkeys(described)) or "none",
    }
