"""One supervised loop for pretraining, fine-tuning and reward models, on transformers' Trainer.

Departures from the Trainer's ways, so that a run can be reasoned about:
1. an optimizer step is a fixed number of rows in a fixed order; micro-batches only divide it, and the loss is normalised by the labels
   of the whole step, so `micro_batch_rows` changes memory and speed but not the gradient;
2. a checkpoint appears whole or not at all (written beside its place, then renamed), and a run continues from the newest by itself;
3. a loss that is not finite stops the run.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from data.errors import MathQuarryError
from data.files import sync_path
from data.workspace import Bar, Workspace
from models.config import ScheduleConfig, TrainConfig
from models.packing import IGNORED, Row, RowStream

Batch = dict[str, torch.Tensor]
"""input_ids_BT, position_ids_BT, labels_BT of some packed rows."""

LossFunction = Callable[[PreTrainedModel, Batch, torch.Tensor], torch.Tensor]
"""(model, batch, labels in the whole optimizer step) -> the batch's share of the step's mean loss, i.e. its sum / that number.

It must call the model with `use_cache=False`: with a key-value cache, transformers ignores that position ids restart in a row.
"""


def fit(
    model: PreTrainedModel, rows: RowStream, config: TrainConfig, steps: int, space: Workspace, name: str, loss: LossFunction
) -> dict[str, float | int]:
    """Train `model` in place for `steps` optimizer steps of `rows_per_step(config)` rows each, and leave it in evaluation mode.

    Progress is shown and metrics (loss, learning_rate, gradient_norm, tokens, tokens_per_second) are logged for every step.
    Checkpoints go to `space.scratch / name`; when one is there, training continues after it and ends with the same weights as without
    the interruption. Returns steps, tokens and the last step's loss. More than one GPU: start under torchrun.

    Raises `MathQuarryError` when the loss or its gradient is not finite, when the batch holds no row, or when the disk is full.
    """
    rows_a_step = rows_per_step(config)
    folder = space.scratch / name
    shutil.rmtree(_partial(folder), ignore_errors=True)
    checkpoint = _newest(folder)
    done = _step_of(checkpoint) if checkpoint else 0
    space.metrics.rewind(done)
    arguments = _arguments(config, folder, rows_a_step)
    with space.progress.track(name, steps, "step", done) as bar:
        trainer = _SupervisedTrainer(
            model=_LossModule(model, loss),
            args=arguments,
            train_dataset=_Places(rows, steps * rows_a_step),
            data_collator=_stack,
        )
        trainer.prepare(config, steps, space, bar, folder)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.eval()
    losses = [record["values"]["loss"] for record in space.metrics.read() if "loss" in record["values"]]
    return {"steps": steps, "tokens": steps * rows_a_step * config.context_tokens, "loss": losses[-1]}


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

    Only positions that predict a labelled token go through the head: logits are (N, V) for N labels, never (B, T, V).
    """
    hidden_BTD = model.base_model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).last_hidden_state
    next_labels_BT = batch["labels"][:, 1:]
    labelled_BT = next_labels_BT != IGNORED
    logits_NV = model.get_output_embeddings()(hidden_BTD[:, :-1][labelled_BT])
    return functional.cross_entropy(logits_NV.float(), next_labels_BT[labelled_BT], reduction="sum") / count


class _LossModule(nn.Module):
    """A model whose forward pass is its loss, so that autocast and data parallelism wrap all of it."""

    def __init__(self, model: PreTrainedModel, loss: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, count: torch.Tensor, **batch: torch.Tensor) -> torch.Tensor:
        return self._loss(self.model, batch, count)


class _Places(Dataset):
    """A run's rows as the dataset of a single epoch."""

    def __init__(self, rows: RowStream, count: int) -> None:
        self.rows, self.count = rows, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Row:
        return self.rows[place]


class _SupervisedTrainer(Trainer):
    """The Trainer with our schedule, loss normalisation, checkpoints and metrics."""

    def prepare(self, config: TrainConfig, steps: int, space: Workspace, bar: Bar, folder: Path) -> None:
        """What the Trainer's own constructor has no place for."""
        self.config, self.steps, self.space, self.bar, self.folder = config, steps, space, bar, folder
        self.loss_is_scaled_for_ga = True
        self.last_time, self.last_step = time.monotonic(), bar.done
        self.remove_callback(PrinterCallback)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        schedule, steps = self.config.schedule, self.steps
        if self.lr_scheduler is None:
            assert self.optimizer is not None, "the Trainer makes the optimizer first"
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: schedule_factor(schedule, step, steps)
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """Labels in the whole optimizer step, on all processes."""
        count = torch.stack([_labelled(batch["labels"]).sum() for batch in batch_samples]).sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return count.clamp(min=1)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        # Gradients are averaged over processes, while the loss is already divided by the labels of all of them.
        return model(count=num_items_in_batch, **inputs) * self.args.world_size

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:
            return
        step, loss, norm = self.state.global_step, logs["loss"], float(logs["grad_norm"])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise MathQuarryError(
                f"{self.bar.what}: step {step} has loss {loss} and gradient norm {norm}. Lower learning_rate or lengthen the warm-up."
            )
        if not self.is_world_process_zero():
            return
        now = time.monotonic()
        tokens_a_step = rows_per_step(self.config) * self.config.context_tokens
        speed = (step - self.last_step) * tokens_a_step / max(now - self.last_time, 1e-9)
        self.last_time, self.last_step = now, step
        self.space.metrics.log(
            step,
            loss=loss,
            learning_rate=logs["learning_rate"],
            gradient_norm=norm,
            tokens=step * tokens_a_step,
            tokens_per_second=round(speed, 1),
        )
        self.bar.note(loss=f"{loss:.3f}")
        self.bar.advance(step - self.bar.done)

    def _get_output_dir(self, trial: Any) -> str:
        return str(_partial(self.folder))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write beside the final place, sync, rename; then drop older checkpoints."""
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise MathQuarryError(f"cannot write a checkpoint to {self.folder}: {error}. Free some space, then run again.") from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            written = _partial(self.folder) / f"checkpoint-{self.state.global_step}"
            for file in written.iterdir():
                sync_path(file)
            older = _checkpoints(self.folder)
            written.replace(self.folder / written.name)
            sync_path(self.folder)
            for checkpoint in older:
                shutil.rmtree(checkpoint)


def _arguments(config: TrainConfig, folder: Path, rows_a_step: int) -> TrainingArguments:
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        adam_beta1=config.optimizer.beta1,
        adam_beta2=config.optimizer.beta2,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.grad_clip,
        optim="adamw_torch_fused",
        bf16=config.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        train_sampling_strategy="sequential",
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=None,
        report_to=[],
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs in one process would average losses that are sums
    processes = arguments.world_size
    if rows_a_step % processes:
        raise MathQuarryError(f"batch_tokens makes {rows_a_step} rows a step, which {processes} processes cannot share evenly. Change it.")
    rows = rows_a_step // processes
    micro = max(size for size in range(1, min(config.micro_batch_rows, rows) + 1) if rows % size == 0)
    arguments.per_device_train_batch_size = micro
    arguments.gradient_accumulation_steps = rows // micro
    return arguments


def _stack(rows: list[Row]) -> Batch:
    return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in ("input_ids", "position_ids", "labels")}


def _labelled(labels_BT: torch.Tensor) -> torch.Tensor:
    return ~labels_BT.isnan() if labels_BT.is_floating_point() else labels_BT != IGNORED


def _partial(folder: Path) -> Path:
    return folder / "partial"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=_step_of)


def _newest(folder: Path) -> Path | None:
    return max(_checkpoints(folder), key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
