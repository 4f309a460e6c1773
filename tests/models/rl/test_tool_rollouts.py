"""Rollouts with tools: what is graded, where steps end, and that the output of programs is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.checker import Checker
from mathquarry.data.problems.problem import Problem
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.recipe import load_recipe
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.policy.questions import Question
from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.loop import Loop
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.objectives import kl_estimate
from mathquarry.models.rl.rollout_table import write_rollouts
from mathquarry.models.rl.rollouts import Rollouts
from mathquarry.models.rl.tools import dialogue_ends, measure_calls
from mathquarry.models.rl.update import Experience, make_optimizer, update_policy
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.engine import Completion, Stop
from mathquarry.models.rollout.tools import ToolRollouts
from tests.models.rl.guesser import TOOL, save_guesser
from tests.models.rl.tiny import save_policy, save_problems, tiny_policy, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id


class Scripted:
    """An engine that continues a prompt as its script says, by the programs that the prompt has, stopping as a real one does."""

    limit = None

    def __init__(self, *scripts: Sequence[str]) -> None:
        """One script a sample: its segments in order. A segment that ends in `$` ends the answer."""
        self.scripts = scripts
        self.began: list[list[int]] = []

    def generate(self, prompts: list[list[int]], *, n: int, stop: Stop, max_tokens: Any, **_: object) -> list[list[Completion]]:
        if n > 1:
            return [[self._write(self.scripts[sample][0], stop) for sample in range(n)] for _ in prompts]
        self.began += prompts
        return [[self._write(self._next(prompt), stop)] for prompt in prompts]

    def _next(self, prompt: list[int]) -> str:
        text = TOKENIZER.decode(prompt)
        (script,) = {tuple(script) for script in self.scripts if len(script) > 1 and script[0] in text}
        return script[text.count("```output")]

    def _write(self, text: str, stop: Stop) -> Completion:
        tokens = encode(TOKENIZER, text.removesuffix("$")) + [EOS] * text.endswith("$")
        for end in range(1, len(tokens) + 1):
            if tokens[end - 1] in stop.tokens and stop.holds(tokens[:end]):
                return Completion(tokens[:end], [-1.0] * end, False, True)
        return Completion(tokens, [-1.0] * len(tokens), text.endswith("$"))


BOXED_BY_A_PROGRAM = ("Try.\n```python\nprint(4)\n```", "I see.$")
BROKEN_THEN_RIGHT = ("```python\nx=2+\n```", "Again:\n```python\nx=2+2\nprint(x)\n```", "so\n\\boxed{4}$")
DIRECT = ("\\boxed{4}$",)


def loop_of(config: GRPOConfig, folder: Path, engine: Any, sandbox: Any, checker: Checker) -> Loop:
    policy = save_policy(folder / "policy")
    question = Question(Problem("p", "2+2?", "4"), encode(TOKENIZER, "2+2?"))
    tools = ToolRollouts(TOKENIZER, sandbox, config.tools)
    return Loop(config, 1, TOKENIZER, [question], None, [question], Models.load(config, policy, None), engine, checker, folder, tools)


def scored_by(config: GRPOConfig, folder: Path, *scripts: Sequence[str]) -> Rollouts:
    config = config.model_copy(update={"prompts_per_step": 1, "group_size": len(scripts)})
    with make_sandbox(config.tools.programs) as sandbox, Checker(config.grade) as checker:
        loop = loop_of(config, folder, Scripted(*scripts), sandbox, checker)
        return loop.score(loop.sampler.sample(1))


def test_the_answer_is_what_the_model_boxed_and_not_what_a_program_printed(tmp_path: Path) -> None:
    """The second one's program prints the right answer, and the model boxes another."""
    printed = ("```python\nx=4\nprint(x)\n```", "\\boxed{5}$")
    rollouts = scored_by(GRPOConfig.model_validate(TOOL), tmp_path, DIRECT, printed, BROKEN_THEN_RIGHT)
    assert rollouts.correct == [True, False, True]
    assert rollouts.rewards == [[1.0], [0.0], [1.0]]
    assert "```output\n4\n```" in rollouts.texts[1]
    assert [[(call.program, bool(call.result.error)) for call in calls] for calls in rollouts.calls] == [
        [],
        [("x=4\nprint(x)\n", False)],
        [("x=2+\n", True), ("x=2+2\nprint(x)\n", False)],
    ]


def test_an_answer_in_what_a_program_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mathquarry.data.programs.arithmetic import ArithmeticSandbox
    from mathquarry.data.programs.interface import Result

    class Session:
        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None: ...

        def run(self, program: str) -> Result:
            return Result("\\boxed{4}")

    monkeypatch.setattr(ArithmeticSandbox, "session", lambda self: Session())
    rollouts = scored_by(GRPOConfig.model_validate(TOOL), tmp_path, BOXED_BY_A_PROGRAM, DIRECT)
    assert "\\boxed{4}" in rollouts.texts[0]
    assert rollouts.correct == [False, True]


def test_steps_are_lines_that_the_model_wrote_and_end_where_a_program_printed(tmp_path: Path) -> None:
    rollouts = scored_by(GRPOConfig.model_validate(TOOL), tmp_path, BROKEN_THEN_RIGHT, DIRECT)
    steps, start = [], 0
    tokens, mask = rollouts.completions[0], rollouts.masks[0]
    for end in rollouts.step_ends[0]:
        steps.append(TOKENIZER.decode([token for token, own in zip(tokens[start : end + 1], mask[start : end + 1], strict=True) if own]))
        start = end + 1
    assert [step.replace("<eos>", "").removesuffix(TOKENIZER.eos_token) for step in steps] == [
        "```python\n",
        "x=2+\n",
        "```",
        "Again:\n",
        "```python\n",
        "x=2+2\n",
        "print(x)\n",
        "```",
        "so\n",
        "\\boxed{4}",
    ]
    assert all(mask[end] for end in rollouts.step_ends[0])


def test_ends_of_runs_by_hand() -> None:
    marker, newline = StepMarker(TOKENIZER), encode(TOKENIZER, "\n")[0]
    a = encode(TOKENIZER, "7")[0]
    assert dialogue_ends(marker, [a, newline, a, a, a, newline, a], [1, 1, 1, 0, 0, 0, 1]) == [1, 2, 6]
    assert dialogue_ends(marker, [a, a, newline], [1, 0, 0]) == [0]
    assert dialogue_ends(marker, [a, newline, a], [1, 1, 1]) == marker.ends([a, newline, a])


def test_the_number_of_calls_is_limited_and_counted(tmp_path: Path) -> None:
    config = GRPOConfig.model_validate({**TOOL, "tools": {**TOOL["tools"], "max_calls": 1}})
    rollouts = scored_by(config, tmp_path, BROKEN_THEN_RIGHT, DIRECT)
    assert [len(calls) for calls in rollouts.calls] == [1, 0]
    assert rollouts.finished == rollouts.correct == [False, True]
    metrics = measure_calls(rollouts.masks, rollouts.calls, rollouts.finished, 1)
    assert metrics == {
        "tool_calls": 0.5,
        "tool_share": 0.5,
        "tool_calls_failed": 1.0,
        "tool_calls_used_up": 0.5,
        "tool_tokens": rollouts.masks[0].count(0) / 2,
    }
    assert measure_calls([[1]], [[]], [True], 1)["tool_calls_failed"] is None


def test_a_reward_function_gets_the_calls_and_which_tokens_the_model_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "likes_calls.py").write_text(
        "def f(completion_ids, completion_mask, calls, steps):\n"
        "    assert [row[-2:] for row in steps] == [['\\\\boxed{4}'], ['so\\n', '\\\\boxed{4}']]\n"
        "    assert not any('```output' in step for row in steps for step in row)\n"
        "    assert [len(tokens) for tokens in completion_ids] == [len(mask) for mask in completion_mask]\n"
        "    return [sum(1 if call['error'] is None else -0.5 for call in row) + 10 * (0 in mask)\n"
        "            for row, mask in zip(calls, completion_mask)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = GRPOConfig.model_validate({**TOOL, "rewards": [{"kind": "function", "function": "likes_calls:f"}]})
    assert scored_by(config, tmp_path, DIRECT, BROKEN_THEN_RIGHT).rewards == [[0.0], [10.5]]


PROMPTS = [[5, 6, 7], [5, 6, 7], [9, 10]]
COMPLETIONS = [[20, 21, 22, 23, 24], [30, 31, 32, 33], [40, 41, 42]]
MASKS = [[1, 1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1]]
ADVANTAGES = torch.tensor([[1.0, 1.0, 7.0, -9.0, 1.0], [-0.5, 3.0, 3.0, -0.5, 0.0], [0.25, 0.25, 0.25, 0.0, 0.0]])


def learned(changes: dict[int, float], engine: float = 0.0, **fields: Any) -> tuple[dict[str, torch.Tensor], dict[str, float | None]]:
    """Weights after one step, and its metrics, with other advantages and engine log-probabilities at tokens of programs."""
    config = GRPOConfig.model_validate({**TOOL, "learning_rate": 1e-2, **fields})
    advantages = ADVANTAGES.clone()
    for row, mask in enumerate(MASKS):
        for place, own in enumerate(mask):
            if not own:
                advantages[row, place] = changes.get(row, float(advantages[row, place]))
    drawn_with = [[-1.0 if own else engine for own in mask] for mask in MASKS]
    policy = tiny_policy(0)
    experience = Experience(PROMPTS, COMPLETIONS, advantages, drawn_with, masks=MASKS)
    metrics = update_policy(policy, tiny_policy(1), make_optimizer(policy, config), experience, config)
    return policy.state_dict(), metrics


def test_what_stands_at_tokens_of_programs_changes_no_bit_of_the_update() -> None:
    fields = {"num_updates": 2, "tis_cap": 2.0}
    weights, metrics = learned({}, **fields)
    others, same = learned({0: 100.0, 1: -3.0}, engine=-50.0, **fields)
    assert metrics == same
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_gradient_at_tokens_of_programs_is_exactly_zero_and_that_of_the_others_is_not(attention: str) -> None:
    """At the last hidden states that predict them, which nothing but the loss of a token reads."""
    config = GRPOConfig.model_validate(TOOL)
    policy = tiny_policy(0)
    policy.set_attn_implementation(attention)
    gradients: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, hidden_BTD: torch.Tensor) -> None:
        if hidden_BTD.requires_grad:
            hidden_BTD.register_hook(lambda gradient_BTD: gradients.append(gradient_BTD.detach().clone()))

    policy.model.norm.register_forward_hook(keep)
    experience = Experience(PROMPTS[:1], COMPLETIONS[:1], ADVANTAGES[:1], None, masks=MASKS[:1])
    update_policy(policy, tiny_policy(1), make_optimizer(policy, config), experience, config)
    (gradient_BTD,) = gradients
    size_T = gradient_BTD[0].abs().amax(dim=-1)
    prompt = len(PROMPTS[0])
    predicts = [prompt - 1 + place for place in range(len(MASKS[0]))]
    for place, own in zip(predicts, MASKS[0], strict=True):
        assert (size_T[place] > 0) == bool(own)
    assert (size_T[[place for place in range(len(size_T)) if place not in predicts]] == 0).all()


def test_loss_kl_and_weights_are_those_of_the_tokens_that_were_drawn() -> None:
    """Against a plain computation: each completion weighs 1 / (3 x tokens drawn), and the KL is the mean over them."""
    _, metrics = learned({})
    policy, reference = tiny_policy(0), tiny_policy(1)
    loss = kl = 0.0
    tokens = 0
    mismatch = 0.0
    for prompt, completion, mask, advantages in zip(PROMPTS, COMPLETIONS, MASKS, ADVANTAGES.tolist(), strict=True):
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            ours, theirs = (
                torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1], dim=-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
                for model in (policy, reference)
            )
        weight = 1 / (3 * sum(mask))
        for place, own in enumerate(mask):
            if own:
                distance = float(kl_estimate(ours[place], theirs[place]))
                loss += weight * (-advantages[place] + 0.04 * distance)
                kl += weight * distance
                mismatch += abs(float(ours[place]) + 1.0)
                tokens += 1
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["kl"] == pytest.approx(kl, rel=1e-5)
    assert metrics["mismatch_mean"] == pytest.approx(mismatch / tokens, rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"paradigm": METHODS["ppo"].model_dump()}, "grpo.format is `tool`.*advantage `gae`"),
        ({"paradigm": METHODS["dpo"].model_dump()}, "grpo.format is `tool`.*advantage `preference`"),
        ({"paradigm": METHODS["sft"].model_dump()}, "grpo.format is `tool`.*data is `examples`"),
    ],
)
def test_methods_that_cannot_use_dialogues_say_so(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MathQuarryError, match=message):
        check_method(GRPOConfig.model_validate({**TOOL, **fields}))
    check_method(GRPOConfig.model_validate({**TOOL, "paradigm": METHODS["rft"].model_dump()}))


def test_only_two_formats_are_rollouts() -> None:
    with pytest.raises(ValidationError, match="format"):
        GRPOConfig(format="pot")  # type: ignore[arg-type]


def test_the_recipes_sandbox_is_that_of_grpo_too() -> None:
    recipe = load_recipe("tiny", ['programs.sandbox="arithmetic"', "programs.seconds=3"])
    assert recipe.grpo.tools.programs == recipe.programs
    assert load_recipe("tiny", ["programs.seconds=3", "grpo.tools.programs.seconds=4"]).grpo.tools.programs.seconds == 4


def test_a_missing_sandbox_is_told_before_anything_is_sampled(tmp_path: Path) -> None:
    config = GRPOConfig.model_validate({**TOOL, "tools": {"programs": {"sandbox": "service"}}})
    with pytest.raises(MathQuarryError, match="programs.socket does not say where it listens"):
        grpo_iteration(config, save_policy(tmp_path / "policy"), None, save_problems(tmp_path / "problems", 4), 1, Workspace.at(tmp_path))


@pytest.fixture(scope="module")
def guesser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_guesser(tmp_path_factory.mktemp("guesser"))


LEARNING: dict[str, Any] = {
    **TOOL,
    "steps": 10,
    "prompts_per_step": 8,
    "group_size": 8,
    "learning_rate": 1e-3,
    "rollout": {"max_tokens": 80},
    "probe_tolerance": 1e-3,
    "checkpoint_steps": 6,
    "evaluate_steps": 10,
}


@pytest.mark.slow
def test_a_policy_learns_to_call_the_calculator_and_a_resumed_run_ends_with_the_same_bytes(
    guesser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "resumed")
    config = GRPOConfig.model_validate(LEARNING)
    grpo_iteration(config, guesser / "policy", None, guesser, 1, whole)
    records = [record["values"] for record in whole.metrics.read()]
    tested = [values["test_accuracy"] for values in records if "test_accuracy" in values]
    steps = [values for values in records if "reward" in values]
    assert steps[0]["tool_share"] < 0.4
    assert steps[-1]["tool_share"] > 0.8
    assert steps[-1]["accuracy"] > steps[0]["accuracy"] + 0.3
    assert tested[-1] > tested[0] + 0.3
    rows = pq.read_table(whole.out / "rollouts.parquet").to_pylist()
    assert sum(len(row["calls"]) for row in rows if row["step"] == 10) / 64 == pytest.approx(steps[-1]["tool_calls"])
    failed = [call for row in rows for call in row["calls"] if call["error"] is not None]
    assert failed
    assert all(call["error"].split(":")[0] in call["output"] for call in failed)
    assert all(len(row["mask"]) == len(row["completion"]) and (0 in row["mask"]) == bool(row["calls"]) for row in rows if row["finished"])

    import mathquarry.models.rl.grpo as stage

    def dies(path: Path, rollouts: Any, iteration: int, step: int) -> None:
        if step == 8:
            raise KeyboardInterrupt
        write_rollouts(path, rollouts, iteration, step)

    monkeypatch.setattr(stage, "write_rollouts", dies)
    with pytest.raises(KeyboardInterrupt):
        grpo_iteration(config, guesser / "policy", None, guesser, 1, resumed)
    monkeypatch.setattr(stage, "write_rollouts", write_rollouts)
    grpo_iteration(config, guesser / "policy", None, guesser, 1, resumed)
    for file in ("model/model.safetensors", "rollouts.parquet"):
        assert (whole.out / file).read_bytes() == (resumed.out / file).read_bytes()


@pytest.mark.slow
def test_dialogues_of_two_ranks_are_those_of_one(guesser: Path, tmp_path: Path) -> None:
    """Each rank has a sandbox of its own and draws its share of the dialogues. Masks and calls are those of all."""
    fields = {**LEARNING, "steps": 2, "group_size": 4, "checkpoint_steps": 2, "evaluate_steps": None}
    rows, weights = [], []
    for processes in (1, 2):
        workspace = Workspace.at(tmp_path / str(processes))
        config = GRPOConfig.model_validate({**fields, "ranks": {"processes": processes}})
        grpo_iteration(config, guesser / "policy", None, guesser, 1, workspace)
        table = pq.read_table(workspace.out / "rollouts.parquet", columns=["completion", "mask", "calls", "correct", "reward"])
        rows.append(table.to_pylist())
        weights.append(load_policy(workspace.out / "model").state_dict())
    assert rows[0] == rows[1]
    # Of the 32 dialogues of a step, each rank draws 16.
    assert any(row["calls"] for row in rows[1][:16])
    assert any(row["calls"] for row in rows[1][16:32])
    for name, ours in weights[0].items():
        torch.testing.assert_close(weights[1][name], ours, rtol=1e-4, atol=1e-4)
