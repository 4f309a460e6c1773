"""Hostile programs against every enclosure: nothing gets in or out, the service goes on, and nothing is left running."""

from __future__ import annotations

import os
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

from data.programs.client import ServiceSandbox
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
    how: Literal["refused", "killed", "timed-out", "stopped", "harmless"]
    error: str = ""


ATTACKS = [Attack(**entry) for entry in tomllib.loads(Path(__file__).with_name("attacks.toml").read_text())["attack"]]
# Programs that are too long to be written down.
ATTACKS += [
    Attack("brackets", "(" * 200_000, "refused"),
    Attack("nested tuples", "x = " + "(" * 5000 + "1" + ",)" * 5000, "refused"),
    Attack("minus signs", "x = " + "-" * 500_000 + "1", "stopped"),
    Attack("a huge source", "x = 1\n" * 10**6, "refused", "too long"),
]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What there is to steal and to break: a secret, a writable folder, listening sockets, a process."""
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


@pytest.fixture(scope="module")
def at_rest(sandbox: ServiceSandbox) -> set[int]:
    """Processes of the service when no program runs: itself, the fork server, and one worker in reserve for each turn."""
    assert sandbox.run("6 * 7").value == "42"
    return inside(sandbox)


def test_there_are_at_least_a_hundred_attacks_and_each_has_its_own_name() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 100


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_fails_and_leaves_nothing(
    attack: Attack, sandbox: ServiceSandbox, surroundings: dict[str, str], at_rest: set[int]
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
    assert how == attack.how or (attack.how == "stopped" and how != "harmless"), result
    pattern = re.sub("DENIED|ABSENT", lambda name: PATTERNS[name[0]], attack.error)
    assert re.search(pattern, result.error or ""), result

    # The workers in reserve change, the service and its fork server do not, and there are no more than before.
    assert len(left) <= len(at_rest)
    assert min(at_rest) in left
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
