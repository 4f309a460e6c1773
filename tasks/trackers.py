"""Sends the metrics of a stage to experiment trackers (`trackers` of a recipe), through accelerate's wrappers.

A thread reads the metrics that the stage writes. So models/ does not depend on trackers, and a slow or unreachable tracker does not delay
the stage. Each attempt at an artifact is a separate run in the tracker; it has all steps, including those of earlier attempts.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.polling import every
from mathquarry.data.store.tail import MetricTail
from mathquarry.models.config import Tracker
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.train.config import TrainConfig

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger("mathquarry")

LOOK_SECONDS = 5.0
"""Time between two reads of the metrics."""
LAST_SECONDS = 600.0
"""Longest wait at the end of a stage for its trackers: they may still start, or upload what they have."""
PROJECT = "mathquarry"
"""Name of the project (in MLflow: experiment) of all runs."""
PACKAGES: dict[Tracker, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow-skinny"}
"""Package to install for each tracker. The module has the tracker's name."""


def trackers_of(configs: Iterable[object]) -> list[Tracker]:
    """Return the trackers in the configs of a stage, without repetition."""
    named = [config.trackers for config in configs if isinstance(config, TrainConfig | GRPOConfig)]
    return list(dict.fromkeys(tracker for trackers in named for tracker in trackers))


def lacking(names: Sequence[Tracker]) -> list[str]:
    """Return a message for each tracker whose package is not installed."""
    missing = [name for name in names if not util.find_spec(name)]
    return [f"trackers has {name}, whose package is not installed: pip install {PACKAGES[name]}" for name in missing]


@contextmanager
def tracked(names: Sequence[Tracker], run: str, config: Mapping[str, Any], metrics: Path, folder: Path) -> Iterator[None]:
    """While the block runs, send new records in the file `metrics` to trackers, as a run named `run`. They write files to `folder`.

    If a tracker fails, this logs a warning and continues with the others. Raises `MathQuarryError` if a tracker's package is not installed.
    """
    if missing := lacking(names):
        raise MathQuarryError(". ".join([*missing, "Or take it out of the recipe."]))
    followers = [_Follower(name, run, config, MetricTail(metrics), folder) for name in names]

    def look(last: bool) -> None:
        for follower in followers:
            follower.look(last)

    with every(LOOK_SECONDS, look, "the trackers", LAST_SECONDS):
        yield


class _Follower:
    """Sends metrics to one tracker. All calls are made in one thread, because an MLflow run belongs to the thread that started it."""

    def __init__(self, name: Tracker, run: str, config: Mapping[str, Any], tail: MetricTail, folder: Path) -> None:
        self._name, self._run, self._config, self._tail, self._folder = name, run, config, tail, folder
        self._begun = time.time()
        self._tracker: GeneralTracker | None = None
        self._logged = 0
        self._failed = False

    def look(self, last: bool) -> None:
        """Send the new records. If `last`, also end the tracker's run."""
        if self._failed:
            return
        try:
            self._log(last)
            if last and self._tracker is not None:
                self._tracker.finish()
        except Exception as error:
            self._failed = True
            reason = f"{type(error).__name__}: {error}".rstrip(".")
            logger.warning("tracker %s: %s. The stage goes on without it.", self._name, reason)

    def _log(self, last: bool) -> None:
        records = self._tail.look()
        # A resumed stage may first drop the last steps of the attempt before. So nothing is sent until it has logged a step itself.
        if not records or (records[-1]["time"] < self._begun and not last):
            return
        if self._tracker is None:
            self._tracker = _started(self._name, self._run, self._folder)
            self._tracker.store_init_configuration(_flat(self._config))
        for record in records[self._logged :]:
            self._tracker.log({_key(name): value for name, value in record["values"].items()}, step=record["step"])
        self._logged = len(records)


def _started(name: Tracker, run: str, folder: Path) -> GeneralTracker:
    from accelerate import PartialState

    # accelerate needs this state for logging. With cpu=True it does not touch the GPUs.
    PartialState(cpu=True)
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    tracker = _MAKERS[name](run, folder)
    tracker.main_process_only = False
    tracker.start()
    return tracker


def _tensorboard(run: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(f"{run}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}", str(folder))


def _wandb(run: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    return WandBTracker(PROJECT, name=run, dir=os.environ.get("WANDB_DIR", str(folder)))


def _trackio(run: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=run, embed=False)


def _mlflow(run: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        # MLflow requires this setting before it writes to files. Its databases would need more packages.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        import_module("mlflow").set_tracking_uri(folder.as_uri())
    return MLflowTracker(PROJECT, run_name=run)


_MAKERS: dict[Tracker, Callable[[str, Path], GeneralTracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
}


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten a config to dotted names. Lists become text."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _key(name: str) -> str:
    """Replace the characters in a metric's name that some trackers do not allow."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
