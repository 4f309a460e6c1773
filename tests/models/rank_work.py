"""Functions that ranks execute in tests; `launch` needs them importable."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, clip_gradients, shard, whole_weights
from mathquarry.models.train.batches import Batch
from mathquarry.models.train.fit import language_model_loss


def small_model(seed: int = 0) -> PreTrainedModel:
    """A Llama of a few thousand weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=False,
        )
    )


def sum_of_losses(model: PreTrainedModel, tokens_BT: torch.Tensor) -> torch.Tensor:
    """A loss that accesses the model as the real losses do."""
    hidden_BTD = model.base_model(input_ids=tokens_BT, use_cache=False).last_hidden_state
    return functional.cross_entropy(model.get_output_embeddings()(hidden_BTD).flatten(0, 1), tokens_BT.flatten(), reduction="sum") / 40


class KillingLoss:
    """The real loss, until its `at`-th call on rank 1, which kills that process as the kernel would."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at and Ranks.current().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return language_model_loss(model, batch, count)


def learn(workspace: Workspace) -> dict[str, Any]:
    """Two optimizer steps on four rows shared by the ranks, and the results of collectives."""
    ranks = Ranks.current()
    module = ShardedModel(small_model(seed=0), sum_of_losses)
    shard(module, ranks)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, fused=True)
    tokens_BT = torch.arange(40).reshape(4, 10)
    losses, norms = [], []
    with workspace.progress.track("learn", 2, "step") as bar:
        for _ in range(2):
            loss = module(tokens_BT[ranks.rank :: ranks.size])
            loss.backward()
            losses.append(float(ranks.sum(loss.detach())))
            norms.append(clip_gradients(module.parameters(), 0.1))
            optimizer.step()
            optimizer.zero_grad()
            bar.advance()
    held = sum(parameter.to_local().numel() if ranks.size > 1 else parameter.numel() for parameter in module.parameters())  # type: ignore[union-attr, operator]
    return {
        "losses": losses,
        "norms": norms,
        "weights": whole_weights(module.model, ranks),
        "held": ranks.gather(held),
        "largest": float(ranks.maximum(torch.tensor(float(ranks.rank)))),
        "from_first": ranks.from_first(f"rank {ranks.rank}"),
    }
