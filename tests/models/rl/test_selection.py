"""Which completions a step trains on: resampled groups, overlong completions, filters by correctness."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.rl.config import METHODS, GRPOConfig, SelectionConfig
from mathquarry.models.rl.objectives import token_weights
from mathquarry.models.rl.selection import draw_again, learned_from, less_for_length
from mathquarry.models.rl.update import Experience, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.test_loop import CONFIG, EOS, QUESTIONS, TOKENIZER, loop_of
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_reward, scored, tiny_policy

CORRECT = [True, True, True, False, False, False]
FINISHED = [True, False, True, True, True, False]


@pytest.mark.parametrize(
    ("selection", "learned"),
    [
        ({}, None),
        ({"overlong": "penalise"}, None),
        ({"extra_draws": 3}, None),
        ({"overlong": "mask"}, FINISHED),
        ({"verdicts": "mixed"}, [False, False, True, True, False, False]),
        ({"verdicts": "right"}, CORRECT),
        ({"verdicts": "wrong"}, [False, False, False, True, True, True]),
        ({"verdicts": "right", "overlong": "mask"}, [True, False, True, False, False, False]),
    ],
)
def test_which_completions_are_learned_from(selection: dict, learned: list[bool] | None) -> None:
    assert learned_from(SelectionConfig(**selection), CORRECT, FINISHED, 2) == learned


@pytest.mark.parametrize("normalisation", ["sequence", "tokens", "constant"])
def test_a_completion_that_is_not_learned_from_has_neither_surrogate_nor_kl_and_keeps_its_place(normalisation: str) -> None:
    """The gradient of three completions without the second is the others' own, at the weights of a step in which it has no tokens."""
    prompts, completions = [[5, 6, 7]] * 3, [[20, 21], [30, 31, 32], [40]]
    advantages_BT = torch.tensor([[1.0, 1.0, 0.0], [9.0, 9.0, 9.0], [-2.0, 0.0, 0.0]])
    config = GRPOConfig(precision="float32", loss_normalisation=normalisation, rollout=RolloutConfig(max_tokens=8))

    def gradient(experience: Experience) -> torch.Tensor:
        policy = tiny_policy(0)
        before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
        config_here = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"grad_clip": 1e9})})
        update_policy(policy, tiny_policy(1), torch.optim.SGD(policy.parameters(), lr=1.0), experience, config_here)
        return before - torch.cat([weights.detach().flatten() for weights in policy.parameters()])

    found = gradient(Experience(prompts, completions, advantages_BT, learned=[True, False, True]))
    alone = gradient(Experience(prompts[:2], [completions[0], completions[2]], advantages_BT[[0, 2]]))
    ratio = token_weights([2, 0, 1], normalisation, 8)[0] / token_weights([2, 1], normalisation, 8)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(found, ratio * alone, rtol=1e-3, atol=1e-6)
    assert ratio == pytest.approx(1.0 if normalisation == "tokens" else 2 / 3)


def test_a_step_of_which_nothing_is_learned_leaves_the_policy_alone() -> None:
    policy, start = tiny_policy(0), tiny_policy(0)
    experience = Experience([[5]] * 2, [[20], [21]], torch.ones(2, 1), learned=[False, False])
    metrics = update_policy(policy, tiny_policy(1), torch.optim.SGD(policy.parameters(), lr=1.0), experience, GRPOConfig())
    assert metrics["loss"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), start.parameters(), strict=True))


def test_long_completions_are_punished_from_the_buffer_on_as_in_dapo() -> None:
    # 100 tokens at most, a buffer of 20: 0 up to 80, then -(length - 80) / 20.
    lengths = [10, 80, 81, 90, 100]
    config = GRPOConfig(rollout=RolloutConfig(max_tokens=100), selection=SelectionConfig(overlong="penalise"))
    rollouts = scored([[1]] * 5, [[5] * n for n in lengths], [[n - 1] for n in lengths], [[0.7, 0.2, 1.0]] * 5, 5)
    assert [row[:-1] for row in less_for_length(rollouts, config)] == [[0.7, 0.2]] * 5
    assert [row[-1] for row in less_for_length(rollouts, config)] == pytest.approx([1.0, 1.0, 0.95, 0.5, 0.0])
    halved = config.model_copy(update={"selection": SelectionConfig(overlong="penalise", overlong_penalty=0.5, overlong_buffer=0.4)})
    assert [row[-1] for row in less_for_length(rollouts, halved)] == pytest.approx([1.0, 0.75, 0.7375, 0.625, 0.5])
    assert less_for_length(rollouts, GRPOConfig()) == rollouts.rewards


def drawn_again(most: int, places: list[int], verdict_of: dict[str, list[bool]], questions: list[str], further: list[str]):  # type: ignore[no-untyped-def]
    config = GRPOConfig(prompts_per_step=4, selection=SelectionConfig(extra_draws=most))
    asked: list[list[str]] = []

    def sample(chosen: list[str], seeds: list[int]) -> list[str]:
        asked.append(list(zip(chosen, seeds, strict=True)))  # type: ignore[arg-type]
        return [f"completions of {question}" for question in chosen]

    def verdicts(chosen: list[str], groups: list[str]) -> list[list[bool]]:
        assert groups == [f"completions of {question}" for question in chosen]
        return [verdict_of.get(question, [True, False]) for question in chosen]

    groups = [f"completions of {question}" for question in questions]
    return (*draw_again(questions, groups, places, further, sample, verdicts, config, 1, 7), asked)


FURTHER = [f"f{number}" for number in range(8)]
FLAT = {"a": [True, True], "c": [False, False]}


def test_only_groups_of_one_verdict_are_drawn_again_and_of_other_questions() -> None:
    questions, groups, draws, asked = drawn_again(3, [0, 1, 2, 3], FLAT, ["a", "b", "c", "d"], FURTHER)
    assert draws == [1, 0, 1, 0]
    assert (questions[1], questions[3]) == ("b", "d")
    assert {questions[0], questions[2]} <= set(FURTHER)
    assert questions[0] != questions[2]
    assert groups == [f"completions of {question}" for question in questions]
    assert len(asked) == 1


@pytest.mark.parametrize("most", [1, 2, 3])
def test_there_are_at_most_so_many_extra_draws_and_what_is_flat_then_stays(most: int) -> None:
    everything = {question: [False, False] for question in [*FURTHER, "a", "c"]}
    _, _, draws, asked = drawn_again(most, [0, 1, 2, 3], everything, ["a", "b", "c", "d"], FURTHER)
    assert draws == [most, 0, most, 0]
    assert [len(chosen) for chosen in asked] == [2] * most
    # Each draw has four places; the eight further questions last for two.
    assert len({question for chosen in asked for question, _ in chosen}) == 2 * min(most, 2)
    assert len({seed for chosen in asked for _, seed in chosen}) == 2 * most


def test_what_is_drawn_again_does_not_depend_on_how_ranks_share_a_step() -> None:
    flat = {question: [True, True] for question in ("a", "b", "c", "f1", "f2", "f5")}
    whole = drawn_again(2, [0, 1, 2, 3], flat, ["a", "b", "c", "d"], FURTHER)
    first, second = drawn_again(2, [0, 1], flat, ["a", "b"], FURTHER), drawn_again(2, [2, 3], flat, ["c", "d"], FURTHER)
    assert [*first[0], *second[0]] == whole[0]
    assert [*first[2], *second[2]] == whole[2]
    assert sorted(pair for chosen in first[3] + second[3] for pair in chosen) == sorted(pair for chosen in whole[3] for pair in chosen)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), folder


def test_a_step_counts_what_was_drawn_again(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """An engine that answers 4 always: a group is all right or all wrong, and both are drawn again, twice."""
    engine = ScriptedEngine(lambda prompt, seed, sample: ([*encode(TOKENIZER, "\\boxed{4}"), EOS], True))
    config = CONFIG.model_copy(
        update={
            "selection": SelectionConfig(extra_draws=2),
            "rollout": RolloutConfig(max_tokens=32),
            "paradigm": METHODS["rft"],
        }
    )
    with loop_of(config, inputs, tmp_path, engine) as loop:
        rollouts, metrics = loop.step(1)
    assert (metrics["extra_groups"], metrics["groups_replaced"]) == (4.0, 1.0)
    assert engine.samples == [2] * (2 + 4) + [1, 1]  # the last two are held-out questions
    assert len(set(engine.seeds[:6])) == 6
    assert len(rollouts.questions) == 2
    assert [question.problem.answer == "4" for question in rollouts.questions for _ in range(2)] == rollouts.correct


def test_without_selection_nothing_is_counted(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda prompt, seed, sample: ([30, EOS], True))
    with loop_of(CONFIG.model_copy(update={"paradigm": METHODS["rft"]}), inputs, tmp_path, engine) as loop:
        _, metrics = loop.step(1)
    assert not {"extra_groups", "groups_replaced", "learned_share"} & metrics.keys()
    assert engine.samples == [2] * len(QUESTIONS) + [1, 1]
