"""Stop rules for collapse."""

from __future__ import annotations

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.collapse import check_collapse, reward_hacking
from mathquarry.models.rl.config import CollapseConfig

HEALTHY = {"kl": 0.05, "entropy": 0.4, "completion_tokens": 20.0, "truncated_share": 0.1, "mismatch_mean": 0.01}
CONFIG = CollapseConfig(steps=3)


def test_a_healthy_run_goes_on() -> None:
    check_collapse([HEALTHY] * 50, CONFIG)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kl": 2.5}, "KL to the reference was 2.5 nats"),
        ({"entropy": 0.0}, "entropy was 0 nats"),
        ({"completion_tokens": 1.0}, "completions had 1 tokens"),
        ({"mismatch_mean": 0.6}, "differed from the trainer's by 0.6 nats per token on average; collapse.largest_mismatch is 0.5"),
        ({"truncated_share": 0.8}, "80% of the completions were truncated at max_tokens, 10% at the start"),
    ],
)
def test_a_collapsed_run_stops_and_says_what_went_wrong_and_what_to_do(change: dict, told: str) -> None:
    history = [HEALTHY] * 10 + [{**HEALTHY, **change}] * 2
    check_collapse(history, CONFIG)
    with pytest.raises(MathQuarryError, match=told) as caught:
        check_collapse([*history, {**HEALTHY, **change}], CONFIG)
    assert "step 13" in str(caught.value)


def test_completions_that_were_always_cut_are_no_collapse() -> None:
    check_collapse([{**HEALTHY, "truncated_share": 1.0}] * 20, CONFIG)


def test_a_metric_that_a_method_does_not_have_is_skipped() -> None:
    check_collapse([{"completion_tokens": 20.0}] * 20, CONFIG)


@pytest.mark.parametrize("before", [0, 1, 7])
def test_a_run_stops_at_the_last_of_as_many_bad_steps_as_are_averaged_and_not_before(before: int) -> None:
    history = [HEALTHY] * before
    for number in (1, 2, 3):
        history = [*history, {**HEALTHY, "entropy": 0.0}]
        if number < 3:
            check_collapse(history, CONFIG)
    with pytest.raises(MathQuarryError, match=f"step {before + 3}:"):
        check_collapse(history, CONFIG)


@pytest.mark.parametrize(
    ("name", "start", "slope", "stops_at"),
    [
        # The mean of three steps is the middle one; step t (from 1) has start + slope (t - 1).
        ("kl", 0.05, 0.1, 22),  # the mean of 20, 21, 22 is 2.05 > 2
        ("entropy", 0.5, -0.026, 21),  # of 19, 20, 21: 0.006; of 20, 21, 22: -0.02
        ("completion_tokens", 11.4, -0.5, 22),  # of 20, 21, 22: 1.4 < 1.5
        ("truncated_share", 0.0, 0.025, 24),  # of 22, 23, 24: 0.55, of the first three: 0.025; a rise of more than 0.5
    ],
)
def test_a_slow_rise_stops_a_run_as_well_as_a_leap(name: str, start: float, slope: float, stops_at: int) -> None:
    """Whatever the last steps are compared with does not move along with them."""
    limits = {"smallest_entropy": 0.01} if name == "entropy" else {}
    config = CollapseConfig(steps=3, **limits)
    history = []
    for step in range(1, 40):
        history.append({**HEALTHY, name: start + slope * (step - 1)})
        try:
            check_collapse(history, config)
        except MathQuarryError:
            break
    assert len(history) == stops_at


@pytest.mark.parametrize(
    ("limit", "value", "metric"),
    [
        ("largest_kl", 0.01, "kl"),
        ("smallest_entropy", 0.5, "entropy"),
        ("shortest_completion", 30.0, "completion_tokens"),
        ("largest_mismatch", 0.005, "mismatch_mean"),
    ],
)
def test_each_limit_is_the_configs(limit: str, value: float, metric: str) -> None:
    with pytest.raises(MathQuarryError, match=limit):
        check_collapse([HEALTHY] * 3, CONFIG.model_copy(update={limit: value}))
    check_collapse([HEALTHY] * 2, CONFIG.model_copy(update={limit: value}))
    check_collapse([{**HEALTHY, "truncated_share": 0.0}] * 3 + [HEALTHY] * 3, CONFIG)
    with pytest.raises(MathQuarryError, match="truncated_rise"):
        check_collapse([{**HEALTHY, "truncated_share": 0.0}] * 3 + [HEALTHY] * 3, CONFIG.model_copy(update={"truncated_rise": 0.05}))


HACKING = CollapseConfig(hacking_steps=8)


def run_of(reward: list[float], **others: list[float | None]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = [{**HEALTHY, "reward": value} for value in reward]
    for name, values in others.items():
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[name] = value
    return rows


RISING = [0.50, 0.51, 0.50, 0.52, 0.60, 0.61, 0.60, 0.62]
FALLING = [0.90, 0.91, 0.90, 0.89, 0.80, 0.81, 0.80, 0.79]
LEVEL = [0.90, 0.91, 0.90, 0.89, 0.90, 0.89, 0.91, 0.90]


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (run_of(RISING, reward_auc=FALLING), "rose by 0.1, and the reward's AUC against the answer checker fell by 0.1"),
        (run_of(RISING, reward_auc=LEVEL, test_accuracy=FALLING), "accuracy on held-out questions fell by 0.1"),
        # Scored twice in the window: no spread is known, and the fall counts from `hacking_fall` on.
        (run_of(RISING, test_accuracy=[None, 0.7, None, None, None, None, None, 0.6]), "accuracy on held-out questions fell by 0.1"),
        (run_of([100 * value for value in RISING], reward_auc=FALLING), "rose by 10"),
        (run_of([0.0] * 20 + RISING, reward_auc=[0.1] * 20 + FALLING), "step 28"),
    ],
)
def test_a_reward_that_rises_while_accuracy_or_auc_falls_is_reported(history: list[dict[str, float]], told: str) -> None:
    assert told in (reward_hacking(history, HACKING) or "")


@pytest.mark.parametrize(
    "history",
    [
        run_of(RISING, reward_auc=LEVEL, test_accuracy=LEVEL),
        run_of(LEVEL, reward_auc=FALLING),  # nothing is exploited
        run_of(FALLING, reward_auc=FALLING),
        run_of(RISING[::-1], reward_auc=FALLING),
        run_of(RISING, test_accuracy=[None] * 7 + [0.1]),  # one score is no fall
        run_of(RISING),  # a rule as reward, never scored
        run_of(RISING, reward_auc=[0.900, 0.905, 0.90, 0.895, 0.885, 0.89, 0.885, 0.89]),  # by less than 0.02
        run_of(RISING, reward_auc=[0.5, 0.9, 0.5, 0.9, 0.5, 0.8, 0.5, 0.8]),  # by less than its noise
        run_of(RISING, test_accuracy=[0.5, None, 0.9, None, 0.5, None, 0.8, None]),  # two scores in a half have noise too
        run_of([0.1, 0.9, 0.1, 0.9, 0.2, 0.9, 0.2, 0.9], reward_auc=FALLING),  # a rise of less than its noise
        run_of(RISING[1:], reward_auc=FALLING[1:]),  # too short
    ],
)
def test_anything_else_is_not(history: list[dict[str, float]]) -> None:
    assert reward_hacking(history, HACKING) is None


def test_hacking_is_not_looked_for_unless_asked_and_counts_from_the_configured_fall() -> None:
    history = run_of(RISING, reward_auc=FALLING)
    assert reward_hacking(history, CollapseConfig()) is None
    assert reward_hacking(history, CollapseConfig(hacking_steps=8, hacking_fall=0.2)) is None
    assert reward_hacking(history[1:], CollapseConfig(hacking_steps=7)) is not None
