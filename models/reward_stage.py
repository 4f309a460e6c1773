"""Stage `reward`: train the reward model, and continue it with replay after each iteration (paper sections 4.1.2 to 4.1.4 and 4.2).

What the paper leaves open, our choice:
1. the replayed 10 % are a share of the examples of a refresh, drawn from all earlier reward data alike;
2. some problems are held out, the same in every iteration: nothing sampled for them is ever trained on, in a refresh or as replay;
3. the schedule starts again with each refresh, at the same peak rate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import MathQuarryError
from data.files import write_json
from data.workspace import Workspace
from models.checkpoint import load_reward, load_tokenizer, new_reward_model, read_prompt_style, save
from models.config import RefreshConfig, RewardConfig
from models.packing import Epochs, pack
from models.prompts import Prompter
from models.questions import read_questions
from models.reward import RewardModel, area_under_curve, reward_loss
from models.reward_curves import best_of_n, calibration_curve, calibration_error, powers_of_two
from models.reward_data import RewardExample, choose, draw_replay, make_reward_data, read_history, split
from models.rollout.engine import RolloutEngine, context_limit, make_engine
from models.train import fit, rows_per_step

CURVES = "curves.json"
Summary = dict[str, float | int | str]


def train_reward(
    config: RewardConfig, start: Path, policy: Path, problems: Path, space: Workspace, engine: RolloutEngine | None = None
) -> Summary:
    """Sample and label solutions of `policy`, and train a new head on the weights of `start` with them.

    `start` and `policy` are checkpoint folders, `problems` holds `train.jsonl`. Writes `space.out / "model"` and
    `space.out / "reward_data.parquet"`. `engine` generates with the policy; without one it is made from `config.rollout`.

    Returns counts, and how well the model tells right from wrong on problems it was not trained on (see `measure`). Raises
    `MathQuarryError` when an input cannot be read or no solution fits `context_tokens`.
    """
    tokenizer = load_tokenizer(policy)
    _same_vocabulary(tokenizer, load_tokenizer(start), policy, start)
    model = new_reward_model(start, config.seed)
    examples, left_out = _sample(config, policy, problems, config.questions, 0, tokenizer, model, space, engine)
    training, validation = split(examples, config.validation_share)
    result = _train(config, model, training, config.epochs, space)
    save(model, tokenizer, space.out / "model", read_prompt_style(policy, tokenizer))
    return {**_counts(examples, training, validation, left_out), **result, **measure(model, validation, config, space.out / CURVES)}


def refresh_reward(
    config: RewardConfig,
    refresh: RefreshConfig,
    reward: Path,
    policy: Path,
    problems: Path,
    history: list[Path],
    iteration: int,
    space: Workspace,
    engine: RolloutEngine | None = None,
) -> Summary:
    """Continue the reward model `reward` on solutions of the new `policy`, mixed with replay (paper section 4.1.4).

    `history` are the folders of all earlier reward artifacts, oldest first. Writes `space.out / "model"` and
    `space.out / "reward_data.parquet"` (the new data only). Returns counts, and figures on the held-out problems' new solutions before
    (`before_...`) and after. Raises `MathQuarryError` when an input cannot be read.
    """
    tokenizer = load_tokenizer(policy)
    _same_vocabulary(tokenizer, load_tokenizer(reward), policy, reward)
    model = load_reward(reward)
    examples, left_out = _sample(config, policy, problems, refresh.questions, iteration, tokenizer, model, space, engine)
    training, validation = split(examples, config.validation_share)
    earlier, _ = split(list(read_history(history)), config.validation_share)
    replayed = draw_replay(earlier, len(training), refresh.replay_share, config.seed, iteration)
    before = measure(model, validation, config)
    result = _train(config, model, [*training, *replayed], refresh.epochs, space)
    save(model, tokenizer, space.out / "model", read_prompt_style(policy, tokenizer))
    return {
        **_counts(examples, training, validation, left_out),
        "replayed_solutions": len(replayed),
        **result,
        **{f"before_{name}": value for name, value in before.items()},
        **measure(model, validation, config, space.out / CURVES),
    }


def measure(model: PreTrainedModel, examples: Sequence[RewardExample], config: RewardConfig, curves: Path | None = None) -> Summary:
    """How well a reward model judges labelled solutions; what cannot be said (only one kind of solution) is left out.

    `auc`: does the last token's score separate right from wrong solutions; `auc_within_question`: the same among the solutions of one
    question, averaged, which is what a group-relative advantage needs; `accuracy`: share of solutions on the right side of 0.5;
    `step_auc`: do step-end scores separate steps with labels above and below 0.5 (process supervision only); `calibration_error`: mean
    distance between score and share of right solutions; `best_of_N`: accuracy of taking a question's best-scored of N different solutions.
    The curves behind the last two are written to `curves`, if given.
    """
    if not examples:
        return {}
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    scorer = RewardModel(model, config.micro_batch_rows * config.context_tokens, config.precision)
    scores = scorer.score([e.prompt for e in examples], [e.output for e in examples], [e.label_ends for e in examples])
    last, right = [row[-1] for row in scores], [example.correct for example in examples]
    by_question: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        by_question[example.problem_id].append(place)
    within = [area_under_curve([last[p] for p in places], [right[p] for p in places]) for places in by_question.values()]
    known = [value for value in within if value is not None]
    calibration = calibration_curve(last, right)
    grouped = list(by_question.values())
    best: dict[str, float | None] = {
        f"best_of_{n}": best_of_n([[last[p] for p in places] for places in grouped], [[right[p] for p in places] for places in grouped], n)
        for n in powers_of_two(max(map(len, grouped)))
    }
    if curves is not None:
        write_json(
            curves, {"calibration": calibration, "best_of_n": {name.removeprefix("best_of_"): value for name, value in best.items()}}
        )
    figures = {
        "auc": area_under_curve(last, right),
        "auc_within_question": sum(known) / len(known) if known else None,
        "accuracy": sum((score > 0.5) == correct for score, correct in zip(last, right, strict=True)) / len(examples),
        "step_auc": area_under_curve(
            [score for row in scores for score in row], [label > 0.5 for example in examples for label in example.labels]
        )
        if config.supervision == "process"
        else None,
        "calibration_error": calibration_error(calibration),
        **best,
    }
    return {name: round(value, 6) for name, value in figures.items() if value is not None}


def _sample(
    config: RewardConfig,
    policy: Path,
    problems: Path,
    count: int,
    iteration: int,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    space: Workspace,
    engine: RolloutEngine | None,
) -> tuple[list[RewardExample], int]:
    """Labelled solutions of `count` training questions, and how many questions were too long."""
    prompter = Prompter(tokenizer, read_prompt_style(policy, tokenizer))
    questions, left_out = read_questions(problems / "train.jsonl", prompter, context_limit(model.config))
    used = engine or make_engine(config.rollout, policy)
    try:
        return make_reward_data(config, choose(questions, count, config.seed, iteration), used, tokenizer, iteration, space), left_out
    finally:
        if engine is None:
            used.close()


def _train(config: RewardConfig, model: PreTrainedModel, examples: Sequence[RewardExample], epochs: int, space: Workspace) -> Summary:
    if not examples:
        raise MathQuarryError("there is no reward data to train on: all sampled questions are held out. Raise reward.questions.")
    rows = pack([example.tokens_and_labels() for example in examples], config.context_tokens, config.seed)
    steps = math.ceil(epochs * len(rows) / rows_per_step(config))
    return {**fit(model, Epochs(rows, config.seed), config, steps, space, "reward", reward_loss), "too_long_solutions": rows.dropped}


def _counts(
    examples: Sequence[RewardExample], training: Sequence[RewardExample], validation: Sequence[RewardExample], left_out: int
) -> Summary:
    labels = [label for example in examples for label in example.labels]
    return {
        "questions": len({example.problem_id for example in examples}),
        "questions_too_long": left_out,
        "training_solutions": len(training),
        "validation_solutions": len(validation),
        "correct_share": round(sum(example.correct for example in examples) / len(examples), 6),
        "mean_label": round(sum(labels) / len(labels), 6),
        "steps_per_solution": round(sum(len(example.step_ends) for example in examples) / len(examples), 6),
    }


def _same_vocabulary(policy: PreTrainedTokenizerBase, reward: PreTrainedTokenizerBase, policy_dir: Path, reward_dir: Path) -> None:
    """A reward model reads the policy's token ids."""
    if policy.get_vocab() != reward.get_vocab():
        raise MathQuarryError(
            f"{reward_dir} and {policy_dir} have different tokenizers. The reward model must start from the policy's family."
        )
