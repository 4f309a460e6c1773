"""The sandbox's service in bubblewrap (https://github.com/containers/bubblewrap): no Docker, no root, no daemon.

The service gets new namespaces for everything (users, processes, network, mounts, IPC, host name), no capabilities, no environment, its
own session, and a root that contains only a Python interpreter, its shared libraries, numpy, sympy and the service's own code, all
read-only. There is no /proc, /tmp, shell or home. The listening socket is inherited, so not even a folder is shared.

Without bubblewrap it refuses to start, unless `unsafe` is set: then the same service runs as a plain process. Programs are still confined
by seccomp and limits (no network, no processes, no writing), but they can read every file that the user can read.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.client import ServiceSandbox, Started, limits
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.process import ServiceProcess

logger = logging.getLogger(__name__)

LIBRARIES = ("numpy", "sympy", "mpmath")
"""Libraries that programs may import besides the standard library."""

INSIDE = Path("/opt/mathquarry")
SERVICE = Path(__file__).with_name("service")
SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
"""One thread, since programs may not start any; a fixed hash seed, so that a dialogue always gives the same output."""
BACKLOG = 1024


def start_local(config: ProgramsConfig) -> ServiceSandbox:
    """Start the service in bubblewrap, or without it if `config.unsafe`, and wait until it is ready.

    Raises `MathQuarryError` if this is not Linux, if bubblewrap is missing, or, with its output, if the service does not start.
    """
    if sys.platform != "linux":
        raise MathQuarryError("programs.sandbox `local` needs Linux. Set it to `container`, or to `arithmetic` for plain arithmetic.")
    bubblewrap = shutil.which("bwrap")
    if config.unsafe:
        logger.warning("programs.unsafe is set: programs run WITHOUT an enclosure and can read every file that this user can read.")
    elif bubblewrap is None:
        raise MathQuarryError(
            "programs.sandbox is `local`, but bubblewrap (`bwrap`) is not installed, so programs would run without an enclosure. "
            "Install it (Debian: apt install bubblewrap), set programs.sandbox to `container`, or, knowing that programs could read "
            "every file that you can read, set programs.unsafe to true."
        )
    start = partial(_start, config, None if config.unsafe else bubblewrap)
    address, end = start()
    return ServiceSandbox(address, config, start, end=end)


def _start(config: ProgramsConfig, bubblewrap: str | None) -> Started:
    folder = tempfile.TemporaryDirectory(prefix="mathquarry-sandbox-")
    address = Path(folder.name) / "socket"
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)  # the service measures its programs, and has no /proc
    with socket.socket(socket.AF_UNIX) as listener, _closing(proc):
        listener.bind(str(address))
        listener.listen(BACKLOG)
        arguments = [
            "-m",
            "service",
            limits(config).to_json(),
            "--with-parent",
            "--proc",
            str(proc),
            "--descriptor",
            str(listener.fileno()),
        ]
        process = ServiceProcess(
            _enclosed(bubblewrap, arguments) if bubblewrap else [sys.executable, "-BPs", *arguments],
            Path(folder.name) / "errors",
            environment={**ENVIRONMENT, "PYTHONPATH": str(SERVICE.parent)},
            descriptors=[listener.fileno(), proc],
            remedy="bubblewrap needs user namespaces, and the service needs libseccomp (Debian: libseccomp2); "
            "or set programs.sandbox to `container`.",
        )

    def end() -> None:
        process.end()
        folder.cleanup()

    return address, end


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _enclosed(bubblewrap: str, arguments: list[str]) -> list[str]:
    """The command that runs this Python with `arguments`, in an enclosure with only what it needs."""
    python = Path(sys.executable).resolve()
    options = ["--unshare-all", "--unshare-user", "--uid", "65532", "--gid", "65532", "--hostname", "sandbox", "--cap-drop", "ALL"]
    options += ["--new-session", "--die-with-parent", "--dev-bind", os.devnull, os.devnull]
    for path in (*SYSTEM_LIBRARIES, str(python), str(Path(sys.base_prefix) / "lib")):
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        else:
            options += ["--ro-bind-try", path, path]
    for source in (SERVICE, *_library_folders()):
        options += ["--ro-bind", str(source), str(INSIDE / source.name)]
    options += ["--remount-ro", "/", "--clearenv"]
    for name, value in {**ENVIRONMENT, "PYTHONPATH": str(INSIDE)}.items():
        options += ["--setenv", name, value]
    return [bubblewrap, *options, "--", str(python), "-BPsS", *arguments]


def _library_folders() -> list[Path]:
    found = [find_spec(name) for name in LIBRARIES]
    folders = [Path(spec.origin).parent for spec in found if spec is not None and spec.origin is not None]
    # The shared libraries of numpy's wheel.
    return folders + [folder for folder in (folders[0].with_name("numpy.libs"),) if folder.is_dir()]
