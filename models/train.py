"""One supervised loop for pretraining, fine-tuning and reward models, on one process or many.

It is a loop of its own, not transformers' Trainer, because a run is promised things that the Trainer does not give:
1. an optimizer step is a fixed number of rows in a fixed order, a function of the step alone; micro-batches and ranks only divide it, and
   the loss is normalised by the labels of the whole step on all ranks, so neither changes the gradient (any number of ranks will do: one
   that has a row too few gets one without labels);
2. weights are sharded by FSDP2 on a CPU too (accelerate shards on accelerators only), so that what runs on many GPUs is tested anywhere;
3. a checkpoint appears whole or not at all, is read by any number of ranks, and a run continues from the newest by itself and ends, on a
   CPU and the same number of ranks, with the same bits;
4. a loss that is not finite, or leaps, stops the run before the update and leaves its batch behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import PreTrainedConfig, PreTrainedModel

from data.errors import MathQuarryError
from data.workspace import Bar, Workspace
from models.batches import Batch, labelled, micro_batches, stack
from models.config import ScheduleConfig, TrainConfig
from models.distributed import Called, Ranks, blocks, clip_gradients, in_group, shard
from models.head import head_logprobs
from models.launch import launch
from models.measurement import NOTHING, Measurement
from models.packing import IGNORED, RowStream
from models.speed import Speedometer, flops_per_token
from models.training_state import START, Checkpoints
from models.watch import Watch, keep_batch

LossFunction = Callable[[PreTrainedModel, Batch, torch.Tensor], torch.Tensor]
"""(model, batch, labels in the whole optimizer step) -> the batch's share of the step's mean loss, i.e. its sum / that number.

It must call the model with `use_cache=False`: with a key-value cache, transformers ignores that position ids restart in a row.
"""


def fit(
    model: PreTrainedModel,
    rows: RowStream,
    config: TrainConfig,
    steps: int,
    space: Workspace,
    name: str,
    loss: LossFunction,
    measurement: Measurement = NOTHING,
) -> dict[str, float | int]:
    """Train `model` in place for `steps` optimizer steps of `rows_per_step(config)` rows each, and leave it in evaluation mode.

    Where `config.ranks` asks for several processes they are started here, and `rows` and `loss` must be picklable. Progress is shown.
    Logged are, for every step, loss, learning_rate, gradient_norm, tokens and what `Speedometer.step` says, and `NAME_bits` of each text
    of `measurement` when it is measured. Checkpoints go to `space.scratch / name`; when one is there, training continues after it, also
    when another number of ranks wrote it. Returns steps, tokens, the last step's loss and the last bits, and how many steps were skipped
    if any were.

    Raises `MathQuarryError` when the loss or its gradient is not finite, when the loss leaps (`config.loss_spike`), when the batch holds
    no row, when the disk is full or when a rank ends.
    """
    rows_per_step(config)
    if config.ranks.size == 1 or in_group():
        return _Run(model, rows, config, steps, space, name, loss, measurement).run()
    checkpoints = Checkpoints(space.scratch / name, Ranks.current())
    if checkpoints.newest() is None:
        checkpoints.save(START, model, None)
    result = launch(_fit_rank, (type(model), model.config, rows, config, steps, name, loss, measurement), config.ranks, space, name)
    checkpoints.load(steps, model)
    model.eval()
    return result


def rows_per_step(config: TrainConfig) -> int:
    """Packed rows in one optimizer step. Raises `MathQuarryError` when `batch_tokens` holds not even one."""
    rows = config.batch_tokens // config.context_tokens
    if rows == 0:
        raise MathQuarryError(
            f"batch_tokens is {config.batch_tokens}, less than one row of context_tokens = {config.context_tokens}. Raise it."
        )
    return rows


def schedule_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Learning rate of a step (counted from 0, of `steps`) as a share of the peak (paper section 2.2).

    Warm-up is linear and its first step is not zero. `drops` and the cosine are measured on all steps, warm-up included.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.kind == "multi-step":
        factor = 1.0
        for share, value in sorted(config.drops):
            if step >= share * steps:
                factor = value
        return factor
    if config.kind == "cosine":
        progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def language_model_loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the labelled tokens given those before them, summed and divided by `count`.

    Only positions that predict a labelled token go through the head, some of them at a time: there are never (B, T, V) logits.
    """
    hidden_BTD = model.base_model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).last_hidden_state
    next_labels_BT = batch["labels"][:, 1:]
    labelled_BT = next_labels_BT != IGNORED
    kind = hidden_BTD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    hidden_ND = hidden_BTD[:, :-1][labelled_BT]
    return -head_logprobs(hidden_ND, model.get_output_embeddings(), next_labels_BT[labelled_BT], dtype=dtype).sum() / count


def _fit_rank(
    space: Workspace,
    kind: type[PreTrainedModel],
    shape: PreTrainedConfig,
    rows: RowStream,
    config: TrainConfig,
    steps: int,
    name: str,
    loss: LossFunction,
    measurement: Measurement,
) -> dict[str, float | int]:
    """What each rank does: `fit` a model whose weights are in the newest checkpoint. No rank ever holds all of them."""
    with init_empty_weights(include_buffers=False):
        model = kind(shape)
    return _Run(model, rows, config, steps, space, name, loss, measurement).run()


class _Run:
    """One call of `fit` on one rank."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: RowStream,
        config: TrainConfig,
        steps: int,
        space: Workspace,
        name: str,
        loss: LossFunction,
        measurement: Measurement,
    ) -> None:
        self.model, self.rows, self.config, self.steps, self.space, self.name = model, rows, config, steps, space, name
        self.measurement = measurement
        self.ranks = Ranks.current()
        self.folder = space.scratch / name
        self.checkpoints = Checkpoints(self.folder, self.ranks, config.background_checkpoints)
        self.module = Called(model, loss)
        self._prepare()
        self.optimizer = make_optimizer(model, config)

    def run(self) -> dict[str, float | int]:
        """All steps that are left. The global random state is as before."""
        newest = self.checkpoints.newest()
        done = newest or 0
        if newest is not None:
            self.checkpoints.load(newest, self.model, self.optimizer if newest > START else None)
        if self.ranks.is_first:
            self.space.metrics.rewind(done)
        self.ranks.barrier()
        losses, bits = self._logged_losses(), self._logged_bits()
        watch = Watch(self.config, losses)
        tokens = rows_per_step(self.config) * self.config.context_tokens
        speed = Speedometer(flops_per_token(self.model, self.config.context_tokens), tokens, self.steps, self.ranks.size)
        try:
            with torch.random.fork_rng(), self.space.progress.track(self.name, self.steps, "step", done) as bar:
                if done == 0:
                    bits = self._measure(0)
                for step in range(done + 1, self.steps + 1):
                    if step not in self.config.skipped_steps:
                        loss, norm = self._gradients(step)
                        self._stop_at_fault(step, watch.fault(loss, norm))
                        self.optimizer.step()
                        self.optimizer.zero_grad(set_to_none=True)
                        losses.append(loss)
                        self._log(step, loss, norm, speed.step(step), bar)
                    if step % self.measurement.every == 0 or step == self.steps:
                        bits = self._measure(step)
                    bar.advance()
                    self.checkpoints.poll()
                    if step % self.config.checkpoint_steps == 0 or step == self.steps:
                        self.checkpoints.save(step, self.model, self.optimizer)
            self.checkpoints.finish()
        finally:
            self._restore()
        self.ranks.barrier()
        skipped = len(set(self.config.skipped_steps) & set(range(1, self.steps + 1)))
        result: dict[str, float | int] = {"steps": self.steps, "tokens": (self.steps - skipped) * tokens, "loss": losses[-1]}
        return result | bits | ({"skipped_steps": skipped} if skipped else {})

    def _prepare(self) -> None:
        """Training mode, the options that change how blocks are computed, and the weights' places."""
        self.model.train()
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.config.compile:
            for block in blocks(self.model):
                block.compile()
        shard(self.module, self.ranks, self.config.precision)

    def _restore(self) -> None:
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_disable()
        if self.config.compile:
            for block in blocks(self.model):
                block._compiled_call_impl = None
        self.model.eval()

    def _gradients(self, step: int) -> tuple[float, float]:
        """Gradient of a step's mean loss, in place. Returns the loss, and the gradient's norm before it was clipped."""
        size = rows_per_step(self.config)
        places = range((step - 1) * size, step * size)
        batches = [stack(rows) for rows in micro_batches(self.rows, places, self.ranks, self.config.micro_batch_rows)]
        if self.config.attend_across_documents:
            # Attention follows position ids: a row that only counts up is one document.
            for batch in batches:
                batch["position_ids"] = torch.arange(self.config.context_tokens).expand_as(batch["position_ids"])
        labels = torch.stack([labelled(batch["labels"]).sum() for batch in batches]).sum()
        count = self.ranks.sum(labels).clamp(min=1).to(self.ranks.device)
        # What is random in a model (dropout) depends on the step and the rank only.
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, step, self.ranks.rank]).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * schedule_factor(self.config.schedule, step - 1, self.steps)
        total = torch.zeros((), device=self.ranks.device)
        for batch in batches:
            part = self._forward(batch, count)
            part.backward()
            total += part.detach()
        return float(self.ranks.sum(total)), clip_gradients(self.module.parameters(), self.config.optimizer.grad_clip)

    def _measure(self, step: int) -> dict[str, float]:
        """Log the bits of every held-out text, and return them."""
        if not self.measurement.texts:
            return {}
        bits: dict[str, float] = {}
        one = torch.ones((), device=self.ranks.device)
        self.model.eval()
        for text in self.measurement.texts:
            total = torch.zeros((), device=self.ranks.device)
            for rows in micro_batches(text.rows, range(len(text.rows)), self.ranks, self.config.micro_batch_rows):
                with torch.no_grad():
                    total += self._forward(stack(rows), one)
            bits[f"{text.name}_bits"] = text.bits(float(self.ranks.sum(total)))
        self.model.train()
        if self.ranks.is_first:
            self.space.metrics.log(step, **bits)
        return bits

    def _forward(self, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        placed = {key: value.to(self.ranks.device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return self.module(placed, count)

    def _stop_at_fault(self, step: int, fault: str | None) -> None:
        """All ranks see the same loss and norm, so all stop, when rank 0 has written the batch."""
        if fault is None:
            return
        size = rows_per_step(self.config)
        first = (step - 1) * size
        path = self.folder / f"bad-batch-{step}.npz"
        if self.ranks.is_first:
            keep_batch(path, [self.rows[place] for place in range(first, first + size)], first)
        self.ranks.barrier()
        raise MathQuarryError(
            f"{self.name}: step {step} {fault}. Its batch (rows {first} to {first + size - 1} of the run) is in {path}. To go on without "
            f"it from the last checkpoint, add {step} to skipped_steps and run again."
        )

    def _log(self, step: int, loss: float, norm: float, speed: dict[str, float], bar: Bar) -> None:
        if not self.ranks.is_first:
            return
        rate, tokens = self.optimizer.param_groups[0]["lr"], step * rows_per_step(self.config) * self.config.context_tokens
        self.space.metrics.log(step, loss=loss, learning_rate=rate, gradient_norm=norm, tokens=tokens, **speed)
        bar.note(loss=f"{loss:.3f}")

    def _logged_bits(self) -> dict[str, float]:
        """Those of the newest measurement of a run that is resumed."""
        names = {f"{text.name}_bits" for text in self.measurement.texts}
        newest: dict[str, float] = {}
        for record in self.space.metrics.read():
            newest |= {name: value for name, value in record["values"].items() if name in names}
        return newest

    def _logged_losses(self) -> list[float]:
        return [record["values"]["loss"] for record in self.space.metrics.read() if "loss" in record["values"]]


def make_optimizer(model: PreTrainedModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors (norms and biases) do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = {"params": [parameter for parameter in parameters if parameter.ndim > 1]}
    vectors = {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}
    groups: list[dict[str, Any]] = [matrices, vectors]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
