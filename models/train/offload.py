"""AdamW with its moments in main memory, for GPUs with too little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq")


class OffloadedAdamW(torch.optim.AdamW):
    """AdamW that moves the moments of one parameter at a time to its device. The result is bitwise equal to AdamW's."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. Does not take a closure."""
        assert closure is None, "gradients must be computed before"
        groups = self.param_groups
        try:
            for group in groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, parameter.device)
                        self.param_groups = [{**group, "params": [parameter]}]
                        super().step()
                        self._move(parameter, torch.device("cpu"))
        finally:
            self.param_groups = groups

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load AdamW's state. AdamW puts moments on the devices of their parameters; here they are moved back to main memory."""
        super().load_state_dict(state_dict)
        for parameter in list(self.state):
            self._move(parameter, torch.device("cpu"))

    def _move(self, parameter: torch.Tensor, device: torch.device) -> None:
        state = self.state[parameter]
        for name in MOMENTS:
            if name in state:
                state[name] = state[name].to(device, non_blocking=False)
