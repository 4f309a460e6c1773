"""Environments of the compared systems, made by uv: their packages conflict with each other and with ours.

All fastText forks install one module name, so none may meet another in an environment.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "openwebmath": ["openwebmath-text-extract==0.1.3", "resiliparse==1.1.0", "fastwarc==1.1.0", "pyyaml"],
    "resiliparse": ["resiliparse==2.0.1", "fastwarc==2.0.1"],
    "trafilatura": ["trafilatura==2.3.1"],
    "datatrove": [
        "datatrove[io,processing]==0.10.1",
        "warcio==1.8.1",
        "faust-cchardet==3.2.0",
        "python-magic==0.4.27",
        "fasteners",
        "spacy==3.8.18",
    ],
    "datasketch": ["datasketch==2.0.0"],
    "rensa": ["rensa==0.5.0"],
}
_SHOWN = (
    "datasketch",
    "datatrove",
    "fastwarc",
    "latex2sympy2-extended",
    "math-verify",
    "mpmath",
    "numpy",
    "openwebmath-text-extract",
    "rensa",
    "resiliparse",
    "spacy",
    "sympy",
    "trafilatura",
    "warcio",
)


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a system's environment in `folder`, which is made if it is missing. `mathquarry` is this interpreter."""
    if peer == "mathquarry":
        return Path(sys.executable)
    wanted = REQUIREMENTS[peer]
    place = folder / f"{peer}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(place))
        _uv("pip", "install", "--quiet", "--python", str(python), *wanted)
        (place / "ready").touch()
    return python


def versions(peer: str, folder: Path) -> str:
    """The packages that matter in a system's environment, with versions."""
    listed = _uv("pip", "freeze", "--quiet", "--python", str(python_of(peer, folder)))
    pins = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    return ", ".join(f"{name} {pins[name]}" for name in _SHOWN if name in pins)


def _uv(*arguments: str) -> str:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run([str(uv), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout
