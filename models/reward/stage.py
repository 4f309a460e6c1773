"""Stage `reward`: trains the reward model, and continues it with replay after each iteration (paper sections 4.1.2 to 4.1.4 and 4.2).

Our choices, where the paper does not say:
1. the replayed 10 % are a share of a refresh's examples (or of the history: `refresh.replay_of`), drawn uniformly from all earlier reward
   data;
2. the same problems are held out in every iteration: their samples are never trained on, neither in a refresh nor as replay;
3. each refresh restarts the learning rate schedule, at the same peak.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.config import Precision
from mathquarry.models.logprobs.partition import own_partition
from mathquarry.models.policy.adapters import adapter_summary
from mathquarry.models.policy.attention import use_attention
from mathquarry.models.policy.checkpoint import (
    load_reward,
    load_tokenizer,
    new_reward_model,
    policy_config,
    read_prompt_style,
    reward_config,
    save,
)
from mathquarry.models.policy.config import AttentionImplementation
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.questions import read_questions
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.ranks.launch import launch
from mathquarry.models.reward.config import RefreshConfig, RewardConfig, check_rollouts
from mathquarry.models.reward.curves import best_of_n, calibration_curve, calibration_error, powers_of_two
from mathquarry.models.reward.data import choose, draw_replay, make_reward_data, split
from mathquarry.models.reward.examples import LabelledExamples, RewardExample, RewardExamples, write_mapped
from mathquarry.models.reward.model import RewardModel, area_under_curve, reward_loss
from mathquarry.models.reward.rollouts import GradedRollouts
from mathquarry.models.rollout.engine import RolloutEngine, context_limit
from mathquarry.models.rollout.finished import warn_if_few_finish
from mathquarry.models.train.fit import fit
from mathquarry.models.train.optimizer import rows_per_step
from mathquarry.models.train.packing import Epochs, pack

CURVES = "curves.json"
Summary = dict[str, float | int | str]


def train_reward(
    config: RewardConfig, start: Path, policy: Path, problems: Path, workspace: Workspace, engine: RolloutEngine | None = None
) -> Summary:
    """Sample and label solutions of `policy`, and train a new head on the weights of `start` with them.

    `start` and `policy` are checkpoint folders; `problems` holds `train.jsonl`. Writes `workspace.out / "model"` and
    `workspace.out / "reward_data.parquet"`. `engine` generates with the policy; by default it is made from `config.rollout`.

    Returns counts, and the model's accuracy on held-out problems (see `measure`). Raises `MathQuarryError` if an input cannot be read or no
    solution fits `context_tokens`.
    """
    tokenizer = load_tokenizer(policy)
    _same_vocabulary(tokenizer, load_tokenizer(start), policy, start)
    examples, left_out = _sample(config, policy, problems, config.questions, 0, tokenizer, policy_config(start), workspace, engine)
    training, validation = split(examples, config.validation_share)
    result = _train(config, new_reward_model(start, config.seed), start, training, config.epochs, workspace, policy, tokenizer)
    metrics = measure(workspace.out / "model", validation, config, workspace, workspace.out / CURVES)
    return {**_counts(examples, training, validation, left_out), **result, **metrics}


def refresh_reward(
    config: RewardConfig,
    refresh: RefreshConfig,
    reward: Path,
    policy: Path,
    problems: Path,
    history: list[Path],
    iteration: int,
    workspace: Workspace,
    engine: RolloutEngine | None = None,
) -> Summary:
    """Continue training the reward model `reward` on solutions of the new `policy`, mixed with replay (paper section 4.1.4).

    `history` lists the folders of all earlier reward artifacts, oldest first. With `refresh.data = "rollouts"` the solutions are those in
    `policy.parent / "rollouts.parquet"`, which `grpo_iteration` wrote beside the policy. Writes `workspace.out / "model"` and
    `workspace.out / "reward_data.parquet"` (the new data only). Returns counts, and metrics on new solutions of the held-out problems,
    before (`before_...`) and after training. Raises `MathQuarryError` if an input cannot be read.
    """
    tokenizer = load_tokenizer(policy)
    _same_vocabulary(tokenizer, load_tokenizer(reward), policy, reward)
    rollouts = GradedRollouts.of(policy.parent) if refresh.data == "rollouts" else None
    examples, left_out = _sample(
        config, policy, problems, refresh.questions, iteration, tokenizer, reward_config(reward), workspace, engine, rollouts
    )
    training, validation = split(examples, config.validation_share)
    replayed = draw_replay(history, len(training), refresh, config.validation_share, config.seed, iteration)
    before = measure(reward, validation, config, workspace)
    mixed = write_mapped(workspace.scratch / "training.arrow", [training, replayed])
    result = _train(config, load_reward(reward), reward, mixed, refresh.epochs, workspace, policy, tokenizer)
    return {
        **_counts(examples, training, validation, left_out),
        "replayed_solutions": len(replayed),
        **result,
        **{f"before_{name}": value for name, value in before.items()},
        **measure(workspace.out / "model", validation, config, workspace, workspace.out / CURVES),
    }


def measure(
    reward: Path, examples: Sequence[RewardExample], config: RewardConfig, workspace: Workspace, curves: Path | None = None
) -> Summary:
    """Evaluate the reward model in a folder on labelled solutions. Metrics that are undefined (only one class) are left out.

    `auc`: whether the last token's score separates correct from wrong solutions; `auc_within_question`: the same among the solutions of one
    question, averaged, since group-relative advantages compare these; `accuracy`: share of solutions on the correct side of 0.5;
    `step_auc`: whether scores at step ends separate labels above and below 0.5 (process supervision only); `calibration_error`: mean
    distance between score and share of correct solutions; `best_of_N`: accuracy of the best-scored of N different solutions of a question.
    The curves of the last two are written to `curves`, if given.
    """
    if not examples:
        return {}
    sequences = [(example.prompt, example.completion, example.label_ends) for example in examples]
    arguments = (reward.resolve(), sequences, config.micro_batch_rows * config.context_tokens, config.precision, config.attn_implementation)
    scores = score(workspace, *arguments) if config.ranks.size == 1 else launch(score, arguments, config.ranks, workspace, "reward-scores")
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
    metrics = {
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
    return {name: round(value, 6) for name, value in metrics.items() if value is not None}


def score(
    workspace: Workspace,
    reward: Path,
    sequences: Sequence[Sequence],
    micro_batch_tokens: int,
    precision: Precision,
    attention: AttentionImplementation,
) -> list[list[float]]:
    """Score (prompt, completion, step ends) with the reward model in a folder. The model is on this rank's device only during the call.

    Ranks share the sequences, and each returns all scores.
    """
    ranks = Ranks.current()
    model = load_reward(reward).to(ranks.device)  # type: ignore[arg-type]
    use_attention(model, attention)
    share = own_partition([len(prompt) + len(completion) for prompt, completion, _ in sequences], ranks)
    prompts, completions, ends = ([row[part] for row in sequences[share.start : share.stop]] for part in range(3))
    scores = RewardModel(model, micro_batch_tokens, precision).score(prompts, completions, ends)
    return [row for rows in ranks.gather(scores) for row in rows]


def _sample(
    config: RewardConfig,
    policy: Path,
    problems: Path,
    count: int,
    iteration: int,
    tokenizer: PreTrainedTokenizerBase,
    reward: PreTrainedConfig,
    workspace: Workspace,
    engine: RolloutEngine | None,
    rollouts: GradedRollouts | None = None,
) -> tuple[RewardExamples, int]:
    """Return labelled solutions of `count` training questions, and how many questions were too long."""
    if rollouts is not None:
        check_rollouts(config.supervision, rollouts.format)
    prompter = Prompter(tokenizer, read_prompt_style(policy, tokenizer))
    format = "cot" if rollouts is None else rollouts.format
    questions, left_out = read_questions(problems / "train.jsonl", prompter, context_limit(reward), format, config.problem_sets)
    if rollouts is not None:
        questions = rollouts.asked(questions)
    chosen = choose(questions, count, config.seed, iteration)
    examples = make_reward_data(config, chosen, policy, iteration, workspace, engine, rollouts)
    if rollouts is None:  # the iteration that made the rollouts has warned about them
        warn_if_few_finish("reward data", pc.mean(examples.column("finished")).as_py(), config.rollout.max_tokens)
    return examples, left_out


def _train(
    config: RewardConfig,
    model: PreTrainedModel,
    start: Path,
    examples: RewardExamples,
    epochs: int,
    workspace: Workspace,
    policy: Path,
    tokenizer: PreTrainedTokenizerBase,
) -> Summary:
    """Train the model, which has the weights of `start`, and save it with the policy's tokenizer."""
    if not examples:
        raise MathQuarryError("there is no reward data to train on: all sampled questions are held out. Increase reward.questions.")
    rows = pack(LabelledExamples(examples), config.context_tokens, config.seed, examples.token_counts().tolist())
    steps = math.ceil(epochs * len(rows) / rows_per_step(config))
    result = fit(model, Epochs(rows, config.seed), config, steps, workspace, "reward", reward_loss)
    save(model, tokenizer, workspace.out / "model", read_prompt_style(policy, tokenizer), base=start)
    return {**result, **adapter_summary(model), "too_long_solutions": rows.dropped}


def _counts(examples: RewardExamples, training: RewardExamples, validation: RewardExamples, left_out: int) -> Summary:
    return {
        "questions": pc.count_distinct(examples.column("problem_id")).as_py(),
        "questions_too_long": left_out,
        "training_solutions": len(training),
        "validation_solutions": len(validation),
        "correct_share": round(pc.mean(examples.column("correct")).as_py(), 6),
        "mean_label": round(pc.mean(pc.list_flatten(examples.column("labels"))).as_py(), 6),
        "steps_per_solution": round(pc.mean(pc.list_value_length(examples.column("step_ends"))).as_py(), 6),
    }


def _same_vocabulary(policy: PreTrainedTokenizerBase, reward: PreTrainedTokenizerBase, policy_dir: Path, reward_dir: Path) -> None:
    """Check that policy and reward model have the same tokenizer: the reward model reads the policy's token ids."""
    if policy.get_vocab() != reward.get_vocab():
        raise MathQuarryError(
            f"{reward_dir} and {policy_dir} have different tokenizers. Start the reward model from a model of the policy's family."
        )
