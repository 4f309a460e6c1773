"""Runs a function on several ranks with torchrun's launcher, monitors it, and returns its result or the reason of its failure.

A stage that uses several processes is a single process until it trains; then it calls `launch`. The job (the function and its arguments) is
written to a private folder on this machine. With several machines, the folder is in the stage's scratch folder, on a shared file system,
and each of the other machines must run, as the same user,

    python -m mathquarry.models.ranks.launch FOLDER

which starts its ranks and ends with them. `launch` logs that command. Stages that sample call `share_out`: it starts as many processes, but
each works alone on its own items and GPUs, without a process group. Job and result are pickles, which can run any code when they are
loaded: only the owner can open the folder, and files that somebody else could have written are not loaded.
"""

from __future__ import annotations

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

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json
from mathquarry.data.store.workspace import MetricLog, Progress, Workspace
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.progress import POLL_SECONDS, ForwardProgress, relayed_progress

logger = logging.getLogger("mathquarry")

JOB, RESULT = "job.pickle", "result.pickle"


@dataclass(frozen=True)
class _Job:
    """The work of every rank: `function(workspace, *arguments)`, or with `items`, the rank's own items before the arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    config: RanksConfig
    out: Path
    scratch: Path
    metrics: Path
    items: Sequence[Any] | None = None
    cards: int = 1


def launch(function: Callable[..., Any], arguments: Sequence[Any], config: RanksConfig, workspace: Workspace, name: str) -> Any:
    """Run `function(workspace, *arguments)` on every rank of a new process group and return what rank 0 returns.

    The function must be importable by name, and arguments and result must be picklable. Rank 0's progress is shown as that of `workspace`;
    the other ranks show nothing. Raises `MathQuarryError`: the one that a rank raised, or one that says which rank failed and how.
    """
    return _run(
        _Job(function, tuple(arguments), config, workspace.out.resolve(), workspace.scratch.resolve(), workspace.metrics.path.resolve()),
        workspace,
        name,
    )


def share_out(
    function: Callable[..., Any],
    items: Sequence[Any],
    arguments: Sequence[Any],
    config: RanksConfig,
    workspace: Workspace,
    name: str,
    cards: int,
) -> None:
    """Call `function(workspace, own items, *arguments)` in one process per `cards` configured processes; with one, in this process.

    The processes are independent, see only their own GPUs, and write their results to files. Of n processes, process i mod n gets item i.
    Function, items and arguments must be picklable. The progress shown is that of the first process. Raises `MathQuarryError` like
    `launch`, and if the number of processes per machine is not a multiple of `cards`.
    """
    if config.processes % cards:
        raise MathQuarryError(
            f"{name}: ranks.processes is {config.processes}, but each engine needs rollout.tensor_parallel = {cards} of them. "
            "Set ranks.processes to a multiple of it."
        )
    apart = config.model_copy(update={"processes": config.processes // cards})
    if apart.size == 1:
        function(workspace, items, *arguments)
        return
    out, scratch, metrics = workspace.out.resolve(), workspace.scratch.resolve(), workspace.metrics.path.resolve()
    _run(_Job(function, tuple(arguments), apart, out, scratch, metrics, tuple(items), cards), workspace, name)


def _run(job: _Job, workspace: Workspace, name: str) -> Any:
    """Start the job's ranks, wait for them, and return rank 0's result."""
    config = job.config
    with _private_folder(workspace, name, config.nodes) as folder:
        try:
            _dump(job, folder / JOB)
        except OSError as error:
            raise MathQuarryError(f"cannot write {folder / JOB}: {error}. Free some space, then run again.") from error
        if config.nodes > 1:
            logger.info("on each of the other %d machines run: python -m mathquarry.models.ranks.launch %s", config.nodes - 1, folder)
        with relayed_progress(folder / "progress.jsonl", workspace.progress):
            _start(folder, config, name)
        return _load(folder / RESULT)


@contextmanager
def _private_folder(workspace: Workspace, name: str, nodes: int) -> Iterator[Path]:
    """Yield an empty folder that only this user can open: on this machine, or in scratch if other machines need it."""
    if nodes == 1:
        with tempfile.TemporaryDirectory(prefix=f"mathquarry-{name}-") as folder:
            yield Path(folder).resolve()
        return
    shared = (workspace.scratch / f"{name}-ranks").resolve()
    shutil.rmtree(shared, ignore_errors=True)
    try:
        shared.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise MathQuarryError(f"{shared} cannot be emptied. Does it belong to another user? Remove it, then run again.") from None
    yield shared
    shutil.rmtree(shared)


def _dump(value: Any, path: Path) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        pickle.dump(value, file)


def _load(path: Path) -> Any:
    """Load a file written by `_dump`. Raises `MathQuarryError` if another user could have written it, since a pickle can run any code."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror}. Use the folder that the first machine logged.") from None
    with open(descriptor, "rb") as file:
        for what, status in ((path, os.fstat(descriptor)), (path.parent, path.parent.stat())):
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                whose = f"owner {status.st_uid}, mode {status.st_mode & 0o777:o}"
                raise MathQuarryError(
                    f"{what} can be written by users other than {os.geteuid()} ({whose}), so it is not loaded: "
                    "it could run any code. Run the ranks of every machine as the same user."
                )
        return pickle.load(file)


def _start(folder: Path, config: RanksConfig, name: str) -> None:
    """Run this machine's ranks until they end."""
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
        elastic_launch(settings, sys.executable)("-P", "-m", "mathquarry.models.ranks.launch", str(folder), "--rank")
    except ChildFailedError as error:
        raise _reason(folder, error) from error


def _reason(folder: Path, failed: ChildFailedError) -> MathQuarryError:
    """Return the original failure: ranks that lose a peer fail too."""
    told = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("error-*.json")]
    told.sort(key=lambda report: report["time"])
    for report in told:
        if report["expected"]:
            return MathQuarryError(report["message"])
    # The launcher stops the other ranks with SIGTERM.
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
        f"rank {rank} (process {process}) {how}; the other ranks were stopped. Run again: the stage continues from its last checkpoint."
    )


def _run_rank(folder: Path) -> None:
    """The process of one rank."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job: _Job = _load(folder / JOB)
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    progress = Progress([ForwardProgress(folder / "progress.jsonl")] if rank == 0 else [], quiet=True)
    try:
        if job.items is not None:
            # Before anything queries the GPUs: vLLM takes the first ones that it sees.
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own_cards(local, job.cards))
            # An engine makes its own process group, which must not connect to the launcher's store.
            os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
        if torch.cuda.is_available():
            torch.cuda.set_device(local % torch.cuda.device_count() if job.items is None else 0)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.config.processes))
        workspace = Workspace(job.out, job.scratch, progress, MetricLog(job.metrics))
        if job.items is None:
            # NCCL needs one GPU per rank. If ranks share a GPU (for testing), gloo carries tensors of both kinds.
            own_gpus = torch.cuda.is_available() and job.config.processes <= torch.cuda.device_count()
            dist.init_process_group("cpu:gloo,cuda:nccl" if own_gpus else "gloo")
            result = job.function(workspace, *job.arguments)
        else:
            result = job.function(workspace, job.items[rank :: job.config.size], *job.arguments)
        if rank == 0:
            _dump(result, folder / RESULT)
        if dist.is_initialized():  # vLLM destroys the group when it is closed
            dist.barrier()
            dist.destroy_process_group()
    except Exception as error:
        failed, expected = time.time(), isinstance(error, MathQuarryError)
        if not expected:
            traceback.print_exc()
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        report = {"time": failed, "rank": rank, "process": os.getpid(), "expected": expected, "message": message}
        write_json(folder / f"error-{rank:05d}.json", report)
        # Not sys.exit: a normal exit would wait for collectives that the other ranks never join.
        sys.stderr.flush()
        os._exit(1)


def own_cards(place: int, count: int) -> list[str]:
    """Return the GPUs of process number `place` on its machine, `count` of them, as in `CUDA_VISIBLE_DEVICES`; none without GPUs.

    Raises `MathQuarryError` if the machine has too few.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = named.split(",") if named else [str(card) for card in range(torch.cuda.device_count())]
    own = seen[place * count : (place + 1) * count]
    if seen and len(own) < count:
        raise MathQuarryError(
            f"process {place} of this machine needs {count} GPUs, but the processes before it leave {len(own)} of {len(seen)}. "
            "Lower ranks.processes."
        )
    return own


def _end_with(parent: int) -> None:
    """End this process when its parent is gone (killed, for example), since nobody would be left to stop it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """`FOLDER`: run this machine's ranks of the job in it. `FOLDER --rank`: run one rank (called by the launcher)."""
    folder = Path(arguments[0])
    if "--rank" in arguments:
        _run_rank(folder)
        return
    job: _Job = _load(folder / JOB)
    _start(folder, job.config, folder.name.removesuffix("-ranks"))


if __name__ == "__main__":
    main(sys.argv[1:])
