"""Rollouts with a transformers model in this process: on a CPU or one GPU, optionally with the module that is being trained.

A prompt is computed once, and its keys and values are repeated for its samples. Samples that have ended leave the batch. Tokens are drawn
by inverting the cumulative distribution at uniform numbers from a counter-based generator keyed by (seed, sample), so a sample does not
depend on its batch.
Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Bar
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.rollout.cache import GROWTH, RolloutCache
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import Completion, HeldTensor, Stop, budgets, context_limit, end_tokens, require_all
from mathquarry.models.rollout.hf_batches import Part, batches, left_padded, uniforms
from mathquarry.models.rollout.weight_check import project

SHRINK_SHARE = 0.8
"""When at most this share of the batch is still running, ended sequences are removed."""

ATTENTION_KINDS = {"full_attention", "sliding_attention"}


class TransformersEngine:
    """A `RolloutEngine` on a transformers causal language model."""

    def __init__(self, config: RolloutConfig, model: PreTrainedModel) -> None:
        """Generate with `model` itself, on its device. Raises `MathQuarryError` for architectures without a plain key-value cache."""
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
        if not kinds <= ATTENTION_KINDS:
            raise MathQuarryError(
                f"rollout.engine `transformers` cannot cache the {', '.join(sorted(kinds - ATTENTION_KINDS))} layers of "
                f"{type(model).__name__}. Set it to `vllm`."
            )
        self.config, self.model = config, model
        self.limit = context_limit(model.config)

    @classmethod
    def from_folder(cls, config: RolloutConfig, model_dir: Path) -> TransformersEngine:
        """Generate with a checkpoint, on the GPU in bfloat16 if there is one, else on the CPU in float32."""
        return cls(config, _place(model_dir, torch.bfloat16 if torch.cuda.is_available() else torch.float32))

    def load(self, model_dir: Path, version: str) -> None:
        """Load the weights of a checkpoint, in the current precision. Nothing is cached between calls, so `version` has no effect."""
        dtype = self.dtype
        del self.model  # so that there are never two copies
        self.model = _place(model_dir, dtype)

    def load_live(self, model: PreTrainedModel, version: str) -> None:
        """Generate with `model` itself from now on."""
        self.model = model

    @property
    def dtype(self) -> torch.dtype:
        """See `RolloutEngine.dtype`."""
        return self.model.dtype

    def receive(self, weights: Iterable[tuple[str, torch.Tensor]], version: str) -> None:
        """See `RolloutEngine.receive`. Weights are copied into the engine's own module, which must not be the trainer's."""
        own = self.model.state_dict()
        missing = set(own)
        with torch.no_grad():
            for name, tensor in weights:
                if name in own:
                    own[name].copy_(tensor)
                    missing.discard(name)
        require_all(missing, version)

    def held_weights(self, trained: PreTrainedModel) -> list[HeldTensor]:
        """See `RolloutEngine.held_weights`."""
        if self.model is trained:
            return []
        return [HeldTensor((name,), tensor.dtype, project(tensor), True) for name, tensor in self.model.named_parameters()]

    def sleep(self, *, weights_follow: bool) -> None:
        """See `RolloutEngine.sleep`. Nothing to free: the model belongs to the trainer, and caches are freed with their batch."""

    def close(self) -> None:
        """Drop the model."""
        del self.model

    def generate(
        self,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_tokens: int | Sequence[int],
        seeds: list[int],
        progress: Bar | None = None,
        stop: Stop | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`. At most `config.batch_completions` completions run at once; prompts are batched by length."""
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        room = budgets(prompts, max_tokens, self.limit)
        completions: list[list[Completion]] = [[] for _ in prompts]
        copies = n if temperature == 0 else 1
        with _evaluating(self.model):
            for batch in batches([len(prompt) for prompt in prompts], n // copies, self.config.batch_completions):
                for part, sampled in zip(batch, self._run(batch, prompts, room, temperature, seeds, stop), strict=True):
                    completions[part.prompt] += sampled * copies
                    if progress is not None:
                        progress.advance(len(sampled) * copies)
        return completions

    def logprobs(self, prompts: list[list[int]], completions: list[list[int]]) -> list[list[float]]:
        """See `RolloutEngine.logprobs`."""
        with _evaluating(self.model):
            return [forced_logprobs(self.model, prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]

    def _run(
        self,
        batch: list[Part],
        prompts: list[list[int]],
        room: list[int],
        temperature: float,
        seeds: list[int],
        stop: Stop | None,
    ) -> list[list[Completion]]:
        """Generate one batch. Returns a list of completions for each part."""
        device = self.model.device
        ends = torch.tensor(end_tokens(self.model.config, self.model.generation_config), device=device)
        pauses = torch.tensor(sorted(stop.tokens) if stop else [], dtype=torch.long, device=device)
        stopped_at: dict[int, int] = {}
        counts = torch.tensor([part.count for part in batch], device=device)
        budget_B = torch.tensor([room[part.prompt] for part in batch], device=device).repeat_interleave(counts)
        longest = int(budget_B.max())
        uniforms_BT = torch.from_numpy(uniforms(batch, seeds, longest if temperature > 0 else 0)).to(device)

        ids_PT, mask_PT = left_padded([prompts[part.prompt] for part in batch], device)
        padded = not bool(mask_PT.all())
        last_position = (self.limit or 2**62) - 1
        cache = RolloutCache()
        logits = self.model(
            input_ids=ids_PT,
            attention_mask=mask_PT if padded else None,
            position_ids=(mask_PT.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        cache.spread(counts, min(longest, GROWTH))
        logits_BV = logits[:, -1].repeat_interleave(counts, dim=0)
        position_B = mask_PT.sum(-1).repeat_interleave(counts)
        prompt_mask_BT = mask_PT.repeat_interleave(counts, dim=0)
        mask_BT = torch.cat([prompt_mask_BT, prompt_mask_BT.new_ones((len(prompt_mask_BT), longest))], dim=1) if padded else None

        slots_B = torch.arange(len(logits_BV), device=device)
        tokens_BT = torch.zeros((len(logits_BV), longest), dtype=torch.long, device=device)
        logprobs_BT = torch.zeros((len(logits_BV), longest), device=device)
        running_B = torch.ones(len(logits_BV), dtype=torch.bool, device=device)
        for step in range(longest):
            token_B, logprob_B = _draw(logits_BV, temperature, uniforms_BT[slots_B, step] if temperature > 0 else None)
            tokens_BT[slots_B, step], logprobs_BT[slots_B, step] = token_B, logprob_B
            running_B &= ~torch.isin(token_B, ends)
            if stop is not None:
                for row in (running_B & torch.isin(token_B, pauses)).nonzero()[:, 0].tolist():
                    slot = int(slots_B[row])
                    if stop.holds(tokens_BT[slot, : step + 1].tolist()):
                        stopped_at[slot] = step + 1
                        running_B[row] = False
            running_B &= budget_B > step + 1
            running = int(running_B.sum())
            if running == 0:
                break
            if running <= SHRINK_SHARE * len(running_B):
                kept = running_B.nonzero()[:, 0]
                cache.keep(kept)
                slots_B, token_B, position_B, budget_B, running_B = (x[kept] for x in (slots_B, token_B, position_B, budget_B, running_B))
                mask_BT = None if mask_BT is None else mask_BT[kept]
            logits_BV = self.model(
                input_ids=token_B[:, None],
                attention_mask=None if mask_BT is None else mask_BT[:, : ids_PT.shape[1] + step + 1],
                position_ids=position_B[:, None].clamp(max=last_position),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            position_B = position_B + 1
        budget = [room[part.prompt] for part in batch for _ in range(part.count)]
        return _cut(batch, tokens_BT.tolist(), logprobs_BT.tolist(), budget, set(ends.tolist()), stopped_at)


def forced_logprobs(model: PreTrainedModel, prompt: list[int], completion: list[int], temperature: float = 1.0) -> list[float]:
    """Return the log-probability of each token of `completion` after `prompt`, from one forward pass, normalised in float32."""
    ids_1T = torch.tensor([prompt + completion], device=model.device)
    logits_TV = model(input_ids=ids_1T, logits_to_keep=len(completion) + 1).logits[0, :-1].float() / (temperature or 1.0)
    return torch.log_softmax(logits_TV, dim=-1).gather(1, ids_1T[0, len(prompt) :, None])[:, 0].tolist()


def _draw(logits_BV: torch.Tensor, temperature: float, uniform_B: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token for each row. Returns the tokens and their log-probabilities.

    With uniforms: the first token whose cumulative probability exceeds u x total. The uniforms are below 1 - 2^-25, and after rounding so
    is the product's ratio to the total. So the token exists and has a positive probability.
    """
    logprobs_BV = torch.log_softmax(logits_BV.float() / (temperature or 1.0), dim=-1)
    if uniform_B is None:
        token_B = logits_BV.argmax(dim=-1)
    else:
        cumulative_BV = logprobs_BV.exp().cumsum(dim=-1)
        target_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]
        token_B = torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
    return token_B, logprobs_BV.gather(1, token_B[:, None])[:, 0]


def _cut(
    batch: list[Part],
    tokens: list[list[int]],
    logprobs: list[list[float]],
    budget: list[int],
    ends: set[int],
    stopped_at: dict[int, int],
) -> list[list[Completion]]:
    """Cut rows after their first end token, at their stop (row -> tokens) or at their budget. Returns completions by part."""
    rows = iter(enumerate(zip(tokens, logprobs, budget, strict=True)))
    completions: list[list[Completion]] = []
    for part in batch:
        completions.append([])
        for _ in range(part.count):
            number, (row, row_logprobs, room) = next(rows)
            room = stopped_at.get(number, room)
            end = next((place for place, token in enumerate(row[:room]) if token in ends), None)
            length = room if end is None else end + 1
            completions[-1].append(Completion(row[:length], row_logprobs[:length], end is not None, number in stopped_at))
    return completions


def _place(model_dir: Path, dtype: torch.dtype) -> PreTrainedModel:
    policy = load_policy(model_dir, dtype)
    torch.nn.Module.to(policy, "cuda" if torch.cuda.is_available() else "cpu")
    return policy


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Turn off dropout and gradients inside the block. The model's mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode: buffers that a live model updates must stay usable in training
            yield
    finally:
        model.train(training)
