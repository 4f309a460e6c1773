"""A page over seeds: means and spread over runs, and no claim on which the seeds disagree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Table
from mathquarry.data.report.page.noise import seeds_agree
from mathquarry.data.report.runs.compare_runs import MOST_SEEDS, build_comparison, seeds_sections
from mathquarry.data.report.runs.run_differences import ComparedRun
from mathquarry.data.report.runs.seeds import CHANGES, EVERY, SCORES, SeedRun, are_seeds, read_seeds, seeds_opening
from tests.data.report.report_planted import answers, evaluated, flipped, iterated
from tests.data.report.test_report import Page


def seed_run(folder: Path, seed: int, *shares: float) -> ComparedRun:
    names = ["evaluate-sft", *(f"evaluate-rl-{number}" for number in range(1, len(shares)))]
    made = [evaluated(folder / str(seed), name, answers(1000, share)) for name, share in zip(names, shares, strict=True)]
    return ComparedRun(chr(65 + seed), record(seed), made)


def record(seed: int) -> dict[str, Any]:
    config = {"name": "tiny", "seed": seed, "grpo": {"seed": seed, "steps": 10}}
    return {"id": f"run-{seed}", "recipe": "tiny", "started": "2021-05-04T10:11:12Z", "status": "completed", "stages": [], "config": config}


def table(seeds: Sequence[SeedRun], title: str) -> dict[str, list[str]]:
    (found,) = [block for section in seeds_sections(seeds) for block in section.blocks if block.title == title]
    assert isinstance(found, Table)
    return {" ".join(map(str, row[:2])): [str(cell) for cell in row] for row in found.rows}


def told(seeds: Sequence[SeedRun]) -> list[str]:
    return [sentence.text for sentence in seeds_opening(seeds).findings]


def test_runs_are_seeds_only_where_nothing_but_seeds_differs() -> None:
    configs = [record(seed)["config"] for seed in (0, 1, 2)]
    assert are_seeds(configs)
    assert not are_seeds([configs[0], configs[0]]), "the same seed twice is no spread"
    assert not are_seeds([*configs, configs[1]])
    assert not are_seeds([configs[0], configs[1] | {"grpo": {"seed": 1, "steps": 20}}])
    assert not are_seeds([configs[0], configs[1] | {"compare": {"seeds": [1]}}]), "seeds of a comparison are not the seed of a run"


def test_scores_have_their_mean_standard_error_and_range_over_seeds(tmp_path: Path) -> None:
    shares = [0.6, 0.62, 0.7]
    seeds = read_seeds([seed_run(tmp_path, seed, share, share + 0.1) for seed, share in enumerate(shares)])
    error = statistics.stdev(shares) / 3**0.5
    assert table(seeds, SCORES)["SFT 3"][2:4] == [f"64.0 ± {100 * error:.1f} %", "60.0 to 70.0"]


def test_a_change_that_all_seeds_share_is_reported(tmp_path: Path) -> None:
    gains = [0.08, 0.1, 0.12, 0.09, 0.11]
    seeds = read_seeds([seed_run(tmp_path, seed, 0.6, 0.6 + gain, 0.65 + gain) for seed, gain in enumerate(gains)])
    path, last, order = told(seeds)
    assert path == "From SFT to RL iteration 2, greedy accuracy rose by 15.0 ± 0.7 points over seeds: up in 5 of 5 seeds, down in 0."
    assert (
        last.startswith("From RL iteration 1 to 2, greedy accuracy did not change beyond noise (+5.0 ± 0.0 points over seeds)")
        or "rose" in last
    )
    assert order == "Greedy accuracy rises at every step (SFT, RL 1, RL 2) in 5 of 5 seeds, Maj@8 in 5 of 5."
    assert table(seeds, CHANGES)["SFT RL 2"][3:7] == ["+15.0 ± 0.7", "5", "0", "rose"]


def test_seeds_that_do_not_agree_are_noise_and_are_counted(tmp_path: Path) -> None:
    changes = [0.1, -0.08, 0.05, -0.04, 0.02]
    seeds = read_seeds([seed_run(tmp_path, seed, 0.6, 0.6 + change) for seed, change in enumerate(changes)])
    sentence, order = told(seeds)
    assert sentence.startswith(
        "From SFT to RL iteration 1, greedy accuracy did not change beyond noise (+1.0 ± 3.2 points over seeds): up in 3"
    )
    assert order == "Greedy accuracy rises at every step (SFT, RL 1) in 3 of 5 seeds, Maj@8 in 3 of 5."
    assert [row[4] for row in table(seeds, EVERY).values()] == ["yes", "no", "yes", "no", "yes"]


def test_two_seeds_need_more_than_two_standard_errors() -> None:
    # A mean of 3 with a standard error of 1: three standard errors, and yet p = 0.2 with one degree of freedom.
    assert not seeds_agree([0.02, 0.04])
    assert seeds_agree([0.029, 0.03, 0.031])
    assert not seeds_agree([0.03])
    assert not seeds_agree([0.03] * 5)
    assert seeds_agree([0.03] * 6)
    assert not seeds_agree([0.0] * 9)


def test_a_reward_model_that_was_exploited_in_some_seeds_is_named_with_them(tmp_path: Path) -> None:
    runs = []
    for seed in range(3):
        run = seed_run(tmp_path, seed, 0.8)
        falls = seed == 1
        own = tmp_path / str(seed)
        after = flipped(answers(1000, 0.8), 5, 80 if falls else 5)
        run.artifacts.append(iterated(own, 1, reward=(lambda over: 0.5 + 0.1 * over) if falls else 0.5))
        run.artifacts.append(evaluated(own, "evaluate-rl-1", after))
        runs.append(run)
    assert told(read_seeds(runs))[0].endswith("down in 1; the reward model was exploited in seed 1.")


def test_warnings_of_several_seeds_are_given_once_with_the_seeds(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path, seed, 0.8, 0.9) for seed in range(3)]
    for run in runs[:2]:
        run.record["status"] = "failed"
    warnings = [sentence.text for sentence in seeds_opening(read_seeds(runs)).warnings]
    assert warnings == [
        "3 seeds are few, so their spread is uncertain.",
        "Seeds 0, 1: This run failed. The report shows what was made before.",
    ]


def test_seeds_are_in_their_order_and_a_policy_that_one_lacks_is_left_out_of_its_means(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path, seed, *shares) for seed, shares in enumerate([(0.5, 0.6), (0.7,), (0.5, 0.8)])]
    seeds = read_seeds([runs[2], runs[0], runs[1]])
    assert [one.seed for one in seeds] == ["0", "1", "2"]
    assert table(seeds, SCORES)["RL 1 2"][2] == "70.0 ± 10.0 %"
    assert table(seeds, EVERY)["1 run-1"][2:5] == ["70.0", "–", "no"]


def test_the_page_draws_every_seed_thin_and_the_mean_thick(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path, seed, 0.5, 0.6 + seed / 100) for seed in range(3)]
    summary = build_comparison([(run.record, run.artifacts) for run in runs], tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.attribute("section", "id")[0] == "seeds"
    assert "tiny: 3 seeds" in page.text
    assert summary["charts"] == 2
    section = seeds_sections(read_seeds(runs))[0]
    chart = next(block for block in section.blocks if block.title == "Greedy accuracy by policy")
    widths = [trace["line"]["width"] for trace in chart.spec["data"]]
    assert widths == [1, 1, 1, 3]
    assert chart.spec["data"][-1]["y"] == pytest.approx([0.5, 0.61])


def test_more_seeds_than_letters_are_refused(tmp_path: Path) -> None:
    made: list[ReportArtifact] = []
    with pytest.raises(MathQuarryError, match=f"at most {MOST_SEEDS}"):
        build_comparison([(record(seed), made) for seed in range(MOST_SEEDS + 1)], tmp_path)
