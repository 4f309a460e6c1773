import os
import signal
import time

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import WorkersConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.store.display import Reading
from mathquarry.data.store.workspace import Progress


def slow_square(number: int) -> int:
    time.sleep(0.02 * (5 - number))
    return number * number


def fail(number: int) -> int:
    raise MathQuarryError(f"job {number} is wrong")


def kill_itself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def same_process(parent: int) -> bool:
    return os.getpid() == parent


def test_one_worker_works_in_this_process() -> None:
    with WorkerPool(WorkersConfig(count=1), Progress()) as pool:
        assert pool.run("look", "job", same_process, [(os.getpid(),)]) == [True]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "threads"])
def test_results_come_in_the_order_of_the_jobs_and_progress_is_reported(engine: str) -> None:
    told: list[Reading] = []
    with WorkerPool(WorkersConfig(engine=engine, count=2), Progress([told.append])) as pool:
        assert pool.run("square", "job", slow_square, [(number,) for number in range(5)]) == [0, 1, 4, 9, 16]
    assert (told[-1].what, told[-1].done, told[-1].total, told[-1].ended) == ("square", 5, 5, True)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "threads"])
def test_an_error_in_a_job_is_raised_here(engine: str) -> None:
    with WorkerPool(WorkersConfig(engine=engine, count=2), Progress()) as pool, pytest.raises(MathQuarryError, match="job 1 is wrong"):
        pool.run("fail", "job", fail, [(1,)])


@pytest.mark.slow
def test_a_killed_worker_is_one_clear_error() -> None:
    with WorkerPool(WorkersConfig(count=2), Progress()) as pool, pytest.raises(MathQuarryError, match="killed during 'die'"):
        pool.run("die", "job", kill_itself, [(1,)])
