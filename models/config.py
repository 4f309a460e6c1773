"""Types that the configs of `models/` share; each package has its own `config.py`. Importable without torch.

Batch sizes name their unit: tokens, sequences, prompts or completions.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Supervision = Literal["outcome", "process"]
Precision = Literal["float32", "bfloat16"]
LearningRate = Annotated[float, Field(gt=0)]

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""Where the metrics of a stage can be followed while it runs."""
TRACKERS = "Experiment trackers that get the metrics of each step; their packages are installed by hand (docs/running.md)."
"""Description of the field in each section that has it."""
