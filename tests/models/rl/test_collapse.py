"""Stop rules for collapse."""

from __future__ import annotations

import pytest

from data.errors import MathQuarryError
from models.config import CollapseConfig
from models.rl.collapse import check_collapse

HEALTHY = {"kl": 0.05, "entropy": 0.4, "output_tokens": 20.0, "truncated_share": 0.1}
CONFIG = CollapseConfig(steps=3)


def test_a_healthy_run_goes_on() -> None:
    check_collapse([HEALTHY] * 50, CONFIG)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kl": 2.5}, "KL to the reference was 2.5 nats"),
        ({"entropy": 0.0}, "entropy was 0 nats"),
        ({"output_tokens": 1.0}, "outputs had 1 tokens"),
        ({"truncated_share": 0.8}, "80% of the outputs were cut at max_tokens, 10% at the start"),
    ],
)
def test_a_collapsed_run_stops_and_says_what_went_wrong_and_what_to_do(change: dict, told: str) -> None:
    history = [HEALTHY] * 10 + [{**HEALTHY, **change}] * 2
    check_collapse(history, CONFIG)
    with pytest.raises(MathQuarryError, match=told) as caught:
        check_collapse([*history, {**HEALTHY, **change}], CONFIG)
    assert "step 13" in str(caught.value)


def test_outputs_that_were_always_cut_are_no_collapse() -> None:
    check_collapse([{**HEALTHY, "truncated_share": 1.0}] * 20, CONFIG)


def test_a_figure_that_a_method_does_not_have_is_not_judged() -> None:
    check_collapse([{"output_tokens": 20.0}] * 20, CONFIG)
