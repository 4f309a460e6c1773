"""Every metric of the report names its artifacts and a query, and the query gives what is drawn."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.sql import Answer, ask
from mathquarry.data.report.artifact_page import artifact_sections
from mathquarry.data.report.build import make_sections, render
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Bars, Chart, Fold, Groups, Section, Table, Verdicts
from mathquarry.data.report.page.source import MOST_KEYS, Source
from mathquarry.data.report.runs.compare_runs import comparison_sections, seeds_sections
from mathquarry.data.report.runs.seeds import read_seeds
from mathquarry.data.report.sections.cost import Cost, cost_cells
from mathquarry.data.report.sections.results import accuracy_source
from mathquarry.flows.__main__ import main
from tests.data.report.report_arms import compared_methods, experiment, grid, iterations, make_two_runs
from tests.data.report.report_run import HOSTILE, in_store, make_run

Made = tuple[Ledger, list[ReportArtifact], list[Section]]
KINDS = ("run", "comparison", "iterations", "grid", "experiment", "side by side", "seeds", "artifact")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """A run of each kind that has its own page, in a store with a ledger."""
    folder = tmp_path_factory.mktemp("sources")
    run, artifacts = make_run(folder / "run", HOSTILE)
    scores = {"mmlu acc": 0.45, "mmlu acc_se": 0.004}
    harness = ReportArtifact("harness-rl-1", "harness", "h", folder / "harness", {}, scores, {}, 1.0, False)
    other = {"id": "r", "recipe": "tiny", "started": "2021-05-04T10:11:12Z", "status": "completed", "stages": [], "config": {}}
    kinds = {
        "run": (run, [*artifacts, harness]),
        "comparison": (other, compared_methods(folder / "comparison")),
        "iterations": (other, iterations(folder / "iterations")),
        "grid": (other, grid(folder / "grid")),
        "experiment": (other, experiment(folder / "experiment")),
    }
    stored = {}
    for kind, (record, given) in kinds.items():
        ledger, moved = in_store(folder / f"{kind}-store", given, record)
        stored[kind] = (ledger, moved, make_sections(record, moved))
    runs = make_two_runs(folder / "runs")
    ledger, moved = in_store(folder / "runs-store", [artifact for run in runs for artifact in run.artifacts], *(run.record for run in runs))
    first = len(runs[0].artifacts)
    runs = [replace(run, artifacts=own) for run, own in zip(runs, (moved[:first], moved[first:]), strict=True)]
    stored["side by side"] = (ledger, moved, comparison_sections(runs))
    stored["seeds"] = (ledger, moved, seeds_sections(read_seeds(runs)))
    _, own = make_run(folder / "lineage", HOSTILE)
    ledger, lineage = in_store(folder / "artifact-store", own)
    asked = next(artifact for artifact in lineage if artifact.name == "grpo-2")
    stored["artifact"] = (ledger, lineage, artifact_sections(asked, lineage, ["evaluate-rl-2"]))
    return stored


def metrics(sections: list[Section]) -> Iterator[Any]:
    return (block for section in sections for block in section.blocks if not isinstance(block, Fold))


def numbers(value: Any) -> Iterator[float]:
    """All numbers in an answer, including nested ones and those in JSON."""
    if isinstance(value, Mapping):
        yield from numbers(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, str) and value[:1] in ("[", "{"):
        yield from numbers(json.loads(value))
    elif re.fullmatch(r"-?[\d.]+(e-?\d+)?", str(value)):
        yield float(value)


def missing(drawn: list[float], answer: Answer) -> list[float]:
    given = np.sort(np.fromiter(numbers(answer.rows), float))
    places = np.clip(np.searchsorted(given, drawn), 1, len(given) - 1)
    nearest = np.minimum(np.abs(given[places] - drawn), np.abs(given[places - 1] - drawn))
    return [value for value, off in zip(drawn, nearest, strict=True) if off > 1e-5 * max(1.0, abs(value))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_names_artifacts_of_the_run_and_a_query_that_gives_rows(kind: str, made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made[kind]
    known = {(artifact.stage, artifact.key) for artifact in artifacts}
    assert len(list(metrics(sections))) >= 5
    for block in metrics(sections):
        assert set(block.source.artifacts) <= known, block.title
        assert block.source.artifacts, block.title
        assert ask(ledger, block.source.query).rows, block.title
        assert HOSTILE not in block.source.query


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_chart_is_in_what_its_query_gives(kind: str, made: dict[str, Made]) -> None:
    ledger, _, sections = made[kind]
    charts = [block for block in metrics(sections) if isinstance(block, Chart)]
    assert charts
    for chart in charts:
        traces = [trace for trace in chart.spec["data"] if trace.get("name") != "ideal"]
        answer = ask(ledger, chart.source.query)
        if chart.title == "Scores of all pages, by round":  # bins are put together: their sum is what the query gives
            rounds = dict.fromkeys(trace["meta"] for trace in traces)
            drawn_pages = [sum(sum(trace["y"]) for trace in traces if trace["meta"] == name) for name in rounds]
            assert drawn_pages == [sum(json.loads(row[-1])) for row in answer.rows]
            continue
        drawn = [y for trace in traces for y in [*trace["y"], *trace.get("error_y", {}).get("array", [])] if y is not None]
        assert missing(drawn, answer) == [], chart.title


def test_every_number_beside_a_bar_and_in_a_table_of_counts_is_in_what_its_query_gives(made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made["run"]
    checked = 0
    for block in metrics(sections):
        if isinstance(block, Bars) and block.title:
            drawn = [float(re.sub("[^0-9]", "", bar.value)) for bar in block.rows]
        elif isinstance(block, Table) and block.title in ("Planted and removed pages", "Pages that quote a benchmark"):
            drawn = [float(str(row[column]).replace(",", "")) for row in block.rows for column in (2, len(row) - 1)]
        else:
            continue
        checked += 1
        assert missing(drawn, ask(ledger, block.source.query)) == [], block.title
    assert checked == 4
    seconds = sorted(row[2] for row in ask(ledger, next(metrics([s for s in sections if s.id == "cost"])).source.query).rows)
    assert seconds == sorted(artifact.seconds for artifact in artifacts)


def test_the_query_of_a_step_draws_the_same_completions_in_the_same_order(made: dict[str, Made]) -> None:
    ledger, _, sections = made["run"]
    blocks = [block for block in next(section for section in sections if section.id == "rollouts").blocks if isinstance(block, Groups)]
    assert [block.title.partition(",")[2] for block in blocks[:3]] == [" first step (1)", " middle step (16)", " last step (30)"]
    assert len(blocks) == 6
    for block in blocks:
        answer = ask(ledger, block.source.query)
        place = {name: index for index, name in enumerate(answer.columns)}
        asked = [(row[place["question"]], row[place["reward"]], row[place["correct"]]) for row in answer.rows]
        assert asked == [(group.question, sample.reward, sample.correct) for group in block.groups for sample in group.samples]
        assert "\n".join(step.text for step in block.groups[0].samples[0].steps) == answer.rows[0][place["text"]]


def test_the_queries_of_answers_give_the_questions_gained_and_the_answers_shown(made: dict[str, Made]) -> None:
    ledger, _, sections = made["run"]
    section = next(section for section in sections if section.id == "answers")
    same, verdicts = section.blocks
    assert isinstance(same, Groups)
    assert isinstance(verdicts, Verdicts)
    rows = ask(ledger, same.source.query).rows
    gained, lost = (sum(row[0] == change for row in rows) for change in (1, -1))
    assert f"{gained} were gained and {lost} lost" in section.lead
    questions = {row[2] for row in rows}
    assert {group.question for group in same.groups} <= questions
    answer = ask(ledger, verdicts.source.query)
    column = answer.columns.index("text")
    shown = [text for group in verdicts.groups for side in (group.right, group.wrong) for text in (given.text for given in side)]
    assert sorted(row[column] for row in answer.rows) == sorted(shown)


def test_metrics_are_what_the_raw_rows_say(made: dict[str, Made]) -> None:
    _, artifacts, sections = made["run"]
    by_name = {artifact.name: artifact for artifact in artifacts}
    by_title = {block.title: block for block in metrics(sections) if block.title}

    # Greedy accuracy of a policy, from its answers.
    answers = pq.read_table(by_name["evaluate-rl-2"].path / "answers.parquet")
    greedy = answers.filter(pc.and_(pc.equal(answers["kind"], "greedy"), pc.equal(answers["format"], "cot")))
    share = np.mean(greedy["correct"].to_numpy(zero_copy_only=False))
    (trace,) = [trace for trace in by_title["Accuracy by stage"].spec["data"] if trace["name"] == "RL 2"]
    assert trace["y"][trace["x"].index("Greedy")] == pytest.approx(share)
    (row,) = [row for row in next(metrics(sections)).rows if row[:2] == ["RL 2", "strict"]]
    assert f"{100 * share:.1f} ± {100 * math.sqrt(share * (1 - share) / len(greedy)):.1f} %" in row

    # Of a step of the second iteration, from its rollouts: reward, accuracy, kinds of groups, AUC, completions cut off.
    step, first_steps = 12, 30
    rollouts = pq.read_table(by_name["grpo-2"].path / "rollouts.parquet")
    rollouts = rollouts.filter(pc.equal(rollouts["step"], step))
    reward, right = rollouts["reward"].to_numpy(), rollouts["correct"].to_numpy(zero_copy_only=False)
    by_group = np.array([right[rollouts["group"].to_numpy() == group].mean() for group in np.unique(rollouts["group"])])
    pairs = np.subtract.outer(reward[right], reward[~right])
    for title, name, expected in (
        ("Reward and true accuracy", "reward model's score", reward.mean()),
        ("Reward and true accuracy", "share of correct answers", right.mean()),
        ("Groups by outcome", "all correct", np.mean(by_group == 1)),
        ("Groups by outcome", "mixed", np.mean((by_group > 0) & (by_group < 1))),
        ("Groups by outcome", "all wrong", np.mean(by_group == 0)),
        ("Reward model's AUC on the rollouts", "AUC", np.mean(pairs > 0) + 0.5 * np.mean(pairs == 0)),
        ("Truncated completions", "share", 1 - np.mean(rollouts["finished"].to_numpy(zero_copy_only=False))),
    ):
        (curve,) = [trace for trace in by_title[title].spec["data"] if trace["name"] == name]
        assert curve["y"][curve["x"].index(first_steps + step)] == pytest.approx(expected, rel=1e-5), (title, name)

    # Pages of the last round, from the corpus; a reason, from what was dropped; a host's share, from the domains.
    mined = by_name["mine"].path
    pages = sum(pq.read_metadata(part).num_rows for part in (mined / "corpus").iterdir())
    assert by_title["Rounds"].rows[-1][1] == f"{pages:,}"
    reasons = pq.read_table(mined / "dropped.parquet")["reason"].to_pylist()
    bars = {bar.label: bar.value for bar in by_title["Pages dropped, by reason"].rows}
    assert bars["Near-duplicate"] == str(reasons.count("near-duplicate"))
    assert sum(int(value.replace(",", "")) for value in bars.values()) == len(reasons)
    host = pq.read_table(mined / "domains.parquet").slice(3, 1)
    row = by_title[f"Domains, all {pq.read_metadata(mined / 'domains.parquet').num_rows}"].rows[3]
    assert row[3] == f"{100 * host['collected'][0].as_py() / host['pages'][0].as_py():.0f} %"


def records(answer: Answer) -> list[dict[str, Any]]:
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def titled(sections: list[Section], title: str) -> Table:
    (found,) = [block for block in metrics(sections) if block.title == title]
    return found


@pytest.mark.parametrize("kind", ["run", "artifact"])
def test_the_query_of_the_cost_gives_every_row_of_its_table(kind: str, made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made[kind]
    table = titled(sections, "Cost of each artifact")
    names = {(None, None): "All", (None, False): "Made in this run"} | {(artifact.name,): artifact.name for artifact in artifacts}
    found = {}
    for row in records(ask(ledger, table.source.query)):
        group = (row.pop("name"), row.pop("reused"))
        found[names.get(group) or names.get(group[:1])] = cost_cells(Cost(**row))
    shown = {str(row[0]): list(row[1:]) for row in table.rows}
    assert shown == {name: found[name] for name in shown}
    assert ("Made in this run" in shown) == (kind == "run")
    assert "–" not in shown["grpo-2"]
    assert [name for name, cells in shown.items() if name.startswith("evaluate") and cells[5] == "–"] == ["evaluate-base"]
    assert shown["crawl"][1:] == ["–"] * 6


def test_the_query_of_several_runs_cost_gives_a_row_a_run(made: dict[str, Made]) -> None:
    ledger, _, sections = made["side by side"]
    (table,) = next(section for section in sections if section.id == "cost").blocks
    assert isinstance(table, Table)
    found = [[row.pop("name"), *cost_cells(Cost(**row))] for row in records(ask(ledger, table.source.query))]
    assert found == [list(row) for row in table.rows]


def test_the_query_of_differences_pairs_the_answers_by_question(made: dict[str, Made]) -> None:
    ledger, _, sections = made["side by side"]
    table = titled(sections, "Differences")
    found = {(row["policy"], row["runs"], row["score"]): row for row in records(ask(ledger, table.source.query))}
    assert len(table.rows) == 12
    for label, runs, score, shown, over, _ in table.rows:
        row = found[label, runs, str(score).lower()]
        assert shown == f"{100 * row['difference']:+.1f} ± {100 * row['error']:.1f}"
        assert over == ("independent" if row["questions"] is None else f"{row['questions']:,} questions")
    assert [row[4] for row in table.rows[:4]] == ["1,000 questions", "20 questions", "independent", "independent"]
    assert any(row["error"] > 0 for row in found.values() if row["questions"])


def test_the_queries_of_runs_side_by_side_give_fields_keys_and_why_they_differ(made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made["side by side"]
    fields = [row[:2] for row in ask(ledger, titled(sections, "Fields that differ").source.query).rows]
    shown = titled(sections, "Fields that differ").rows
    assert sorted(fields) == sorted((id, row[0]) for row in shown for id in ("20310504-101112-a1b2c3", "20310505"))
    keys = ask(ledger, titled(sections, "Keys").source.query).rows
    assert {(row[0], row[1]) for row in keys} == {(artifact.name, artifact.key) for artifact in artifacts}
    assert {row[0] for row in keys if len(row[2]) == 2} == {str(row[0]) for row in titled(sections, "Keys").rows if row[2] == "as A"}
    why = records(ask(ledger, titled(sections, "Differences from A").source.query))
    steps = [json.loads(row["config"]) for row in why if row["name"].endswith(" sft")]
    assert steps == [{}, {"sft": {"steps": 500}}]


def test_the_query_of_an_artifact_gives_what_its_manifest_says(made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made["artifact"]
    table = next(metrics(sections))
    (row,) = records(ask(ledger, table.source.query))
    shown = {str(line[0]): line[1] for line in table.rows}
    assert (row["stage"], row["key"]) == (shown["Stage"], shown["Key"])
    names = {artifact.key: artifact.name for artifact in artifacts}
    made_from = [text.split(": ") for text in row["made_from"]]
    assert sorted(f"{role}: {names[key]}" for role, key in made_from) == sorted(str(shown["Made from"]).split(", "))
    assert "evaluate-rl-2" in [names[key] for key in row["went_into"]]
    files = next(section for section in sections if section.id == "files").blocks[0]
    assert isinstance(files, Table)
    assert [row[2] for row in ask(ledger, files.source.query).rows] == [70_000]
    assert files.rows[0][2] == "70,000"


def test_the_query_of_the_environment_gives_what_manifests_say(made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made["run"]
    (table,) = next(section for section in sections if section.id == "environment").blocks
    assert isinstance(table, Table)
    found = records(ask(ledger, table.source.query))
    assert len(found) == len(artifacts)
    packages = {json.loads(row["environment"])["packages"]["torch"] for row in found if row["environment"]}
    assert packages == {next(row[1] for row in table.rows if row[0] == "torch")} == {"2.13.0"}


def test_the_page_has_a_source_under_each_figure_and_under_its_headline(made: dict[str, Made]) -> None:
    ledger, artifacts, sections = made["run"]
    page = render({"id": "r", "recipe": "tiny", "started": ""}, artifacts, sections)
    assert page.count('<details class="source">') == len(list(metrics(sections))) + 1
    headline = ask(ledger, accuracy_source(artifacts).query)
    greedy = {row[0]: row[2] for row in headline.rows if row[1] == "greedy"}
    tiles = re.findall(r'<span class="name">(.+?)</span><span class="big">([\d.]+)<', page)
    assert {name: f"{100 * value:.1f}" for name, value in greedy.items()} == dict(tiles)


def test_the_example_of_the_documentation_prints_what_it_says(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    ledger, _, sections = made["run"]
    text = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
    examples = re.findall(r'```bash\n(mathquarry ledger sql (?:--limit 0 )?"([^"]+)")\n```\n\n```text\n(.+?)```', text, re.DOTALL)
    assert len(examples) == 2
    (chart,) = [block for block in metrics(sections) if block.title == "Reward and true accuracy"]
    assert examples[0][0] == chart.source.command
    assert f'"Source: {chart.source.caption}"' in text
    for _, query, printed in examples:
        assert main(["ledger", "sql", query, "--limit", "0", "--store", str(ledger.store.root)]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert all(line.split() in lines for line in printed.splitlines() if line != "...")


def test_a_command_pasted_into_a_shell_asks_exactly_the_query() -> None:
    query = "select '$HOME' as \"a\", '`id`', '\\n', 'it''s' from \n t"
    script = f"mathquarry() {{ printf '%s' \"$5\"; }}; {Source((), query).command}"
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (printed.stdout, printed.stderr) == (query, "")


def test_many_artifacts_are_counted_in_the_caption_and_all_named_behind_it() -> None:
    few = Source((("mine", "ab" * 10), ("grpo", "cd" * 10)), "")
    assert few.caption == "mine/abababab, grpo/cdcdcdcd"
    many = Source((*few.artifacts, *(("grpo", f"{number:020x}") for number in range(MOST_KEYS))), "")
    assert many.caption == f"1 × mine, {MOST_KEYS + 1} × grpo"
