"""Start a function on several ranks with torchrun's launcher, watch it, and bring back its result or the reason why it failed.

The stage that asks for several processes stays a single process up to the point where it trains; there it calls `launch`. The job (the
function and its arguments) lies in a private folder of this machine. Where there are several machines, it lies in the stage's scratch, on
a file system they share, and each of the others runs, as the same user,

    python -m models.launch FOLDER

which starts its ranks and ends with them. `launch` logs that command. Job and result are pickles, which can do anything when they are read:
the folder is for its owner alone, and what somebody else could have written is not read.
"""

from __future__ import annotations

import contextvars
import json
import logging
import os
import pickle
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from data.errors import MathQuarryError
from data.files import write_json
from data.workspace import MetricLog, Progress, ProgressListener, Workspace
from models.config import RanksConfig

logger = logging.getLogger("mathquarry")

JOB, RESULT = "job.pickle", "result.pickle"
POLL_SECONDS = 0.5
"""How often progress is passed on, and how often a rank looks whether the process that started it is still there."""


@dataclass(frozen=True)
class _Job:
    """What every rank runs: `function(space, *arguments)`."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    config: RanksConfig
    out: Path
    scratch: Path
    metrics: Path


def launch(function: Callable[..., Any], arguments: Sequence[Any], config: RanksConfig, space: Workspace, name: str) -> Any:
    """Run `function(space, *arguments)` on every rank of a new process group and return what rank 0 returns.

    The function must be importable by name, arguments and result picklable. Rank 0's progress reaches the listeners of `space`; the other
    ranks are silent. Raises `MathQuarryError`: the one that a rank raised, or one that says which rank ended and how.
    """
    job = _Job(function, tuple(arguments), config, space.out.resolve(), space.scratch.resolve(), space.metrics.path.resolve())
    with _private_folder(space, name, config.nodes) as folder:
        try:
            _dump(job, folder / JOB)
        except OSError as error:
            raise MathQuarryError(f"cannot write {folder / JOB}: {error}. Free some space, then run again.") from error
        if config.nodes > 1:
            logger.info("on each of the other %d machines run: python -m models.launch %s", config.nodes - 1, folder)
        with _relayed(folder / "progress.jsonl", space.progress.listeners):
            _start(folder, config, name)
        return _load(folder / RESULT)


@contextmanager
def _private_folder(space: Workspace, name: str, nodes: int) -> Iterator[Path]:
    """An empty folder that only this user can open: of this machine, or in the scratch folder where other machines have to find it."""
    if nodes == 1:
        with tempfile.TemporaryDirectory(prefix=f"mathquarry-{name}-") as folder:
            yield Path(folder).resolve()
        return
    shared = (space.scratch / f"{name}-ranks").resolve()
    shutil.rmtree(shared, ignore_errors=True)
    try:
        shared.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise MathQuarryError(f"{shared} cannot be emptied. Is it somebody else's? Remove it, then run again.") from None
    yield shared
    shutil.rmtree(shared)


def _dump(value: Any, path: Path) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        pickle.dump(value, file)


def _load(path: Path) -> Any:
    """What `_dump` wrote. Raises `MathQuarryError` when anybody but this user could have written it: a pickle runs what it says."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror}. Name the folder that the first machine logged.") from None
    with open(descriptor, "rb") as file:
        for what, status in ((path, os.fstat(descriptor)), (path.parent, path.parent.stat())):
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                whose = f"owner {status.st_uid}, mode {status.st_mode & 0o777:o}"
                raise MathQuarryError(
                    f"{what} can be written by others than user {os.geteuid()} ({whose}) and is not read, "
                    "since it could run anything. Run every machine's ranks as the same user."
                )
        return pickle.load(file)


def _start(folder: Path, config: RanksConfig, name: str) -> None:
    """This machine's ranks, until they end."""
    settings = LaunchConfig(
        min_nodes=config.nodes,
        max_nodes=config.nodes,
        nproc_per_node=config.processes,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint=config.rendezvous or "localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "models.launch", str(folder), "--rank")
    except ChildFailedError as error:
        raise _reason(folder, error) from error


def _reason(folder: Path, failed: ChildFailedError) -> MathQuarryError:
    """Of all that failed, what failed by itself: ranks that lose a peer fail too."""
    told = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("error-*.json")]
    told.sort(key=lambda report: report["time"])
    for report in told:
        if report["expected"]:
            return MathQuarryError(report["message"])
    # SIGTERM is how the launcher stops the others.
    killed = [(rank, failure) for rank, failure in failed.failures.items() if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM]
    if killed:
        rank, failure = killed[0]
        process, how = failure.pid, f"was ended by {failure.signal_name()}"
    elif told:
        rank, process = told[0]["rank"], told[0]["process"]
        how = f"ended with exit code 1 ({told[0]['message']})"
    else:
        rank, failure = failed.get_first_failure()
        process, how = failure.pid, f"ended with exit code {failure.exitcode}"
    return MathQuarryError(
        f"rank {rank} (process {process}) {how}; the other ranks were stopped. Run again: training goes on from its newest checkpoint."
    )


def _run_rank(folder: Path) -> None:
    """One rank's process."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job: _Job = _load(folder / JOB)
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.config.processes))
    progress = Progress([_Forward(folder / "progress.jsonl")]) if rank == 0 else Progress(quiet=True)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        result = job.function(Workspace(job.out, job.scratch, progress, MetricLog(job.metrics)), *job.arguments)
        if rank == 0:
            _dump(result, folder / RESULT)
        if dist.is_initialized():  # vLLM ends the group when it is closed
            dist.barrier()
            dist.destroy_process_group()
    except Exception as error:
        failed, expected = time.time(), isinstance(error, MathQuarryError)
        if not expected:
            traceback.print_exc()
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        report = {"time": failed, "rank": rank, "process": os.getpid(), "expected": expected, "message": message}
        write_json(folder / f"error-{rank:05d}.json", report)
        # Not sys.exit: leaving the interpreter would wait for collectives that the other ranks never join.
        sys.stderr.flush()
        os._exit(1)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, killed perhaps: nobody would be left to stop it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


class _Forward:
    """A progress listener that writes down what it hears."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, what: str, done: int, total: int) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, done, total]) + "\n")


@contextmanager
def _relayed(path: Path, listeners: Sequence[ProgressListener]) -> Iterator[None]:
    """While the block runs, tell the listeners what rank 0 writes down."""
    ended = threading.Event()

    def relay() -> None:
        position = 0
        while True:
            last = ended.wait(POLL_SECONDS)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                position += len(whole)
                for line in whole.splitlines():
                    for listener in listeners:
                        listener(*json.loads(line))
            if last:
                return

    # The listeners of a flow run find it in the context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(relay,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main(arguments: Sequence[str]) -> None:
    """`FOLDER`: run this machine's ranks of the job in it. `FOLDER --rank`: be one of them (how the launcher calls it)."""
    folder = Path(arguments[0])
    if "--rank" in arguments:
        _run_rank(folder)
        return
    job: _Job = _load(folder / JOB)
    _start(folder, job.config, folder.name.removesuffix("-ranks"))


if __name__ == "__main__":
    main(sys.argv[1:])
