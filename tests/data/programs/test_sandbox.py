"""The sandbox as its users see it: results, dialogues, limits, and errors that say what to do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs import client, container, local
from mathquarry.data.programs.arithmetic import ArithmeticSandbox
from mathquarry.data.programs.client import ServiceSandbox, ServiceSession, Started
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Result
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.programs.service import health
from tests.conftest import REPOSITORY
from tests.data.programs.conftest import CONFIG, inside, start


def test_a_program_gives_what_it_prints_and_the_value_of_its_last_line(sandbox: ServiceSandbox) -> None:
    assert sandbox.run("x = 6\nprint('x is', x)\nx * 7") == Result("x is 6\n", value="42")
    assert sandbox.run("x = 6\nprint('x is', x)") == Result("x is 6\n")
    assert sandbox.run("") == Result("")


def test_numpy_and_sympy_are_there(sandbox: ServiceSandbox) -> None:
    assert sandbox.run("import sympy as sp\nx = sp.symbols('x')\nsp.solve(x**2 - 3*x + 2, x)").value == "[1, 2]"
    assert sandbox.run("import numpy as np\nprint(np.linalg.det(np.array([[2.0, 0], [0, 3]])))").stdout == "6.0\n"
    assert sandbox.run("from math import comb\nfrom fractions import Fraction\nFraction(comb(5, 2), 4)").value == "Fraction(5, 2)"


def test_exit_long_integers_and_numpy_numbers_are_as_programs_expect_them(sandbox: ServiceSandbox) -> None:
    assert sandbox.run("print(4)\nexit()\nprint(5)") == Result("4\n")
    assert sandbox.run("print(4)\nquit()") == Result("4\n")
    assert sandbox.run("import math\nprint(sum(map(int, str(math.factorial(2000)))))").stdout == "23382\n"
    assert sandbox.run("import numpy as np\nnp.float64(0.5)").value == "0.5"
    assert sandbox.run("import numpy as np\n[np.int64(3), np.bool_(True)]").value == "[3, True]"


def test_an_error_is_reported_as_python_reports_it(sandbox: ServiceSandbox) -> None:
    result = sandbox.run("print(1)\n1 / 0\nprint(2)")
    assert result == Result("1\n", error="ZeroDivisionError: division by zero")
    assert sandbox.run("x = = 1").error == "SyntaxError: invalid syntax"
    assert sandbox.run("print(undefined)").error == "NameError: name 'undefined' is not defined"


def test_a_dialogue_keeps_its_variables_functions_and_imports(sandbox: ServiceSandbox) -> None:
    with sandbox.session() as session:
        assert session.run("import sympy\nn = 12").error is None
        assert session.run("def halve(x):\n    return x // 2\nm = halve(n)").error is None
        assert session.run("1 / 0").error is not None
        assert session.run("print(n, m, sympy.factorint(n))").stdout == "12 6 {2: 2, 3: 1}\n"
    with sandbox.session() as another:
        assert another.run("n").error == "NameError: name 'n' is not defined"


def test_a_program_that_takes_too_long_is_stopped_and_what_it_had_printed_is_kept(sandbox: ServiceSandbox) -> None:
    result = sandbox.run("print('begun')\nwhile True:\n    pass")
    assert result == Result("begun\n", error="TimeoutError: stopped after 2 seconds", timed_out=True, killed=True)
    with sandbox.session() as session:
        session.run("x = 1")
        assert session.run("while True:\n    pass").timed_out
        assert session.run("x").error == "NameError: name 'x' is not defined"  # gone with the process
        assert session.run("1 + 1").value == "2"


def test_output_beyond_the_limit_is_cut_and_the_dialogue_goes_on(sandbox: ServiceSandbox) -> None:
    with sandbox.session() as session:
        result = session.run("x = 5\nfor i in range(5000):\n    print(i)")
        assert result.truncated
        assert not result.killed
        assert len(result.stdout) == CONFIG.output_bytes
        assert result.stdout.startswith("0\n1\n2\n")
        assert session.run("x").value == "5"


def test_results_do_not_depend_on_when_a_program_runs(sandbox: ServiceSandbox) -> None:
    program = "import random\nimport numpy\nprint(random.random(), numpy.random.rand(), {'b', 'a', 'c'}, hash('x'))"
    assert sandbox.run(program) == sandbox.run(program)


def test_many_dialogues_at_once_get_their_own_answers(sandbox: ServiceSandbox) -> None:
    def count(number: int) -> list[str]:
        with sandbox.session() as session:
            session.run(f"x = {number}")
            return [session.run("x += 1\nx").value or "" for _ in range(3)]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(count, range(24))) == [[str(number + step) for step in (1, 2, 3)] for number in range(24)]


def test_more_dialogues_than_allowed_are_refused_with_the_field_to_raise(sandbox: ServiceSandbox) -> None:
    sessions = [sandbox.session() for _ in range(CONFIG.sessions)]
    for session in sessions:
        session.run("1")
    with sandbox.session() as another, pytest.raises(MathQuarryError, match="16 dialogues.*programs.sessions"):
        another.run("1")
    for session in sessions:
        session.close()


def test_what_a_dialogue_is_shown() -> None:
    assert Result("1\n2\n").text == "1\n2"
    assert Result("1\n", value="3").text == "1\n3"
    assert Result("", error="ValueError: no").text == "ValueError: no"
    assert Result("123", truncated=True).text == "123\n..."
    assert Result("").text == ""


def test_the_arithmetic_sandbox_runs_arithmetic_and_nothing_else() -> None:
    with make_sandbox(ProgramsConfig(sandbox="arithmetic")) as sandbox:
        assert isinstance(sandbox, ArithmeticSandbox)
        with sandbox.session() as session:
            assert session.run("a=48/2") == Result("")
            assert session.run("b=a+1\nprint(b)") == Result("25")
            assert session.run("print(c)").error == "ProgramError: line 1: `c` has no value"
        assert "Import is not allowed" in (sandbox.run("import os").error or "")


def test_without_bubblewrap_local_refuses_and_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    with pytest.raises(MathQuarryError, match=r"bubblewrap \(`bwrap`\) is not installed.*apt install.*container.*unsafe"):
        make_sandbox(ProgramsConfig(sandbox="local"))


def test_an_unsafe_sandbox_says_so_and_still_keeps_programs_from_the_network_and_from_writing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("the local sandbox needs Linux")
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    with make_sandbox(CONFIG.model_copy(update={"sandbox": "local", "unsafe": True})) as sandbox:
        assert "WITHOUT an enclosure" in caplog.text
        assert sandbox.run("6 * 7").value == "42"
        for program in ("import socket\nsocket.socket()", "import os\nos.fork()", f"open({str(tmp_path / 'x')!r}, 'w')"):
            assert "Operation not permitted" in (sandbox.run(program).error or "")


def test_without_docker_or_its_image_container_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container.shutil, "which", lambda name: None)
    with pytest.raises(MathQuarryError, match="`docker` was not found.*local"):
        make_sandbox(ProgramsConfig(sandbox="container"))
    for words, expected in (("Error: No such image: x", "make sandbox"), ("Cannot connect to the Docker daemon", "does not answer")):
        monkeypatch.setattr(container.shutil, "which", lambda name: "/bin/docker")
        failed = subprocess.CompletedProcess([], 1, "", words)
        monkeypatch.setattr(container.subprocess, "run", lambda *_, failed=failed, **__: failed)
        with pytest.raises(MathQuarryError, match=expected):
            make_sandbox(ProgramsConfig(sandbox="container"))


def test_a_service_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ENVIRONMENT", {"PYTHONHASHSEED": "nonsense"})
    with pytest.raises(MathQuarryError, match="the sandbox did not start: .*PYTHONHASHSEED"):
        make_sandbox(CONFIG.model_copy(update={"sandbox": "local", "unsafe": True}))


def test_nobody_at_the_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    with (
        make_sandbox(ProgramsConfig(sandbox="service", socket=str(tmp_path / "none"))) as sandbox,
        pytest.raises(MathQuarryError, match="/none"),
    ):
        sandbox.run("1")
    with pytest.raises(MathQuarryError, match=r"programs\.socket"):
        make_sandbox(ProgramsConfig(sandbox="service"))


def test_a_running_service_is_used_and_left_running(sandbox: ServiceSandbox) -> None:
    with make_sandbox(ProgramsConfig(sandbox="service", socket=str(sandbox.address))) as other:
        assert other.run("1 + 1").value == "2"
    assert sandbox.run("1 + 1").value == "2"


LOST = "the program's process was lost: the sandbox broke while it ran"


def worker_of(sandbox: ServiceSandbox, session: ServiceSession) -> int:
    """The host's id of a dialogue's process."""
    inner = session.run("import os\nos.getpid()").value
    for pid in inside(sandbox):
        status = Path(f"/proc/{pid}/status").read_text()
        if next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == inner:
            return pid
    raise AssertionError(f"no process {inner}")


@pytest.mark.bubblewrap
def test_a_process_that_dies_by_any_signal_leaves_the_service_as_it_was() -> None:
    with start("local") as sandbox:
        service = min(pid for pid in inside(sandbox) if "--descriptor" in Path(f"/proc/{pid}/cmdline").read_text())
        sandbox.run("1")
        children = [pid for pid in inside(sandbox) if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]
        opened = {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in {service, *children[:2]}}
        for number in [signal.SIGRTMIN + 6, signal.SIGRTMAX, signal.SIGSEGV, signal.SIGKILL] * 5:
            with sandbox.session() as session:
                session.run("x = 1")
                os.kill(worker_of(sandbox, session), number)
                result = session.run("x")
                assert result.killed
                assert re.search(r"was killed by (signal \d+|SIG\w+)", result.error or ""), result
                assert session.run("1 + 1").value == "2"
        sandbox.run("1")
        for pid, count in opened.items():
            if Path(f"/proc/{pid}").exists():
                # A worker in reserve may be on its way; what 20 deaths would leave is far more.
                assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= count + 8


def test_a_service_that_breaks_is_an_outcome_of_the_program_and_is_started_again(
    sandbox: ServiceSandbox, request: pytest.FixtureRequest
) -> None:
    if os.getuid() != 0 and "container" in request.node.name:
        pytest.skip("only root may kill the container's processes")
    before = inside(sandbox)
    with start(request.node.callspec.params["sandbox"]) as other, other.session() as session, other.session() as idle:
        idle.run("x = 1")
        session.run("x = 1")
        services = inside(other) - before
        kill = threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in services if Path(f"/proc/{pid}").exists()])
        kill.start()
        result = session.run("while True:\n    pass")
        assert (result.killed, result.timed_out, result.error) == (True, False, LOST)
        assert session.run("1 + 1").value == "2"  # a new service, and the dialogue goes on in it
        assert idle.run("x").error in (LOST, "NameError: name 'x' is not defined")
        assert other.run("6 * 7").value == "42"
    with pytest.raises(MathQuarryError):
        session.run("1")


def test_only_a_service_that_cannot_be_started_again_stops_those_who_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETURN_SECONDS", 0.1)

    def no_more() -> Started:
        raise MathQuarryError("there is no image.")

    for again, message in ((no_more, "cannot be restarted: there is no image"), (None, "did not come back")):
        with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
            address = tmp_path / f"socket-{again is None}"
            listener.bind(str(address))
            listener.listen()
            with ServiceSandbox(address, CONFIG, again).session() as session:
                answer = pool.submit(session.run, "1")
                connection, _ = listener.accept()
                listener.close()
                connection.close()
                with pytest.raises(MathQuarryError, match=message):
                    answer.result(timeout=30)


def test_the_health_check_runs_a_program_even_when_every_turn_is_taken(sandbox: ServiceSandbox, tmp_path: Path) -> None:
    busy = [threading.Thread(target=sandbox.run, args=("import time\ntime.sleep(1)",)) for _ in range(CONFIG.running)]
    for thread in busy:
        thread.start()
    health.check(str(sandbox.address))
    for thread in busy:
        thread.join()
    with socket.socket(socket.AF_UNIX) as deaf, pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "SECONDS", 0.2)
        deaf.bind(str(tmp_path / "socket"))
        deaf.listen()
        with pytest.raises(TimeoutError):
            health.check(str(tmp_path / "socket"))


FILL = "{name} = bytearray({mib} << 20)\nfor i in range(0, len({name}), 4096):\n    {name}[i] = 1"
BEYOND = "MemoryError: dialogues held more than 300 MiB between their blocks, and this one the most; its variables are gone"


def test_the_memory_of_all_dialogues_together_has_a_bound(request: pytest.FixtureRequest, sandbox: ServiceSandbox) -> None:
    with (
        start(request.node.callspec.params["sandbox"], CONFIG.model_copy(update={"held_mib": 300})) as other,
        other.session() as small,
        other.session() as large,
        other.session() as third,
    ):
        assert small.run(FILL.format(name="b", mib=50)).error is None
        assert large.run(FILL.format(name="b", mib=140)).error is None
        assert third.run(FILL.format(name="b", mib=110)).error is None, "it is not the one that holds most"
        result = large.run("len(b)")
        assert (result.error, result.killed) == (BEYOND, True)
        assert large.run("'b' in globals()").value == "False"
        assert small.run("len(b) >> 20").value == "50"
        assert third.run("len(b) >> 20").value == "110"
        result = small.run(FILL.format(name="c", mib=130))
        assert (result.error, result.killed) == (BEYOND, True)
        assert third.run("len(b) >> 20").value == "110"


def test_memory_that_takes_the_place_of_shared_memory_counts(request: pytest.FixtureRequest, sandbox: ServiceSandbox) -> None:
    """A program that returns every page that it shares with the service has no more pages than before, and they are its own."""
    program = "import gc\nfor _ in range(3):\n    for thing in gc.get_objects():\n        x = thing\n    gc.unfreeze()\n    gc.collect()"
    with start(request.node.callspec.params["sandbox"], CONFIG.model_copy(update={"held_mib": 12})) as other, other.session() as session:
        assert session.run("x = 1").error is None
        assert (session.run(program).error or "").startswith("MemoryError: dialogues held more than 12 MiB")


HOLDER = """
import sys
from tests.data.programs.conftest import inside, start
sandbox = start(sys.argv[1])
print(*sorted(inside(sandbox)), flush=True)
input()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [pytest.param("local", marks=pytest.mark.bubblewrap), pytest.param("container", marks=pytest.mark.docker)]
)
def test_the_sandbox_ends_when_the_process_that_started_it_is_killed(backend: str) -> None:
    start(backend).close()  # skips where there is none
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, backend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as holder:
        assert holder.stdout is not None
        pids = [int(pid) for pid in holder.stdout.readline().split()]
        assert len(pids) >= 2
        holder.kill()
    ended = threading.Event()
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        ended.wait(0.1)
    pytest.fail(f"{pids} are still running")


def test_a_dialogue_waits_while_the_service_has_more_callers_than_it_has_greeted(tmp_path: Path) -> None:
    """150 dialogues that opened at once on a busy machine were refused: a full queue of a Unix socket refuses instead of waiting."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as callers:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        listener.settimeout(30)
        while True:
            caller = callers.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            try:
                caller.connect(str(tmp_path / "socket"))
            except BlockingIOError:
                break
        sandbox = ServiceSandbox(tmp_path / "socket", CONFIG)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(sandbox.session)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            callers.enter_context(listener.accept()[0])
            waiting.result(timeout=30).close()
