"""GPUs as a plan sees them: peak rates from the makers' data sheets, and the shares of them that training reaches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """Peak rates of one GPU: dense bfloat16 FLOP/s, memory in bytes, memory and links in bytes a second (one direction)."""

    flops: float
    memory: float
    bandwidth: float
    link: float
    """To its neighbours in the same node."""


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
"""By the name that `mathquarry plan --gpu` takes, which is also in the name that the driver gives the GPU."""

GPUS_A_NODE = 8
NODE_LINK = 50e9
"""Bytes a second between nodes for each GPU: 400 Gbit/s."""
TRAIN_UTILISATION = 0.4
"""Share of the peak that training and scoring whole sequences reach."""
GENERATE_UTILISATION = 0.3
"""Share of the peak that generation reaches where arithmetic limits it."""
BANDWIDTH_UTILISATION = 0.6
"""Share of the memory's bandwidth that generation reaches where reading limits it."""


@dataclass(frozen=True)
class Cluster:
    """`count` GPUs of one kind."""

    gpu: GPU
    count: int

    @property
    def link(self) -> float:
        """Bytes a second that a GPU can send while all do: the slower of the two networks that it needs."""
        return self.gpu.link if self.count <= GPUS_A_NODE else min(self.gpu.link, NODE_LINK)
