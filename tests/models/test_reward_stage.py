"""Reward data, replay, and the reward model's training and continuation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from data.errors import MathQuarryError
from data.workspace import Workspace
from models.checkpoint import load_reward
from models.config import LabelConfig, RefreshConfig, RewardConfig, RolloutConfig, ScheduleConfig
from models.reward_data import RewardExample, draw_replay, is_validation, read_reward_data, split
from models.reward_stage import refresh_reward, train_reward
from models.tokenizer import encode
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_problems, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
CONFIG = RewardConfig(
    questions=40,
    outputs_per_question=4,
    learning_rate=3e-3,
    context_tokens=64,
    batch_tokens=512,
    micro_batch_rows=8,
    epochs=12,
    validation_share=0.25,
    precision="float32",
    schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    label=LabelConfig(completions=2),
    rollout=RolloutConfig(max_tokens=40),
)


def writes_seven(prompt: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
    """Half of the samples add up rightly, half say 0, which is always wrong; prefixes are completed the way they began."""
    text = TOKENIZER.decode(prompt)
    if text.endswith("Answer:"):
        number = int("".join(filter(str.isdigit, text.split("gets")[0])))
        right = random.Random(f"{seed} {sample}").random() < 0.5
        return [*encode(TOKENIZER, f"{number}+2={number + 2}\n\\boxed{{{number + 2}}}" if right else "0=0\n\\boxed{0}"), EOS], True
    result = text.rstrip("\n").split("=")[-1]
    return [*encode(TOKENIZER, f"\\boxed{{{result}}}"), EOS], True


def example(problem: int, iteration: int = 0) -> RewardExample:
    return RewardExample(iteration, f"p{problem}", [5, 6], [7, 8, 9], [0, 2], [1.0, 0.0], False, True)


def trained(folder: Path, config: RewardConfig = CONFIG) -> tuple[Path, dict]:
    policy, problems = save_policy(folder / "policy"), save_problems(folder / "problems", 60)
    space = Workspace.at(folder / "reward")
    return space.out, train_reward(config, policy, policy, problems, space, ScriptedEngine(writes_seven))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    return trained(tmp_path_factory.mktemp("reward"))


def test_replay_makes_up_its_share_of_all_training_examples() -> None:
    history = [example(i) for i in range(500)]
    replayed = draw_replay(history, fresh=900, share=0.1, seed=0, iteration=1)
    assert len(replayed) / (len(replayed) + 900) == 0.1
    assert len({e.problem_id for e in replayed}) == len(replayed)


def test_replay_is_drawn_from_the_seed_and_the_iteration() -> None:
    history = [example(i) for i in range(500)]
    draws = [
        [e.problem_id for e in draw_replay(history, 900, 0.1, seed, iteration)] for seed, iteration in [(0, 1), (0, 1), (0, 2), (1, 1)]
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] != draws[3] != draws[0]


def test_replay_is_drawn_from_all_earlier_data() -> None:
    history = [example(i, iteration=i // 100) for i in range(500)]
    assert {e.iteration for e in draw_replay(history, 900, 0.1, 0, 5)} == {0, 1, 2, 3, 4}


def test_a_short_history_is_replayed_whole() -> None:
    assert len(draw_replay([example(i) for i in range(5)], 900, 0.1, 0, 1)) == 5
    assert draw_replay([], 900, 0.1, 0, 1) == []
    assert draw_replay([example(0)], 900, 0.0, 0, 1) == []


def test_a_replay_share_of_1_is_refused() -> None:
    with pytest.raises(MathQuarryError, match="replay_share"):
        draw_replay([example(0)], 900, 1.0, 0, 1)


def test_the_split_goes_by_problem_and_has_about_the_configured_size() -> None:
    training, validation = split([example(i // 2) for i in range(4000)], 0.1)
    assert not {e.problem_id for e in training} & {e.problem_id for e in validation}
    assert 0.07 < len(validation) / 4000 < 0.13


def test_a_larger_validation_share_holds_out_the_same_problems_and_more() -> None:
    small, large = ({i for i in range(1000) if is_validation(f"p{i}", share)} for share in (0.1, 0.3))
    assert small < large
    assert not any(is_validation(f"p{i}", 0.0) for i in range(1000))


def test_labels_belong_to_the_last_tokens_of_steps_and_nothing_else_has_one() -> None:
    tokens, labels = example(0).tokens_and_labels()
    assert list(tokens) == [5, 6, 7, 8, 9]
    assert [None if value != value else value for value in labels] == [None, None, 1.0, None, 0.0]


def test_an_outcome_label_belongs_to_the_last_token() -> None:
    outcome = RewardExample(0, "p", [5, 6], [7, 8, 9], [0, 2], [1.0], True, True)
    assert outcome.label_ends == [2]


def test_the_reward_model_learns_to_tell_right_from_wrong(first: tuple[Path, dict]) -> None:
    _, summary = first
    assert summary["auc"] > 0.9
    assert summary["step_auc"] > 0.9
    assert summary["training_solutions"] > summary["validation_solutions"] > 0


def test_reward_data_holds_each_output_of_a_question_once_with_a_label_a_step(first: tuple[Path, dict]) -> None:
    examples = read_reward_data(first[0] / "reward_data.parquet")
    assert len({(e.problem_id, tuple(e.output)) for e in examples}) == len(examples)
    assert all(len(e.labels) == len(e.step_ends) == 2 for e in examples)
    assert all(e.labels == [float(e.correct)] * 2 for e in examples)
    assert {e.correct for e in examples} == {True, False}


def test_outcome_supervision_has_one_label(tmp_path: Path) -> None:
    out, summary = trained(tmp_path, CONFIG.model_copy(update={"supervision": "outcome", "epochs": 1}))
    assert all(e.labels == [float(e.correct)] for e in read_reward_data(out / "reward_data.parquet"))
    assert "step_auc" not in summary


def test_a_refresh_trains_on_fresh_and_replayed_examples_but_never_on_held_out_problems(
    first: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import models.reward_stage as stage

    seen: list[RewardExample] = []
    train = stage._train
    monkeypatch.setattr(
        stage, "_train", lambda config, model, examples, *rest: (seen.extend(examples), train(config, model, examples, *rest))[1]
    )
    policy, problems = save_policy(tmp_path / "policy", seed=1), save_problems(tmp_path / "problems", 60)
    space = Workspace.at(tmp_path / "refresh")
    refresh = RefreshConfig(questions=30, epochs=4, replay_share=0.3)
    summary = refresh_reward(CONFIG, refresh, first[0] / "model", policy, problems, [first[0]], 1, space, ScriptedEngine(writes_seven))

    assert not any(is_validation(e.problem_id, CONFIG.validation_share) for e in seen)
    replayed = [e for e in seen if e.iteration == 0]
    assert len(replayed) == summary["replayed_solutions"]
    assert len(replayed) / len(seen) == pytest.approx(0.3, abs=0.02)
    fresh = read_reward_data(space.out / "reward_data.parquet")
    assert {e.iteration for e in fresh} == {1}
    assert any(is_validation(e.problem_id, CONFIG.validation_share) for e in fresh)
    assert summary["auc"] >= summary["before_auc"] > 0.9
    assert load_reward(space.out / "model").config.num_labels == 1


def test_an_interrupted_sampling_goes_on_with_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.reward_data.QUESTIONS_A_PART", 8)
    config = CONFIG.model_copy(update={"epochs": 1})
    policy, problems = save_policy(tmp_path / "policy"), save_problems(tmp_path / "problems", 60)
    whole = Workspace.at(tmp_path / "whole")
    train_reward(config, policy, policy, problems, whole, ScriptedEngine(writes_seven))

    def dies_later(prompt: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
        if len(engine.seeds) > 40:
            raise KeyboardInterrupt
        return writes_seven(prompt, seed, sample)

    engine = ScriptedEngine(dies_later)
    broken = Workspace.at(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, policy, policy, problems, broken, engine)
    finished = len(list((broken.scratch / "reward_data").glob("part-*.parquet")))
    assert 0 < finished < 5
    resumed = ScriptedEngine(writes_seven)
    train_reward(config, policy, policy, problems, broken, resumed)
    assert sum(TOKENIZER.decode(prompt).endswith("Answer:") for prompt in resumed.asked) == 40 - 8 * finished
    for name in ("reward_data.parquet", "model/model.safetensors"):
        assert (broken.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_a_reward_model_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    policy, other = save_policy(tmp_path / "policy"), save_policy(tmp_path / "other")
    tokens = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(tokens.replace('"<pad>"', '"<nothing>"'))
    with pytest.raises(MathQuarryError, match="different tokenizers"):
        train_reward(CONFIG, other, policy, save_problems(tmp_path, 5), Workspace.at(tmp_path / "s"), ScriptedEngine(writes_seven))
