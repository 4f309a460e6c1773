"""The record of a step's completions, and how ranks put theirs together."""

from __future__ import annotations

from dataclasses import replace

import torch

from mathquarry.data.problems.problem import Problem
from mathquarry.models.policy.questions import Question
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rollout.engine import Completion
from mathquarry.models.rollout.tools import ToolCompletion

QUESTIONS = [Question(Problem(name, "?", "1"), [place]) for place, name in enumerate("ab")]


def test_groups_are_neighbours_and_columns_have_an_entry_a_completion() -> None:
    groups = [[Completion([place, sample], [-0.5, -0.1], sample == 0) for sample in range(3)] for place in range(2)]
    rollouts = Rollouts.sampled(QUESTIONS, groups)
    assert rollouts.group_size == 3
    assert rollouts.questions == QUESTIONS
    assert rollouts.prompts == [[0]] * 3 + [[1]] * 3
    assert rollouts.completions == [[place, sample] for place in range(2) for sample in range(3)]
    assert rollouts.finished == [True, False, False] * 2
    assert rollouts.logprobs == [[-0.5, -0.1]] * 6
    assert rollouts.masks == []


def test_worked_solutions_have_no_log_probabilities() -> None:
    assert Rollouts([Rollout(QUESTIONS[0], [5], True)], 1).logprobs is None


def test_of_a_dialogue_what_the_model_drew_is_graded() -> None:
    dialogue = ToolCompletion([7, 8, 9], [-1.0, 0.0, -1.0], True, mask=[1, 0, 1])
    rollouts = Rollouts.sampled(QUESTIONS[:1], [[dialogue]])
    assert rollouts.masks == [[1, 0, 1]]
    assert rollouts.rows[0].written == [7, 9]


def test_completions_of_ranks_follow_one_another_with_all_that_they_were_given(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def share(question: Question, mask: int) -> Rollouts:
        one = Rollout(question, [1], True, [0.0], [mask], [], "text", True, [0], [0.5], {"rule": [0.5]})
        return Rollouts([one, replace(one, completion=[2])], 2, draws=[mask])

    shares = [share(QUESTIONS[0], 1), share(QUESTIONS[1], 0)]
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [(one.rows, one.draws) for one in shares])
    found = shares[0].gathered(Ranks(0, 2, torch.device("cpu")))
    assert found.rows == shares[0].rows + shares[1].rows
    assert (found.questions, found.draws, found.group_size) == (QUESTIONS, [1, 0], 2)
