"""Reward data, replay, and the reward model's training and continuation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_reward
from mathquarry.models.policy.questions import Question
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.reward.config import LabelConfig, RefreshConfig, RewardConfig
from mathquarry.models.reward.data import choose, draw_replay, is_validation, split
from mathquarry.models.reward.examples import LabelledExamples, RewardExample, RewardExamples, read_reward_data, write_reward_data
from mathquarry.models.reward.stage import refresh_reward, train_reward
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import ScheduleConfig
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_problems, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
CONFIG = RewardConfig(
    questions=40,
    group_size=4,
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
    """Half of the samples add correctly, half say 0, which is always wrong; prefixes are completed as they began."""
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
    workspace = Workspace.at(folder / "reward")
    return workspace.out, train_reward(config, policy, policy, problems, workspace, ScriptedEngine(writes_seven))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    return trained(tmp_path_factory.mktemp("reward"))


def history_of(folder: Path, *sizes: int) -> list[Path]:
    """Reward artifacts of this many examples each, of different problems, one per iteration."""
    folders, first = [], 0
    for iteration, size in enumerate(sizes):
        folders.append(folder / str(iteration))
        folders[-1].mkdir()
        write_reward_data(folders[-1] / "reward_data.parquet", (example(first + i, iteration) for i in range(size)))
        first += size
    return folders


def drawn(
    folders: list[Path], fresh: int = 900, seed: int = 0, iteration: int = 1, held_out: float = 0.0, **changes: object
) -> RewardExamples:
    return draw_replay(folders, fresh, RefreshConfig(**changes), held_out, seed, iteration)  # type: ignore[arg-type]


def test_replay_makes_up_its_share_of_all_training_examples(tmp_path: Path) -> None:
    replayed = drawn(history_of(tmp_path, 500))
    assert len(replayed) / (len(replayed) + 900) == 0.1
    assert len({e.problem_id for e in replayed}) == len(replayed)


def test_replay_may_be_a_share_of_the_history_instead(tmp_path: Path) -> None:
    folders = history_of(tmp_path, 300, 200)
    assert len(drawn(folders, fresh=10, replay_of="history")) == len(drawn(folders, fresh=5000, replay_of="history")) == 50
    assert len(drawn(folders, replay_of="history", replay_share=1.0)) == 500


def test_replay_is_drawn_from_the_seed_and_the_iteration(tmp_path: Path) -> None:
    folders = history_of(tmp_path, 500)
    draws = [[e.problem_id for e in drawn(folders, seed=seed, iteration=step)] for seed, step in [(0, 1), (0, 1), (0, 2), (1, 1)]]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] != draws[3] != draws[0]


def test_replay_is_drawn_from_all_earlier_data_but_not_from_held_out_problems(tmp_path: Path) -> None:
    folders = history_of(tmp_path, 100, 100, 0, 100, 5000)
    replayed = list(drawn(folders, held_out=0.3, fresh=9000, iteration=5))
    assert {e.iteration for e in replayed} == {0, 1, 3, 4}
    assert not any(is_validation(e.problem_id, 0.3) for e in replayed)
    everything = [e for folder in folders for e in read_reward_data(folder / "reward_data.parquet")]
    assert [e for e in everything if e in replayed] == replayed


def test_a_short_history_is_replayed_whole(tmp_path: Path) -> None:
    folders = history_of(tmp_path, 5)
    assert len(drawn(folders)) == 5
    assert len(drawn([])) == 0
    assert len(drawn(folders, replay_share=0.0)) == 0


def test_a_replay_share_of_1_of_the_mix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="replay_share"):
        drawn(history_of(tmp_path, 1), replay_share=1.0)


def test_a_history_that_is_no_reward_data_is_named(tmp_path: Path) -> None:
    folders = history_of(tmp_path, 3)
    (folders[0] / "reward_data.parquet").write_bytes(b"cut")
    with pytest.raises(MathQuarryError, match=r"reward_data.parquet is not reward data: .* Run the reward stage again"):
        drawn(folders)


def test_the_split_goes_by_problem_and_has_about_the_configured_size() -> None:
    training, validation = split(RewardExamples.of(example(i // 2) for i in range(4000)), 0.1)
    assert not {e.problem_id for e in training} & {e.problem_id for e in validation}
    assert len(training) + len(validation) == 4000
    assert 0.07 < len(validation) / 4000 < 0.13


def test_a_larger_validation_share_holds_out_the_same_problems_and_more() -> None:
    small, large = ({i for i in range(1000) if is_validation(f"p{i}", share)} for share in (0.1, 0.3))
    assert small < large
    assert not any(is_validation(f"p{i}", 0.0) for i in range(1000))


def test_labels_belong_to_the_last_tokens_of_steps_and_nothing_else_has_one() -> None:
    tokens, labels = LabelledExamples(RewardExamples.of([example(0)]))[0]
    assert list(tokens) == [5, 6, 7, 8, 9]
    assert [None if value != value else value for value in labels] == [None, None, 1.0, None, 0.0]


def test_an_outcome_label_belongs_to_the_last_token() -> None:
    outcome = RewardExample(0, "p", [5, 6], [7, 8, 9], [0, 2], [1.0], True, True)
    assert outcome.label_ends == [2]
    _, labels = LabelledExamples(RewardExamples.of([outcome]))[0]
    assert [None if value != value else value for value in labels] == [None, None, None, None, 1.0]


def test_the_reward_model_learns_to_tell_right_from_wrong(first: tuple[Path, dict]) -> None:
    _, summary = first
    assert summary["auc"] > 0.9
    assert summary["step_auc"] > 0.9
    assert summary["training_solutions"] > summary["validation_solutions"] > 0


def test_reward_data_holds_each_output_of_a_question_once_with_a_label_a_step(first: tuple[Path, dict]) -> None:
    examples = read_reward_data(first[0] / "reward_data.parquet")
    assert len({(e.problem_id, tuple(e.completion)) for e in examples}) == len(examples)
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
    import mathquarry.models.reward.stage as stage

    seen: list[RewardExample] = []
    train = stage._train
    monkeypatch.setattr(
        stage,
        "_train",
        lambda config, model, start, examples, *rest: (seen.extend(examples), train(config, model, start, examples, *rest))[1],
    )
    policy, problems = save_policy(tmp_path / "policy", seed=1), save_problems(tmp_path / "problems", 60)
    workspace = Workspace.at(tmp_path / "refresh")
    refresh = RefreshConfig(questions=30, epochs=4, replay_share=0.3)
    summary = refresh_reward(CONFIG, refresh, first[0] / "model", policy, problems, [first[0]], 1, workspace, ScriptedEngine(writes_seven))

    assert not any(is_validation(e.problem_id, CONFIG.validation_share) for e in seen)
    replayed = [e for e in seen if e.iteration == 0]
    assert len(replayed) == summary["replayed_solutions"]
    assert len(replayed) / len(seen) == pytest.approx(0.3, abs=0.02)
    fresh = read_reward_data(workspace.out / "reward_data.parquet")
    assert {e.iteration for e in fresh} == {1}
    assert any(is_validation(e.problem_id, CONFIG.validation_share) for e in fresh)
    assert summary["auc"] >= summary["before_auc"] > 0.9
    assert load_reward(workspace.out / "model").config.num_labels == 1


def test_an_interrupted_sampling_goes_on_with_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.models.reward.data.QUESTIONS_A_PART", 8)
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


def test_each_iteration_asks_other_questions_and_the_same_ones_again_when_repeated() -> None:
    questions = [Question(Problem(f"p{number}", "?", "1"), [1]) for number in range(40)]

    def chosen(count: int, seed: int, iteration: int) -> list[str]:
        return [question.problem.id for question in choose(questions, count, seed, iteration)]

    assert chosen(10, 0, 2) == chosen(10, 0, 2)
    draws = [chosen(10, 0, 1), chosen(10, 0, 2), chosen(10, 1, 1)]
    assert all(len(set(draw)) == 10 for draw in draws)
    assert len({frozenset(draw) for draw in draws}) == 3
    assert sorted(chosen(99, 0, 1)) == sorted(question.problem.id for question in questions)


def test_a_refresh_has_questions_passes_and_a_draw_of_its_own(first: tuple[Path, dict], tmp_path: Path) -> None:
    """In none of these it is what the reward model's first training was."""
    policy, problems = save_policy(tmp_path / "policy", seed=1), save_problems(tmp_path / "problems", 60)

    def refreshed(name: str, iteration: int = 1, **fields: float) -> tuple[dict, set[str]]:
        workspace = Workspace.at(tmp_path / name)
        refresh = RefreshConfig(**{"questions": 20, "epochs": 1, "replay_share": 0.0, **fields})
        summary = refresh_reward(
            CONFIG, refresh, first[0] / "model", policy, problems, [first[0]], iteration, workspace, ScriptedEngine(writes_seven)
        )
        return summary, {e.problem_id for e in read_reward_data(workspace.out / "reward_data.parquet")}

    once, asked = refreshed("once")
    thrice, same = refreshed("thrice", epochs=3)
    assert (once["questions"], asked) == (20, same)
    assert CONFIG.questions != 20
    # Rows are packed alike, and a step holds 8: three passes take at most three times as many steps, rounded up.
    assert 3 * (once["steps"] - 1) < thrice["steps"] <= 3 * once["steps"]
    assert first[1]["steps"] > thrice["steps"]
    _, others = refreshed("later", iteration=2)
    assert others != asked


def test_a_cut_solution_is_labelled_wrong_though_its_box_is_right(tmp_path: Path) -> None:
    def cut(prompt: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
        tokens, finished = writes_seven(prompt, seed, sample)
        return (tokens, finished) if sample % 2 else (tokens[:-1], False)

    policy, problems = save_policy(tmp_path / "policy"), save_problems(tmp_path / "problems", 60)
    workspace = Workspace.at(tmp_path / "reward")
    config = CONFIG.model_copy(update={"supervision": "outcome", "epochs": 1})
    train_reward(config, policy, policy, problems, workspace, ScriptedEngine(cut))
    examples = read_reward_data(workspace.out / "reward_data.parquet")
    unfinished = [example for example in examples if not example.finished]
    assert any("0=0" not in TOKENIZER.decode(example.completion) for example in unfinished)
    assert not any(example.correct or example.labels != [0.0] for example in unfinished)
    assert any(example.correct for example in examples)


def test_reward_data_of_which_almost_nothing_ends_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy, problems = save_policy(tmp_path / "policy"), save_problems(tmp_path / "problems", 20)
    config = CONFIG.model_copy(update={"supervision": "outcome", "epochs": 1})
    for ends in (True, False):
        engine = ScriptedEngine(lambda *asked, ends=ends: (writes_seven(*asked)[0], ends))
        train_reward(config, policy, policy, problems, Workspace.at(tmp_path / f"reward-{ends}"), engine)
        assert ("reward data: only 0.0% of the completions ended within" in caplog.text) is not ends


def test_questions_and_samples_of_the_first_reward_data_are_the_configs(tmp_path: Path) -> None:
    engine = ScriptedEngine(writes_seven)
    policy, problems = save_policy(tmp_path / "policy"), save_problems(tmp_path / "problems", 60)
    config = CONFIG.model_copy(update={"supervision": "outcome", "epochs": 1, "questions": 30, "group_size": 3})
    train_reward(config, policy, policy, problems, Workspace.at(tmp_path / "reward"), engine)
    assert engine.samples == [3] * 30
