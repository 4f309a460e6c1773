"""Hostile programs against every sandbox: nothing gets in or out, the service continues, and nothing is left running."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from mathquarry.data.programs.client import ServiceSandbox, ServiceSession
from tests.conftest import REPOSITORY
from tests.data.programs.conftest import SECRET, SECRET_NAME, inside, start

pytestmark = pytest.mark.slow

PATTERNS = {"DENIED": "PermissionError|Operation not permitted"}
PATTERNS["ABSENT"] = f"{PATTERNS['DENIED']}|FileNotFoundError|NotADirectoryError"


@dataclass(frozen=True)
class Attack:
    """An entry of attacks.toml, which explains the fields."""

    name: str
    program: str
    how: Literal["refused", "killed", "timed-out", "stopped", "harmless", "either"]
    error: str = ""


ATTACKS = [Attack(**entry) for entry in tomllib.loads(Path(__file__).with_name("attacks.toml").read_text())["attack"]]
# Programs that are too long to be written down.
ATTACKS += [
    Attack("brackets", "(" * 200_000, "refused"),
    Attack("nested tuples", "x = " + "(" * 5000 + "1" + ",)" * 5000, "refused"),
    Attack("minus signs", "x = " + "-" * 500_000 + "1", "stopped"),
    Attack("a huge source", "x = 1\n" * 10**6, "refused", "too long"),
]


REFUSED_CALLS = {
    "tgkill": (234, "os.getppid(), os.getppid(), 9"),
    "rt_sigqueueinfo": (129, "os.getppid(), 9, ctypes.create_string_buffer(128)"),
    "rt_tgsigqueueinfo": (297, "os.getppid(), os.getppid(), 9, ctypes.create_string_buffer(128)"),
    "timer_create": (222, "0, ctypes.create_string_buffer(64), ctypes.create_string_buffer(8)"),
    "timerfd_create": (283, "0, 0"),
    "signalfd4": (289, "-1, ctypes.create_string_buffer(8), 8, 0"),
    "eventfd2": (290, "0, 0"),
    "epoll_create1": (291, "0"),
    "inotify_init1": (294, "0"),
    "fanotify_init": (300, "0, 0"),
    "mq_open": (240, "b'x', 0o102, 0o600, None"),
    "msgget": (68, "0, 0o1600"),
    "semget": (64, "0, 1, 0o1600"),
    "mlockall": (151, "3"),
    "fallocate": (285, "1, 0, 0, 1 << 20"),
    "setpriority": (141, "0, os.getppid(), 19"),
    "sched_setscheduler": (144, "0, 1, ctypes.create_string_buffer(8)"),
    "ioprio_set": (251, "1, os.getppid(), 0"),
    "setpgid": (109, "0, 0"),
    "setsid": (112, ""),
    "sendmsg": (46, "3, ctypes.create_string_buffer(64), 0"),
    "sendto": (44, "3, b'x', 1, 0, None, 0"),
    "recvmsg": (47, "3, ctypes.create_string_buffer(64), 64"),
    "splice": (275, "0, None, 1, None, 1, 0"),
    "vmsplice": (278, "1, ctypes.create_string_buffer(16), 1, 0"),
    "sendfile": (40, "1, 0, None, 1"),
    "io_setup": (206, "1, ctypes.create_string_buffer(8)"),
    "pidfd_getfd": (438, "0, 0, 0"),
    "process_madvise": (440, "0, None, 0, 4, 0"),
    "process_mrelease": (448, "0, 0"),
    "kcmp": (312, "os.getpid(), os.getppid(), 0, 0, 0"),
    "execveat": (322, "0, b'/bin/true', None, None, 0"),
    "openat2": (437, "-100, b'/', ctypes.create_string_buffer(24), 24"),
    "name_to_handle_at": (303, "-100, b'/', ctypes.create_string_buffer(136), ctypes.create_string_buffer(4), 0"),
    "setns": (308, "0, 0"),
    "seccomp": (317, "1, 8, ctypes.create_string_buffer(16)"),
    "landlock_create_ruleset": (444, "None, 0, 1"),
    "memfd_secret": (447, "0"),
    "pkey_alloc": (330, "0, 0"),
    "membarrier": (324, "0, 0, 0"),
    "get_robust_list": (274, "os.getppid(), ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)"),
    "set_mempolicy": (238, "0, None, 0"),
    "personality": (135, "0xFFFFFFFF"),
    "modify_ldt": (154, "0, ctypes.create_string_buffer(16), 16"),
    "arch_prctl": (158, "0x1003, ctypes.create_string_buffer(8)"),
    "syslog": (103, "10, None, 0"),
}
"""Numbers on x86-64 and arguments of calls that computing does not need."""
ATTACKS += [
    Attack(
        f"system call {name}",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"got = libc.syscall({', '.join(filter(None, (str(number), arguments)))})\n"
        "if got >= 0:\n    print('GOT', got)\n"
        "raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))",
        "refused",
        "Operation not permitted",
    )
    for name, (number, arguments) in REFUSED_CALLS.items()
    if platform.machine() == "x86_64"
]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Targets to steal and to break: a secret, a writable folder, listening sockets, a process."""
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o777)
    (folder / "secret").write_text(SECRET)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim,
    ):
        unix.bind(str(folder / "unix"))
        unix.listen()
        abstract.bind(f"\0mathquarry-{os.getpid()}")
        abstract.listen()
        yield {
            "FILE": str(folder / "secret"),
            "FOLDER": str(folder),
            "PORT": str(tcp.getsockname()[1]),
            "UNIX": str(folder / "unix"),
            "ABSTRACT": f"mathquarry-{os.getpid()}",
            "VICTIM": str(victim.pid),
            "PROJECT": str(REPOSITORY),
            "SECRET_NAME": SECRET_NAME,
        }
        assert victim.poll() is None
        assert sorted(os.listdir(folder)) == ["secret", "unix"]


class Bystander:
    """Another dialogue, whose variables must survive every attack."""

    def __init__(self, session: ServiceSession) -> None:
        self._session, self._count = session, 0

    def goes_on(self) -> bool:
        self._count += 1
        result = self._session.run("count = globals().get('count', 0) + 1\ncount")
        return (result.value, result.error) == (str(self._count), None)


@pytest.fixture(scope="module")
def bystander(sandbox: ServiceSandbox) -> Iterator[Bystander]:
    with sandbox.session() as session:
        yield Bystander(session)


@pytest.fixture(scope="module")
def at_rest(sandbox: ServiceSandbox, bystander: Bystander) -> set[int]:
    """Processes of the service while no program runs: itself, the fork server, one spare worker for each turn, and the bystander's."""
    assert bystander.goes_on()
    assert sandbox.run("6 * 7").value == "42"
    return inside(sandbox)


def test_there_are_at_least_a_hundred_attacks_and_each_has_its_own_name() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 100


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_fails_and_leaves_nothing(
    attack: Attack, sandbox: ServiceSandbox, surroundings: dict[str, str], bystander: Bystander, at_rest: set[int]
) -> None:
    program = attack.program
    for name, value in {**surroundings, "SERVICE": str(sandbox.address.parent)}.items():
        program = program.replace(f"@{name}@", value)
    result = sandbox.run(program)
    left = inside(sandbox)

    seen = f"{result.stdout} {result.value} {result.error}"
    assert "GOT" not in seen
    assert SECRET not in seen
    assert len(seen) < 3 * 4096 + 100
    how = "timed-out" if result.timed_out else "killed" if result.killed else "refused" if result.error else "harmless"
    assert how == attack.how or (attack.how == "stopped" and how != "harmless") or (attack.how == "either" and how != "timed-out"), result
    pattern = re.sub("DENIED|ABSENT", lambda name: PATTERNS[name[0]], attack.error)
    assert re.search(pattern, result.error or ""), result

    # The workers in reserve change, the service and its fork server do not, and there are no more than before.
    assert len(left) <= len(at_rest)
    assert min(at_rest) in left
    assert bystander.goes_on()
    again = sandbox.run("import math\nprint(math.factorial(5))")
    assert (again.stdout, again.error) == ("120\n", None)


SPY = """
import gc, os
for pid in set(range(1, 1000)) - {os.getpid()}:
    for entry in ("mem", "environ", "maps", "fd", "cwd"):
        try:
            open(f"/proc/{pid}/{entry}", "rb").read(1)
            print("GOT", pid, entry)
        except OSError:
            pass
mark = "mark of " + "another dialogue"
texts = [text for thing in gc.get_objects() if isinstance(thing, dict) for text in list(thing.values()) if isinstance(text, str)]
if any(text is not mark and mark in text for text in texts):
    print("GOT", mark)
"""


def test_dialogues_do_not_see_or_disturb_each_other(sandbox: ServiceSandbox) -> None:
    with sandbox.session() as first, sandbox.session() as second:
        assert first.run("import math, builtins\nx = 'mark of another dialogue'\nmath.pi = 3\nbuiltins.extra = 1").error is None
        seen = second.run("import math, builtins\nprint(math.pi, hasattr(builtins, 'extra'), 'x' in globals())")
        assert seen.stdout == "3.141592653589793 False False\n"
        assert first.run("print(x)").stdout == "mark of another dialogue\n"
        assert "GOT" not in second.run(SPY).stdout
    assert sandbox.run("import math\nprint(math.pi)").stdout == "3.141592653589793\n"


def test_a_dialogue_stands_still_between_its_blocks(sandbox: ServiceSandbox) -> None:
    counting = "import signal\nticks = 0\ndef tick(*_):\n    global ticks\n    ticks += 1\nsignal.signal(signal.SIGALRM, tick)\n"
    with sandbox.session() as session:
        session.run(counting + "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)")
        before = int(session.run("print(ticks)").stdout)
        for _ in range(5):
            sandbox.run("sum(range(10**6))")
        # Time passed for others; this dialogue got at most the ticks of its own two short blocks.
        after = int(session.run("print(ticks)").stdout)
        assert after - before < 100


def test_many_hostile_dialogues_at_once_do_not_keep_an_ordinary_one_from_its_answer(sandbox: ServiceSandbox) -> None:
    hostile = ["while True:\n    pass", "x = []\nwhile True:\n    x.append(bytearray(1 << 24))", "while True:\n    print('x' * 10000)"] * 3
    threads = [threading.Thread(target=sandbox.run, args=(program,)) for program in hostile]
    for thread in threads:
        thread.start()
    assert sandbox.run("print(1)").stdout == "1\n"
    for thread in threads:
        thread.join()


def test_the_end_of_the_sandbox_is_the_end_of_its_programs(request: pytest.FixtureRequest, sandbox: ServiceSandbox) -> None:
    backend = request.node.callspec.params["sandbox"]
    other = start(backend)
    with other.session() as session:
        session.run("x = 1")
        pids = inside(other)
        assert len(pids) >= 3
        if backend == "local":
            pids -= inside(sandbox)
        other.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not other.address.exists()
