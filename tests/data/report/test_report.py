"""The report: self-contained, complete, and safe to open whatever a model or a web page wrote."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.report.build import build_report
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Table
from mathquarry.data.report.page.charts import MOST_POINTS, thin
from mathquarry.data.report.page.scores import read_scores
from mathquarry.data.report.page.text import accuracy_table
from mathquarry.data.report.sections.results import accuracy_section
from mathquarry.data.report.sections.rollouts import split_steps
from tests.data.report.report_run import HOSTILE, make_run

SECTIONS = ["accuracy", "corpus", "training", "reward", "rl", "rollouts", "answers", "lineage", "cost", "environment", "config"]


class Page(HTMLParser):
    """The page as a browser sees it: tags with attributes, the text of each script, and all other text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def attribute(self, tag: str, name: str) -> list[str | None]:
        return [attributes[name] for found, attributes in self.tags if found == tag and name in attributes]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a run in which all text of models and web pages is hostile."""
    folder = tmp_path_factory.mktemp("report")
    run, artifacts = make_run(folder / "store", HOSTILE)
    summary = build_report(run, artifacts, folder)
    assert summary["bytes"] == (folder / "report.html").stat().st_size
    return Page(folder / "report.html")


def test_mining_shows_what_it_measured_and_what_it_warns_of(page: Page) -> None:
    assert "Held-out AUC" in page.text
    assert "not measured" in page.text
    assert "the threshold splits a group of equal scores" in page.text


def test_the_page_loads_nothing(page: Page) -> None:
    assert {"link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert all(name in ("content",) or "http" not in (value or "") for name, value in attributes.items())


def test_its_policy_allows_exactly_its_own_two_scripts_and_no_network(page: Page) -> None:
    (policy,) = [value for value in page.attribute("meta", "content") if value and "script-src" in value]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    assert len(page.scripts) == 3
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_hostile_text_is_shown_and_never_markup(page: Page) -> None:
    assert page.text.count(HOSTILE) > 20
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all("alert(" not in json.dumps(attributes) for _, attributes in page.tags)
    assert "<" not in page.scripts[0]


def test_every_section_of_a_whole_run_appears_in_order(page: Page) -> None:
    assert page.attribute("section", "id") == SECTIONS
    links = [href for href in page.attribute("a", "href") if href and "-" not in href]
    assert links == [f"#{section}" for section in SECTIONS]


def test_every_chart_has_its_place(page: Page) -> None:
    places = {value for value in page.attribute("div", "id") if value and value.startswith("chart-")}
    charts = json.loads(page.scripts[0])
    assert set(charts) == places
    assert len(charts) >= 15


def test_scores_planted_counts_and_lineage_are_on_the_page(page: Page) -> None:
    for expected in ("61.0 ± 1.5 %", "+11.0 ± 1.0", "Pages that quote a held-out question", "policy: grpo-1, reward: reward-1", "98.5 %"):
        assert expected in page.text


def test_rounds_domains_and_samples_of_mining_are_on_the_page(page: Page) -> None:
    for expected in (
        "bpe-100k: 431 k ± 3,076",
        "0.920, 0.940, 0.960",
        "−1,992, 400 k tokens",
        "60 pages match a benchmark, in 71 segments",
    ):
        assert expected in page.text
    assert page.text.count("Quadratic equations") == 16
    assert sum(tag == "math" for tag, _ in page.tags) == 48
    assert page.text.count("$\\unknown$") == 16
    assert sum(tag == "input" for tag, _ in page.tags) == 1
    low, high = next(
        re.search(r"--low:(.+?);--value:.+?;--high:(.+)", style).groups() for style in page.attribute("span", "style") if "--low" in style
    )
    assert (low, high) == ("0.7583", "0.9309")


def test_benchmarks_of_the_harness_stand_beside_our_own_scores(tmp_path: Path) -> None:
    _, artifacts = make_run(tmp_path / "store")
    metrics = {"mmlu acc": 0.451, "mmlu acc_se": 0.004, "mmlu questions": 14042}
    found = ReportArtifact("harness-rl-1", "harness", "k", tmp_path, {}, metrics, {}, 1.0, False)
    section = accuracy_section([*artifacts, found])
    assert section is not None
    table = section.blocks[-1]
    assert isinstance(table, Table)
    assert (table.headers, table.rows) == (["Policy", "mmlu acc"], [["RL 1", "45.1 ± 0.4 %"]])
    assert accuracy_section(artifacts) != section


def test_missing_stages_leave_their_sections_out(tmp_path: Path) -> None:
    run, artifacts = make_run(tmp_path / "store")
    few = [artifact for artifact in artifacts if artifact.name in ("problems", "curate", "sft", "evaluate-sft")]
    build_report(run, few, tmp_path)
    assert Page(tmp_path / "report.html").attribute("section", "id") == [
        "accuracy",
        "training",
        "answers",
        "lineage",
        "cost",
        "environment",
        "config",
    ]


def test_the_same_run_gives_the_same_bytes_and_a_small_page(tmp_path: Path) -> None:
    run, artifacts = make_run(tmp_path / "store")
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build_report(run, artifacts, tmp_path / name)
        pages.append((tmp_path / name / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert len(pages[0]) < 8_000_000


def test_a_broken_metrics_line_names_the_file(tmp_path: Path) -> None:
    run, artifacts = make_run(tmp_path / "store")
    (tmp_path / "store" / "sft" / "metrics.jsonl").write_text("half a rec\n")
    with pytest.raises(MathQuarryError, match=r"sft.metrics\.jsonl"):
        build_report(run, artifacts, tmp_path)


def test_steps_carry_their_own_rewards_and_one_reward_belongs_to_the_last() -> None:
    steps = split_steps("a\nb\n\n\\boxed{1}", [0.1, 0.2, 0.3])
    assert [(step.text, step.reward) for step in steps] == [("a", 0.1), ("b", 0.2), ("\\boxed{1}", 0.3)]
    assert [step.reward for step in split_steps("a\nb", [0.7])] == [None, 0.7]
    assert [step.text for step in split_steps("", [0.7])] == [""]


def test_long_series_become_means_and_values_that_are_no_numbers_go() -> None:
    x, y = thin(range(5 * MOST_POINTS), [1.0, 3.0, 2.0, 2.0, 2.0] * MOST_POINTS)
    assert len(x) == MOST_POINTS
    assert set(y) == {2.0}
    assert thin([1, 2, 3], [1.0, math.nan, 3.0]) == ([1.0, 3.0], [1.0, 3.0])


def test_the_terminal_table_lines_up() -> None:
    base = {"questions": 1000, "greedy": 0.004, "greedy_se": 0.002, "pass@1": 0.01, "pass@8": 0.05, "pass@8_se": 0.004, "maj@8": 0.01}
    tuned = {"questions": 1000, "greedy": 0.61, "greedy_se": 0.0154, "pass@1": 0.5, "pass@8": 0.9, "pass@8_se": 0.01, "maj@8": 0.66}
    assert accuracy_table([("base", base), ("RL iteration 1", tuned)]).splitlines() == [
        "                questions        Greedy  Pass@1        Pass@8   Maj@8",
        "base                1,000   0.4 ± 0.2 %   1.0 %   5.0 ± 0.4 %   1.0 %",
        "RL iteration 1      1,000  61.0 ± 1.5 %  50.0 %  90.0 ± 1.0 %  66.0 %",
    ]


def test_the_terminal_table_shows_both_readings_of_answers() -> None:
    summary = {"questions": 50, "greedy": 0.5, "greedy_se": 0.07, "lenient_greedy": 0.7, "lenient_greedy_se": 0.065}
    assert accuracy_table([("SFT", summary)]).splitlines() == [
        "                   questions        Greedy",
        "SFT                       50  50.0 ± 7.0 %",
        "  lenient reading         50  70.0 ± 6.5 %",
    ]


def test_a_summary_without_scores_is_refused() -> None:
    with pytest.raises(MathQuarryError, match="no `greedy` score"):
        read_scores({"questions": 10})
