"""GPUs for plans: peak rates from the vendors' data sheets, and the shares of them that training reaches. A CPU's rates are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

TRAIN_UTILISATION = 0.4
"""Share of a GPU's peak FLOP/s that training and scoring whole sequences reach."""
GENERATE_UTILISATION = 0.3
"""Share of a GPU's peak FLOP/s that generation reaches if arithmetic is the limit."""
BANDWIDTH_UTILISATION = 0.6
"""Share of a GPU's peak memory bandwidth that generation reaches if reading is the limit."""


@dataclass(frozen=True)
class GPU:
    """Peak rates of one GPU: dense bfloat16 FLOP/s, memory in bytes, memory and links in bytes per second (one direction). The shares are
    those of FLOP/s and bandwidth that training and generation reach."""

    flops: float
    memory: float
    bandwidth: float
    link: float
    """Bandwidth to other GPUs in the same node."""
    train_share: float = TRAIN_UTILISATION
    generate_share: float = GENERATE_UTILISATION
    bandwidth_share: float = BANDWIDTH_UTILISATION
    is_cpu: bool = False
    """Whether these are a machine's processors, at float32 rates."""

    @property
    def card(self) -> float | None:
        """Memory of the GPU by which the code sizes its passes. On a CPU it does not."""
        return None if self.is_cpu else self.memory

    def shared_by(self, count: int) -> GPU:
        """Return what each of `count` processes has: a GPU of its own, or a part of the machine's processors and memory."""
        if not self.is_cpu:
            return self
        return replace(self, flops=self.flops / count, memory=self.memory / count, bandwidth=self.bandwidth / count)


GPUS: dict[str, GPU] = {
    "a100": GPU(312e12, 80e9, 2.04e12, 300e9),
    "a800": GPU(312e12, 80e9, 2.04e12, 200e9),
    "h100": GPU(989e12, 80e9, 3.35e12, 450e9),
    "h800": GPU(989e12, 80e9, 3.35e12, 200e9),
    "h200": GPU(989e12, 141e9, 4.8e12, 450e9),
    "b200": GPU(2250e12, 180e9, 8.0e12, 900e9),
    "l40s": GPU(362e12, 48e9, 0.864e12, 32e9),
    "rtx4090": GPU(165e12, 24e9, 1.01e12, 32e9),
}
"""Keys are the names that `mathquarry plan --gpu` takes. The driver's name of the GPU contains them too."""

GPUS_A_NODE = 8
NODE_LINK = 50e9
"""Bytes per second between nodes for each GPU: 400 Gbit/s."""


@dataclass(frozen=True)
class Cluster:
    """`count` GPUs of one kind, or `count` processes on a machine without one."""

    gpu: GPU
    count: int

    @property
    def flops(self) -> float:
        """Peak FLOP/s of all GPUs."""
        return self.gpu.shared_by(self.count).flops * self.count

    @property
    def link(self) -> float:
        """Bytes per second that each GPU can send when all send: the slower of the two networks in use."""
        return self.gpu.link if self.count <= GPUS_A_NODE else min(self.gpu.link, NODE_LINK)
