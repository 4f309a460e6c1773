"""Stage `report`: one self-contained HTML page about a run.

The page needs no network: it includes style, script and plotly.js. Text from models and web pages is escaped by the template. The content
security policy allows only the two scripts, by their hashes. Sections without artifacts are left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from mathquarry.data.files import atomic_path
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Chart, Section
from mathquarry.data.report.page.opening import EMPTY, Opening, anchored, anchors_of
from mathquarry.data.report.sections.answers import answer_section
from mathquarry.data.report.sections.comparison import comparison_section, method_of
from mathquarry.data.report.sections.corpus import corpus_section
from mathquarry.data.report.sections.cost import cost_section, environment_section
from mathquarry.data.report.sections.experiments import arms_of, experiment_section
from mathquarry.data.report.sections.findings import findings
from mathquarry.data.report.sections.grid import grid_of
from mathquarry.data.report.sections.grid_section import grid_opening, grid_section
from mathquarry.data.report.sections.iterations import arms_of as iterated_arms
from mathquarry.data.report.sections.iterations import iteration_section
from mathquarry.data.report.sections.provenance import code_version, config_section, lineage_section
from mathquarry.data.report.sections.results import accuracy_section, accuracy_source, stage_scores
from mathquarry.data.report.sections.rollouts import rollout_section
from mathquarry.data.report.sections.run_warnings import run_warnings
from mathquarry.data.report.sections.training import loss_section, reward_section, rl_section

__all__ = ["ReportArtifact", "build_report"]

FOLDER = Path(__file__).parent


def build_report(run: dict[str, Any], artifacts: list[ReportArtifact], out: Path) -> dict[str, int | float | str]:
    """Write `out / "report.html"`. `run` is the record of the run: id, recipe, started, status, config, stages.

    Returns its size, sections and charts. Raises `MathQuarryError` if a file of an artifact cannot be read.
    """
    return write_page(run, artifacts, make_sections(run, artifacts), out, make_opening(run, artifacts))


def make_opening(run: dict[str, Any], artifacts: Sequence[ReportArtifact]) -> Opening:
    """Return warnings and findings. For arms or methods there are none: their tables say which differences are more than noise."""
    if grid_of(artifacts):
        return grid_opening(artifacts)
    if _compared(artifacts):
        return EMPTY
    return Opening(run_warnings(run, artifacts), findings(artifacts))


def _compared(artifacts: Sequence[ReportArtifact]) -> bool:
    """Whether the run compares arms or methods. Their tables then replace the scores at the top."""
    return bool(any(map(method_of, artifacts)) or arms_of(artifacts) or iterated_arms(artifacts) or grid_of(artifacts))


@dataclass(frozen=True)
class Watch:
    """What a page needs to load itself again: the version that it shows, and the script that asks for newer ones."""

    version: str
    script: str


def write_page(
    run: dict[str, Any],
    artifacts: Sequence[ReportArtifact],
    sections: Sequence[Section],
    out: Path,
    opening: Opening = EMPTY,
) -> dict[str, int | float | str]:
    """Write `out / "report.html"` with these sections. At the top are `run`, the opening and the artifacts' scores.

    Returns the same as `build_report`.
    """
    page = render(run, artifacts, sections, opening)
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return {
        "bytes": len(page.encode()),
        "sections": len(sections),
        "charts": sum(isinstance(block, Chart) for section in sections for block in section.blocks),
    }


def make_sections(run: dict[str, Any], artifacts: Sequence[ReportArtifact], at_work: ReportArtifact | None = None) -> list[Section]:
    """Return the sections of this run, in order. `at_work` is the artifact that is being made, if the run is still going on."""
    reused = {stage["name"]: bool(stage["reused"]) for stage in run.get("stages", [])}
    about = [cost_section(artifacts, reused), environment_section(artifacts), config_section(run.get("config", {}))]
    if grid := grid_section(artifacts):
        return present([grid, loss_section(artifacts), lineage_section(artifacts), *about])
    if experiment := experiment_section(artifacts):
        return present([experiment, lineage_section(artifacts), *about])
    if iterated := iteration_section(artifacts):
        return present([iterated, loss_section(artifacts), lineage_section(artifacts), *about])
    if compared := comparison_section(artifacts):
        return present([compared, loss_section(artifacts), reward_section(artifacts), *about])
    path = path_sections([*artifacts, at_work] if at_work else artifacts)
    return present([*path, lineage_section(artifacts), *about])


def path_sections(artifacts: Sequence[ReportArtifact]) -> list[Section | None]:
    """Return the sections about the stages from corpus to scores."""
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
    """Drop sections whose artifacts are missing."""
    return [section for section in sections if section is not None]


def render(
    run: dict[str, Any],
    artifacts: Sequence[ReportArtifact],
    sections: Sequence[Section],
    opening: Opening = EMPTY,
    watch: Watch | None = None,
) -> str:
    """Return the page as HTML. With `watch`, the page reloads itself."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    headline = [] if _compared(artifacts) else [(label, scores.greedy) for label, scores in stage_scores(artifacts)]
    anchors = anchors_of(sections)
    plotly, script = get_plotlyjs(), (FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        run=run,
        sections=sections,
        warnings=anchored(opening.warnings, sections, anchors),
        findings=anchored(opening.findings, sections, anchors),
        anchors=anchors,
        headline=headline,
        headline_source=accuracy_source(artifacts) if headline else None,
        versions=list(dict.fromkeys(filter(None, map(code_version, artifacts)))),
        chart_ids={id(chart): f"chart-{number}" for number, chart in enumerate(charts)},
        identify=id,
        charts={f"chart-{number}": chart.spec for number, chart in enumerate(charts)},
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        plotly=plotly,
        script=script,
        watch=watch,
        policy=_policy([plotly, script]) if watch is None else _policy([plotly, script, watch.script]) + "; connect-src 'self'",
        to_json=_script_json,
    )


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def _script_json(value: Any) -> str:
    """Encode JSON so that it cannot close the script element that contains it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
