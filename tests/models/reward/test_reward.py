"""Reward scores at step ends, their loss, and the area under the curve."""

from __future__ import annotations

import math
import random

import pytest
import torch

from mathquarry.models.reward.model import RewardModel, area_under_curve, reward_loss
from mathquarry.models.train.batches import stack
from mathquarry.models.train.packing import pack
from tests.models.rl.tiny import tiny_reward_model

PROMPTS = [[5, 6, 7], [8], [5, 6, 7], [9, 10]]
COMPLETIONS = [[20, 21, 1], [22, 23, 24, 25, 1], [20, 21, 1], [26]]
ENDS = [[0, 2], [1, 4], [0, 2], [0]]


@pytest.mark.parametrize("micro_batch_tokens", [1, 9, 1000])
def test_scores_are_the_sigmoid_at_the_step_ends_of_each_sequence_alone(micro_batch_tokens: int) -> None:
    model = tiny_reward_model()
    scores = RewardModel(model, micro_batch_tokens).score(PROMPTS, COMPLETIONS, ENDS)
    for prompt, completion, ends, row in zip(PROMPTS, COMPLETIONS, ENDS, scores, strict=True):
        with torch.no_grad():
            logits_T = model(torch.tensor([prompt + completion])).logits[0, :, 0]
        assert row == pytest.approx([float(logits_T[len(prompt) + end].sigmoid()) for end in ends], abs=1e-6)


def test_equal_completions_of_a_prompt_get_equal_scores_to_the_last_bit() -> None:
    scores = RewardModel(tiny_reward_model(), 1000).score(PROMPTS, COMPLETIONS, ENDS)
    assert scores[0] == scores[2]


def test_an_outcome_score_reads_the_last_token_alone() -> None:
    scorer = RewardModel(tiny_reward_model(), 1000)
    outcome = scorer.score(PROMPTS, COMPLETIONS, [ends[-1:] for ends in ENDS])
    assert outcome == [row[-1:] for row in scorer.score(PROMPTS, COMPLETIONS, ENDS)]


def test_in_bfloat16_solutions_of_a_question_that_is_clearly_right_keep_scores_of_their_own() -> None:
    model = tiny_reward_model()
    with torch.no_grad():
        model.score.weight.normal_(std=0.02)
        model.score.bias.fill_(5.0)  # bfloat16 has only 64 values between 4 and 8
    completions = [[token, 1] for token in range(20, 52)]
    ends = [[1]] * len(completions)
    scorers = (RewardModel(model, 1000), RewardModel(model, 1000, "bfloat16"))
    exact, scores = (scorer.score([[5, 6, 7]] * len(completions), completions, ends) for scorer in scorers)
    assert len({score for (score,) in scores}) == len(completions)
    assert [score for (score,) in scores] == pytest.approx([score for (score,) in exact], abs=1e-4)


def test_loss_is_the_cross_entropy_of_labelled_tokens_over_their_number() -> None:
    model = tiny_reward_model()
    nan = math.nan
    examples = [([5, 6, 20, 21], [nan, nan, 1.0, 0.0]), ([7, 22, 23], [nan, nan, 0.25])]
    batch = stack([pack(examples, 12, 0)[0]])
    expected = 0.0
    for tokens, labels in examples:
        scores = model(torch.tensor([tokens])).logits[0, :, 0].sigmoid()
        for score, label in zip(scores.tolist(), labels, strict=True):
            if not math.isnan(label):
                expected -= label * math.log(score) + (1 - label) * math.log(1 - score)
    assert float(reward_loss(model, batch, torch.tensor(3)).detach()) == pytest.approx(expected / 3, rel=1e-4)


def test_area_under_curve_counts_pairs_in_the_right_order() -> None:
    # Pairs (right, wrong): 0.9 > 0.1, 0.9 > 0.4, 0.4 > 0.1, 0.4 = 0.4 (a half): 3.5 of 4.
    assert area_under_curve([0.9, 0.4, 0.1, 0.4], [True, True, False, False]) == 3.5 / 4


def test_area_under_curve_equals_the_count_over_all_pairs() -> None:
    draw = random.Random(0)
    scores, right = [draw.randint(0, 9) / 10 for _ in range(200)], [draw.random() < 0.3 for _ in range(200)]
    pairs = [(a, b) for a, r in zip(scores, right, strict=True) if r for b, s in zip(scores, right, strict=True) if not s]
    assert area_under_curve(scores, right) == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))


@pytest.mark.parametrize("right", [[True, True], [False, False], []])
def test_area_under_curve_needs_both_kinds(right: list[bool]) -> None:
    assert area_under_curve([0.5] * len(right), right) is None
