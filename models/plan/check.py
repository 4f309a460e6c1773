"""Checks the memory of a plan by running the training code at its true size, on its number of ranks, with fake tensors (see
`mathquarry.models.plan.tracker`).

For each training stage of a recipe, the real code runs one step of a training that is under way. Its peak memory on rank 0 is the result.
Stages are only simplified where that cannot change the result:
1. the step before it has gradients of zero;
2. a step has two forward passes on each rank, however large the batch: the second pass already meets everything that the first one left in
   memory;
3. all rows are full, and all answers and prompts have the length that the plan assumes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Progress, Workspace
from mathquarry.models.card import planned_card
from mathquarry.models.config import Precision
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.memory import Engine, Shape, engine_copy, engine_share, grpo_step, pass_tokens, supervised_memory
from mathquarry.models.plan.plan import SOLUTION_TOKENS_SHARE
from mathquarry.models.plan.tracker import MemoryTracker, fake_ranks, fake_tensors
from mathquarry.models.policy.adapters import Unadapted, add_adapters
from mathquarry.models.policy.attention import use_attention
from mathquarry.models.policy.config import LoRAConfig, ModelShape, PretrainedModel, ScratchModel
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, clip_gradients, freeze, shard
from mathquarry.models.reward.config import RewardConfig
from mathquarry.models.reward.model import RewardModel, reward_loss, token_logits
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, make_optimizer, update_policy
from mathquarry.models.train.config import OptimizerConfig, TrainConfig
from mathquarry.models.train.fit import Training, language_model_loss
from mathquarry.models.train.packing import Row

PASSES = 2
MOST_POSITIONS = 1 << 17


@dataclass(frozen=True)
class Found:
    """Peak memory of a stage on rank 0, in bytes."""

    peak: int
    kinds: dict[str, int]
    """Bytes at the peak, by kind."""
    rest: int = 0
    """GRPO: bytes that the trainer holds while the engine samples."""


@dataclass(frozen=True)
class Checked:
    """A stage's memory, from the formula and from the real code."""

    stage: str
    gpus: int
    planned: float
    """The trainer's peak memory per GPU, from the formula."""
    found: Found
    needed: float
    """Bytes that the stage needs per GPU, from the real code, including the engine's share."""
    engine: Engine | None = None
    """The engine that shares the GPU with the trainer."""
    longest: int = 0
    """Tokens of the longest planned prompt plus completion."""

    @property
    def error(self) -> float:
        """Error of the formula, relative to the real code."""
        return self.planned / self.found.peak - 1


def check_recipe(
    model: ScratchModel | PretrainedModel,
    pretrain: TrainConfig,
    sft: TrainConfig,
    reward: RewardConfig,
    grpo: GRPOConfig,
    card: float | None,
) -> Iterator[Checked]:
    """Check each training stage of a recipe on GPUs with `card` bytes, or on a CPU. Takes up to a minute per stage, and almost no memory.

    Raises `MathQuarryError` if the recipe does not give the model's shape.
    """
    built = architecture(model)
    shape = Shape.of(built)
    with planned_card(card):
        supervised: list[tuple[str, TrainConfig]] = [("pretrain", pretrain), ("sft", sft)]
        if grpo.uses_reward_model:
            supervised.append(("reward", reward))
        for stage, config in supervised:
            found = check_supervised(config, built)
            yield Checked(stage, config.ranks.size, supervised_memory(config, shape, card), found, found.peak)
        if grpo.paradigm.advantage == "group":
            completion = grpo.rollout.max_tokens
            prompt = int(SOLUTION_TOKENS_SHARE * completion)
            found = check_grpo(grpo, built, prompt, completion)
            share = engine_share(grpo.rollout, card)
            needed = max(found.peak, found.rest + share) if grpo.rollout.sleep else found.peak + share
            engine = Engine(shape, share) if share else None
            yield Checked("grpo", grpo.ranks.size, grpo_step(grpo, shape, card)[1], found, needed, engine, prompt + completion)


def architecture(model: ScratchModel | PretrainedModel) -> LlamaConfig:
    """Return a Llama config of the model's shape. Raises `MathQuarryError` if the recipe does not give it."""
    shape: ModelShape | ScratchModel | None = model.shape if isinstance(model, PretrainedModel) else model
    if shape is None:
        raise MathQuarryError(f"the recipe does not give the shape of {getattr(model, 'path', 'its model')}. Set model.shape.")
    kv_heads = (shape.kv_heads if isinstance(shape, ModelShape) else None) or shape.heads
    size = (shape.head_size if isinstance(shape, ModelShape) else None) or shape.hidden // shape.heads
    return LlamaConfig.from_dict(
        {
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": kv_heads,
            "head_dim": size,
            "max_position_embeddings": MOST_POSITIONS,
            "tie_word_embeddings": False,
            "num_labels": 1,
            "classifier_dropout": 0.0,
        }
    )


def check_supervised(config: TrainConfig, model: LlamaConfig) -> Found:
    """Check a stage that trains with `fit`."""
    rows = _FullRows(config.context_tokens, numbers=isinstance(config, RewardConfig))
    tokens = PASSES * config.ranks.size * config.micro_batch_rows * config.context_tokens
    cut = config.model_copy(update={"batch_tokens": min(config.batch_tokens, tokens)})
    trained = _empty(model, config.lora, config.precision, classifier=rows.numbers)
    with tempfile.TemporaryDirectory() as folder, fake_ranks(config.ranks.size), fake_tensors():
        workspace = Workspace.at(Path(folder), Progress(quiet=True))
        training = Training(trained, rows, cut, 1, workspace, "check", reward_loss if rows.numbers else language_model_loss)
        _take_empty_step(training.module, training.optimizer, config.optimizer)
        with _tracked(training.module, training.optimizer, config.optimizer.offload) as tracker:
            training.gradients(1)
            training.apply()
    return Found(tracker.peak, dict(tracker.kinds))


def check_grpo(config: GRPOConfig, model: LlamaConfig, prompt_tokens: int, completion_tokens: int) -> Found:
    """Check a GRPO step: scores of the reward model and the reference, then the update."""
    policy = _empty(model, config.lora, config.precision_beside_adapters)
    reward_weights = freeze(_empty(model, classifier=True), config.precision)
    size = config.ranks.size
    with fake_ranks(size):
        ranks = Ranks.current()
        policy_module, reward_model = ShardedModel(policy, completion_logprobs), ShardedModel(reward_weights, token_logits)
        copy = None if config.lora.rank else ShardedModel(freeze(_empty(model), config.precision), completion_logprobs)
        reference = copy or Unadapted(policy_module)
        kept = [copy, reward_model] if copy else [reward_model]
        for one in (policy_module, *kept):
            use_attention(one.model, config.attn_implementation)
        engine = [torch.nn.Module.to(_empty(model), torch.bfloat16)] if engine_copy(config, Shape.of(model)) else []
        tokens = pass_tokens(config, policy)
        completions = min(config.prompts_per_step * config.group_size, size * (PASSES * tokens // completion_tokens + 1))
        experience = _experience(completions, config.group_size, prompt_tokens, completion_tokens)
        own = completions // size
        with fake_tensors():
            for module in (policy_module, *kept):
                shard(module, ranks, config.precision)
            optimizer = make_optimizer(policy_module, config)
            scorer = RewardModel(reward_model, tokens, config.precision)
            _take_empty_step(policy_module, optimizer, config.optimizer)
            with _tracked(policy_module, optimizer, config.optimizer.offload, *kept) as tracker:
                for loaded in engine:
                    tracker.count("engine", [*loaded.parameters(), *loaded.buffers()])
                rest = tracker.peak
                ends = [[completion_tokens - 1]] * own
                if config.scored_by_model:
                    scorer.score(experience.prompts[:own], experience.completions[:own], ends)
                update_policy(policy_module, reference, optimizer, experience, config)
    return Found(tracker.peak, dict(tracker.kinds), rest)


def _take_empty_step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> None:
    """Take a step with gradients of zero, which makes the moments.

    The first time, DTensor finds out how to shard the operations of clipping and of the step with fake tensors of the size of all ranks
    together. They would be counted; later steps have the result in a cache.
    """
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    clip_gradients(module.parameters(), config.grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def _tracked(module: torch.nn.Module, optimizer: torch.optim.Optimizer, offload: bool, *frozen: torch.nn.Module) -> Iterator[MemoryTracker]:
    tracker = MemoryTracker()
    tracker.count("weights", module.parameters())
    tracker.count("buffers", module.buffers())
    for one in frozen:
        tracker.count("frozen", [*one.parameters(), *one.buffers()])
    moments = [value for state in optimizer.state.values() for value in state.values()]
    tracker.count("moments", moments, elsewhere=offload)
    with tracker:
        yield tracker


def _empty(
    model: LlamaConfig, lora: LoRAConfig | None = None, precision: Precision = "float32", classifier: bool = False
) -> PreTrainedModel:
    with init_empty_weights(include_buffers=False):
        made = (LlamaForTokenClassification if classifier else LlamaForCausalLM)(model).eval()
        return add_adapters(made, lora or LoRAConfig(), 0, precision)


class _FullRows:
    """Rows without padding, with a label for every token."""

    def __init__(self, context_tokens: int, numbers: bool) -> None:
        self.context_tokens, self.numbers = context_tokens, numbers

    def __getitem__(self, place: int) -> Row:
        ids = np.ones(self.context_tokens, np.int64)
        labels = np.ones(self.context_tokens, np.float32) if self.numbers else ids
        return {"input_ids": ids, "position_ids": np.arange(self.context_tokens), "labels": labels}


def _experience(completions: int, group: int, prompt_tokens: int, completion_tokens: int) -> Experience:
    """Return completions that all differ, so that no two share computation."""
    prompts = [[place // group] * prompt_tokens for place in range(completions)]
    texts = [[place] * completion_tokens for place in range(completions)]
    made = Experience(prompts, texts, torch.ones(completions, completion_tokens), [[0.0] * completion_tokens] * completions)
    assert made.advantages  # read now, while its tensors still have values
    return made
