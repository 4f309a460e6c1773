"""Stage `report`: one self-contained HTML page about a run.

The page needs no network: style, script and plotly.js are in it, and its content security policy allows nothing else. Everything that came
from a model or a web page is escaped by the template, and the policy names the two scripts by their hashes, so nothing else could run.
A section whose artifacts are missing is left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from data.files import atomic_path
from data.report.answers import answer_section
from data.report.artifact import ReportArtifact
from data.report.blocks import Chart, Section
from data.report.comparison import comparison_section, method_of
from data.report.corpus import corpus_section
from data.report.cost import cost_section, environment_section
from data.report.experiments import arms_of, experiment_section
from data.report.iterations import arms_of as iterated_arms
from data.report.iterations import iteration_section
from data.report.provenance import code_version, config_section, lineage_section
from data.report.results import accuracy_section, accuracy_source, stage_scores
from data.report.rollouts import rollout_section
from data.report.training import loss_section, reward_section, rl_section

__all__ = ["ReportArtifact", "build_report"]

FOLDER = Path(__file__).parent


def build_report(run: dict[str, Any], artifacts: list[ReportArtifact], out: Path) -> dict[str, int | float | str]:
    """Write `out / "report.html"`. `run` is the record of the run: id, recipe, started, status, config, stages.

    Returns its size, sections and charts. Raises `MathQuarryError` for a file of an artifact that cannot be read.
    """
    return write_page(run, artifacts, make_sections(run, artifacts), out)


def write_page(
    run: dict[str, Any], artifacts: Sequence[ReportArtifact], sections: Sequence[Section], out: Path
) -> dict[str, int | float | str]:
    """Write `out / "report.html"` with these sections; on top stand `run` and the artifacts' scores. Returns what `build_report` does."""
    page = render(run, artifacts, sections)
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return {
        "bytes": len(page.encode()),
        "sections": len(sections),
        "charts": sum(isinstance(block, Chart) for section in sections for block in section.blocks),
    }


def make_sections(run: dict[str, Any], artifacts: Sequence[ReportArtifact]) -> list[Section]:
    """The sections that this run has, in the order of the page."""
    reused = {stage["name"]: bool(stage["reused"]) for stage in run.get("stages", [])}
    about = [cost_section(artifacts, reused), environment_section(artifacts), config_section(run.get("config", {}))]
    if experiment := experiment_section(artifacts):
        return present([experiment, lineage_section(artifacts), *about])
    if iterated := iteration_section(artifacts):
        return present([iterated, loss_section(artifacts), lineage_section(artifacts), *about])
    if compared := comparison_section(artifacts):
        return present([compared, loss_section(artifacts), reward_section(artifacts), *about])
    return present([*path_sections(artifacts), lineage_section(artifacts), *about])


def path_sections(artifacts: Sequence[ReportArtifact]) -> list[Section | None]:
    """What the stages from corpus to scores did."""
    return [
        accuracy_section(artifacts),
        corpus_section(artifacts),
        loss_section(artifacts),
        reward_section(artifacts),
        rl_section(artifacts),
        rollout_section(artifacts),
        answer_section(artifacts),
    ]


def present(sections: Sequence[Section | None]) -> list[Section]:
    """Without the ones whose artifacts are missing."""
    return [section for section in sections if section is not None]


def render(run: dict[str, Any], artifacts: Sequence[ReportArtifact], sections: Sequence[Section]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    compared = any(map(method_of, artifacts)) or arms_of(artifacts) or iterated_arms(artifacts)  # its table says it better
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    headline = [] if compared else [(label, scores.greedy) for label, scores in stage_scores(artifacts)]
    plotly, script = get_plotlyjs(), (FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        run=run,
        sections=sections,
        headline=headline,
        headline_source=accuracy_source(artifacts) if headline else None,
        versions=list(dict.fromkeys(filter(None, map(code_version, artifacts)))),
        chart_ids={id(chart): f"chart-{number}" for number, chart in enumerate(charts)},
        identify=id,
        charts={f"chart-{number}": chart.spec for number, chart in enumerate(charts)},
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        plotly=plotly,
        script=script,
        policy=_policy([plotly, script]),
        to_json=_script_json,
    )


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
