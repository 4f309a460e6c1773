"""The training loop for pretraining, fine-tuning and reward models, on one process or several.

It is used instead of transformers' Trainer, which does not guarantee the following:
1. an optimizer step is a fixed number of rows in a fixed order, which depends only on the step. Micro-batches and ranks only divide it, and
   the loss is normalised by the labels of the whole step on all ranks, so neither changes the gradient. Any number of ranks works: a rank
   with too few rows gets one without labels;
2. weights are sharded by FSDP2 on a CPU too (accelerate shards only on accelerators), so code for many GPUs is tested anywhere;
3. a checkpoint is complete or absent, and can be read by any number of ranks. A run continues from the latest one, and on a CPU with the
   same number of ranks the result is bitwise the same;
4. a loss that is not finite, or that spikes, stops the run before the update, and the batch is saved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import PreTrainedConfig, PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Bar, Workspace
from mathquarry.models.logprobs.head import head_logprobs
from mathquarry.models.peak import PeakMemory, tensors_of
from mathquarry.models.policy.adapters import add_adapters
from mathquarry.models.policy.attention import restore_attention, use_attention
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, blocks, clip_gradients, in_group, shard
from mathquarry.models.ranks.launch import launch
from mathquarry.models.train.batches import Batch, labelled, micro_batches, model_inputs, stack, to_device
from mathquarry.models.train.config import TrainConfig
from mathquarry.models.train.measurement import NOTHING, Measurement
from mathquarry.models.train.optimizer import make_optimizer, rows_per_step, schedule_factor
from mathquarry.models.train.packing import RowStream
from mathquarry.models.train.speed import Speedometer, flops_per_token
from mathquarry.models.train.state import START, Checkpoints
from mathquarry.models.train.watch import Watch, keep_batch

LossFunction = Callable[[PreTrainedModel, Batch, torch.Tensor], torch.Tensor]
"""(model, batch, labels in the whole optimizer step) -> the batch's share of the step's mean loss: its sum / that number.

It must call the model with `model_inputs(model, batch)`, which keep the documents of a row separate.
"""


def fit(
    model: PreTrainedModel,
    rows: RowStream,
    config: TrainConfig,
    steps: int,
    workspace: Workspace,
    name: str,
    loss: LossFunction,
    measurement: Measurement = NOTHING,
) -> dict[str, float | int]:
    """Train `model` in place for `steps` optimizer steps of `rows_per_step(config)` rows each, and leave it in evaluation mode. With
    `config.lora`, adapters are added first, and only these are trained.

    If `config.ranks` asks for several processes, they are started here, and `rows` and `loss` must be picklable. Logs loss, learning_rate,
    gradient_norm, tokens and the metrics of `Speedometer.step` for every step, and the metric of each text of `measurement` when it is
    evaluated. Checkpoints are written to `workspace.scratch / name`. If there is one, training continues after it, even if another number
    of ranks wrote it. Returns steps, tokens, the last step's loss and the last metrics, and the number of skipped steps, if any.

    Raises `MathQuarryError` if the loss or its gradient is not finite, if the loss spikes (`config.loss_spike`), if a batch would not hold
    a row, if the disk is full, or if a rank fails.
    """
    rows_per_step(config)
    add_adapters(model, config.lora, config.seed, config.precision)
    if config.ranks.size == 1 or in_group():
        return Training(model, rows, config, steps, workspace, name, loss, measurement).run()
    checkpoints = Checkpoints(workspace.scratch / name, Ranks.current())
    if checkpoints.newest() is None:
        checkpoints.save(START, model, None)
    result = launch(_fit_rank, (type(model), model.config, rows, config, steps, name, loss, measurement), config.ranks, workspace, name)
    checkpoints.load(steps, model)
    model.eval()
    return result


def language_model_loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the labelled tokens given those before them, summed and divided by `count`.

    Only positions that predict a labelled token go through the head, in chunks: (B, T, V) logits are never in memory.
    """
    hidden_BTD = model.base_model(**model_inputs(model, batch)).last_hidden_state
    label_N = batch["labelled"]
    hidden_ND = hidden_BTD.flatten(0, 1)[label_N - 1]
    return -head_logprobs(hidden_ND, model.get_output_embeddings(), batch["labels"].flatten()[label_N]).sum() / count


def _fit_rank(
    workspace: Workspace,
    kind: type[PreTrainedModel],
    shape: PreTrainedConfig,
    rows: RowStream,
    config: TrainConfig,
    steps: int,
    name: str,
    loss: LossFunction,
    measurement: Measurement,
) -> dict[str, float | int]:
    """The work of each rank: `fit` a model whose weights are in the latest checkpoint. No rank ever holds all of them."""
    with init_empty_weights(include_buffers=False):
        model = kind(shape)
        add_adapters(model, config.lora, config.seed, config.precision)
    return Training(model, rows, config, steps, workspace, name, loss, measurement).run()


class Training:
    """One call of `fit` on one rank."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: RowStream,
        config: TrainConfig,
        steps: int,
        workspace: Workspace,
        name: str,
        loss: LossFunction,
        measurement: Measurement = NOTHING,
    ) -> None:
        self.model, self.rows, self.config, self.steps, self.workspace, self.name = model, rows, config, steps, workspace, name
        self.measurement = measurement
        self.ranks = Ranks.current()
        self.folder = workspace.scratch / name
        self.module = ShardedModel(model, loss)
        self._prepare()
        self.optimizer = make_optimizer(model, config)

    def run(self) -> dict[str, float | int]:
        """Run all remaining steps. The global random state does not change."""
        checkpoints = Checkpoints(self.folder, self.ranks, self.config.background_checkpoints)
        newest = checkpoints.newest()
        done = newest or 0
        if newest is not None and self.ranks.size > 1 and self.config.lora.rank:
            checkpoints.load(START, self.model)
        if newest is not None:
            checkpoints.load(newest, self.model, self.optimizer if newest > START else None)
        if self.ranks.is_first:
            self.workspace.metrics.rewind(done or -1)  # the evaluation before the first step is repeated
        self.ranks.barrier()
        losses, measured = self._logged_losses(), self._logged_metrics()
        watch = Watch(self.config, losses)
        tokens = rows_per_step(self.config) * self.config.context_tokens
        memory = PeakMemory([*tensors_of(self.model), *tensors_of(self.optimizer)])
        speed = Speedometer(flops_per_token(self.model, self.config.context_tokens), tokens, self.steps, self.ranks.size, memory)
        try:
            with checkpoints, torch.random.fork_rng(), self.workspace.progress.track(self.name, self.steps, "step", done) as bar:
                if done == 0:
                    measured = self._measure(0)
                for step in range(done + 1, self.steps + 1):
                    if step not in self.config.skipped_steps:
                        loss, norm = self.gradients(step)
                        self._stop_at_fault(step, watch.fault(loss, norm))
                        self.apply()
                        losses.append(loss)
                        self._log(step, loss, norm, speed.step(step), bar)
                    if step % self.measurement.every == 0 or step == self.steps:
                        measured = self._measure(step)
                    bar.advance()
                    checkpoints.poll()
                    if step % self.config.checkpoint_steps == 0 or step == self.steps:
                        checkpoints.save(step, self.model, self.optimizer)
        finally:
            self._restore()
        self.ranks.barrier()
        skipped = len(set(self.config.skipped_steps) & set(range(1, self.steps + 1)))
        result: dict[str, float | int] = {"steps": self.steps, "tokens": (self.steps - skipped) * tokens, "loss": losses[-1]}
        return result | measured | ({"skipped_steps": skipped} if skipped else {})

    def _prepare(self) -> None:
        """Set training mode and the options that change how blocks are computed, and move weights to their devices."""
        self.model.train()
        self._attention = use_attention(self.model, self.config.attn_implementation)
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.config.compile:
            for block in blocks(self.model):
                block.compile()
        shard(self.module, self.ranks, self.config.precision)

    def _restore(self) -> None:
        restore_attention(self.model, self._attention)
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_disable()
        if self.config.compile:
            for block in blocks(self.model):
                block._compiled_call_impl = None
        self.model.eval()

    def apply(self) -> None:
        """Update the weights with their gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def gradients(self, step: int) -> tuple[float, float]:
        """Compute the gradient of a step's mean loss, in place. Returns the loss, and the gradient's norm before clipping."""
        size = rows_per_step(self.config)
        places = range((step - 1) * size, step * size)
        across = self.config.attend_across_documents
        batches = [stack(rows, across) for rows in micro_batches(self.rows, places, self.ranks, self.config.micro_batch_rows)]
        labels = torch.stack([labelled(batch["labels"]).sum() for batch in batches]).sum()
        count = self.ranks.sum(labels).clamp(min=1).to(self.ranks.device)
        # Randomness in a model (dropout) depends only on the step and the rank.
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
        """Log the metric of every text of the measurement, and return them."""
        if not self.measurement.texts:
            return {}
        metrics: dict[str, float] = {}
        one = torch.ones((), device=self.ranks.device)
        self.model.eval()
        for text in self.measurement.texts:
            total = torch.zeros((), device=self.ranks.device)
            for rows in micro_batches(text.rows, range(len(text.rows)), self.ranks, self.config.micro_batch_rows):
                with torch.no_grad():
                    total += self._forward(stack(rows), one)
            metrics[text.metric] = text.value(float(self.ranks.sum(total)))
        self.model.train()
        if self.ranks.is_first:
            self.workspace.metrics.log(step, **metrics)
        return metrics

    def _forward(self, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return self.module(to_device(batch, self.ranks.device), count)

    def _stop_at_fault(self, step: int, fault: str | None) -> None:
        """Stop after rank 0 has saved the batch. All ranks see the same loss and norm, so all stop."""
        if fault is None:
            return
        size = rows_per_step(self.config)
        first = (step - 1) * size
        path = self.folder / f"bad-batch-{step}.npz"
        if self.ranks.is_first:
            keep_batch(path, [self.rows[place] for place in range(first, first + size)], first)
        self.ranks.barrier()
        raise MathQuarryError(
            f"{self.name}: step {step} {fault}. Its batch (rows {first} to {first + size - 1} of the run) is in {path}. To skip it and "
            f"continue from the last checkpoint, add {step} to skipped_steps and run again."
        )

    def _log(self, step: int, loss: float, norm: float, speed: dict[str, float], bar: Bar) -> None:
        if not self.ranks.is_first:
            return
        rate, tokens = self.optimizer.param_groups[0]["lr"], step * rows_per_step(self.config) * self.config.context_tokens
        self.workspace.metrics.log(step, loss=loss, learning_rate=rate, gradient_norm=norm, tokens=tokens, **speed)
        bar.note(loss=loss, gradient_norm=norm, tokens_per_second=speed["tokens_per_second"])

    def _logged_metrics(self) -> dict[str, float]:
        """Return the metrics of the latest evaluation, for a resumed run."""
        names = {text.metric for text in self.measurement.texts}
        newest: dict[str, float] = {}
        for record in self.workspace.metrics.read():
            newest |= {name: value for name, value in record["values"].items() if name in names}
        return newest

    def _logged_losses(self) -> list[float]:
        return [record["values"]["loss"] for record in self.workspace.metrics.read() if "loss" in record["values"]]
