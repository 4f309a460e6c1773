"""Sections "cost" and "environment": time, tokens and estimated energy by artifact, and the machines that made them.

Manifests of earlier versions do not record this; a dash is shown instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact, series
from mathquarry.data.report.page.blocks import Section, Table, count, duration, number, short
from mathquarry.data.report.page.source import Named, Source, keys, names_table, strings
from mathquarry.data.report.sections.provenance import time_section

CORE_WATTS = 10.0
"""Power of a processor core under load, with its share of the machine's memory and fans. Assumed (our choice), not measured."""
ON_GPU = frozenset({"pretrain", "sft", "rejection", "reward", "grpo", "evaluate", "harness"})
"""Stages that use GPUs if there are any."""
SAMPLED = {"evaluate": "answers", "rejection": "solutions"}
"""Stages that store samples as rows, and the view of these rows."""
JOULES = 3.6e6
"""In a kilowatt-hour."""

ENERGY = (
    f"Energy is an estimate, not a measurement: processor time at {CORE_WATTS:g} W per core (an assumption), and for stages that train or "
    "sample, wall-clock time at the power limit of every GPU they could use (an upper bound). Cooling and other machines are not included."
)
NOTES = (
    "Peak memory is that of the process that made the artifact, without child processes. Tokens trained are tokens in batches, including "
    "padding; in GRPO, sampled tokens times updates per step. Tokens that were only sampled for a reward model's labels are not recorded."
)


@dataclass(frozen=True)
class Cost:
    """The cost of an artifact. None means not recorded."""

    seconds: float
    cpu_seconds: float | None
    gpu_seconds: float | None
    peak_bytes: float | None
    trained: float | None
    sampled: float | None
    joules: float | None


def cost_of(artifact: ReportArtifact) -> Cost:
    """Compute the cost from the manifest, the summary, the metrics and the rows of answers."""
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
        completions, lengths = number(artifact.summary, "completions"), series(artifact.metrics(), "completion_tokens")[1]
        # Every step has the same number of completions.
        sampled = None if completions is None or not lengths else completions * sum(lengths) / len(lengths)
        config = artifact.config.get("grpo", {})
        trained = None if sampled is None else config.get("num_updates", 1) * sampled
        return trained, None if config.get("paradigm", {}).get("data") == "examples" else sampled
    if _counts_rows(artifact):
        return None, pc.sum(pq.read_table(artifact.path / f"{SAMPLED[artifact.stage]}.parquet", columns=["tokens"])["tokens"]).as_py()
    return None, None


def _counts_rows(artifact: ReportArtifact) -> bool:
    """Whether the rows have token counts; rows of earlier versions do not."""
    path = artifact.path / f"{SAMPLED.get(artifact.stage)}.parquet"
    return path.exists() and "tokens" in pq.read_schema(path).names


def total(costs: Sequence[Cost]) -> Cost:
    """Sum the known costs; the peak memory is the maximum."""

    def known(name: str) -> list[float]:
        return [value for cost in costs if (value := getattr(cost, name)) is not None]

    sums = {name: sum(values) if (values := known(name)) else None for name in Cost.__annotations__ if name != "seconds"}
    peak = max(known("peak_bytes"), default=None)
    return Cost(**{**sums, "seconds": sum(known("seconds")), "peak_bytes": peak})  # type: ignore[arg-type]


def cost_source(named: Named, reused: Collection[str] | None = None) -> Source:
    """Return the query for `Cost` by name: of a run, or of an artifact, with sums over all and over those that are not `reused`."""
    artifacts = [artifact for _, artifact in named]
    counted = [
        f"select artifact as key, sum(tokens) as tokens from {view} where artifact in {keys(rows)} group by all\nunion all "
        for stage, view in SAMPLED.items()
        if (rows := [artifact for artifact in artifacts if artifact.stage == stage and _counts_rows(artifact)])
    ]
    groups = "name" if reused is None else "grouping sets ((name, reused), (reused), ())"
    query = (
        f"with sampled as ({''.join(counted)}select key, avg(value) as tokens from metrics\n"
        f"where metrics.name = 'completion_tokens' and key in {keys(artifacts)} group by all),\n"
        "recorded as (select artifact as key, (content->'usage'->>'cpu_seconds')::double as cpu_seconds,\n"
        "(content->'usage'->>'peak_bytes')::double as peak_bytes, json_type(content->'environment'->'gpus') = 'ARRAY' as asked,\n"
        "content->'environment' as place, json_extract(place, '$.gpus[*].watts')::double[] as limits\n"
        f"from json_files where file = 'manifest.json' and artifact in {keys(artifacts)}),\n"
        f"cost as (select name, {f'name in {strings(reused)}' if reused else 'false'} as reused, seconds, cpu_seconds, peak_bytes,\n"
        f"case when stage in {strings(sorted(ON_GPU))} then case when asked then limits end when place is not null then [] end as watts,\n"
        "(config->'grpo'->>'num_updates')::double as updates, (summary->>'completions')::double * tokens as generated,\n"
        "case when stage in ('pretrain', 'sft', 'reward') then (summary->>'tokens')::double\n"
        "when stage = 'grpo' then coalesce(updates, 1) * generated end as trained,\n"
        "case when stage <> 'grpo' then tokens when (config->'grpo'->'paradigm'->>'data') is distinct from 'examples' then generated end\n"
        "as sampled\n"
        f"from {names_table(named)} join artifacts using (key) left join recorded using (key) left join sampled using (key))\n"
        f"select name{'' if reused is None else ', reused'}, sum(seconds) as seconds, sum(cpu_seconds) as cpu_seconds,\n"
        "sum(seconds * len(watts)) as gpu_seconds, max(peak_bytes) as peak_bytes, sum(trained) as trained, sum(sampled) as sampled,\n"
        f"sum(case when list_count(watts) = len(watts) then {CORE_WATTS:g} * cpu_seconds + seconds * coalesce(list_sum(watts), 0) end)\n"
        f"as joules from cost group by {groups} order by all"
    )
    return Source.of(artifacts, query)


HEADERS = ("Time", "Processor time", "GPU time", "Peak memory", "Tokens trained", "Tokens sampled", "Energy, estimated")


def cost_cells(cost: Cost) -> list[str]:
    """Return the cells for `HEADERS`."""
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
    """Format energy with a suitable unit."""
    if joules is None:
        return "–"
    if joules < 36:
        return "< 0.01 Wh"
    return f"{joules / 3600:.3g} Wh" if joules < JOULES else f"{joules / JOULES:,.3g} kWh"


def cost_section(artifacts: Sequence[ReportArtifact], reused: Mapping[str, bool]) -> Section:
    """Show time as bars, and the rest as a table. `reused` says by name which artifacts the run found in the store."""
    costs = [cost_of(artifact) for artifact in artifacts]
    rows = [[artifact.name, *cost_cells(cost)] for artifact, cost in zip(artifacts, costs, strict=True)]
    made = [cost for artifact, cost in zip(artifacts, costs, strict=True) if not reused.get(artifact.name)]
    if 0 < len(made) < len(costs):
        rows.append(["Made in this run", *cost_cells(total(made))])
    rows.append(["All", *cost_cells(total(costs))])
    time = time_section(artifacts, reused)
    unknown = sum(cost.joules is None for cost in costs)
    missing = f" {unknown} of {len(costs)} artifacts did not record the values needed for the estimate." if unknown else ""
    note = f"Dashes were not recorded or do not apply, and are not in the sums. {ENERGY}{missing} {NOTES}"
    source = cost_source([(artifact.name, artifact) for artifact in artifacts], [name for name, found in reused.items() if found])
    headers = ["Artifact", *HEADERS]
    table = Table(headers, rows, frozenset(range(1, len(headers))), "Cost of each artifact", note=note, source=source)
    return Section("cost", "Cost", time.lead, [*time.blocks, table])


def environment_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show the machines that made the artifacts, one column per environment; None if no manifest has this information."""
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
    source = Source.of(
        artifacts,
        "select name, content->'code' as code, content->'environment' as environment\n"
        f"from {names_table([(artifact.name, artifact) for artifact in artifacts])} join json_files on artifact = key\n"
        "where file = 'manifest.json'",
    )
    return Section(
        "environment",
        "Environment",
        "Hardware and software that made the artifacts, from their manifests. Not part of their keys.",
        [Table(headers, rows, source=source)],
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
