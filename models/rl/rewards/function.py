"""A reward computed by the user's own Python function: finds it, identifies it by its source, calls it, and checks its values.

It runs in the stage's process with the permissions of the user who started the run, without a sandbox. So that a recipe cannot call just
any function, modules of the standard library are refused, and so are functions without a parameter `completions` or `completion_ids`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import file_digest
from mathquarry.data.store.sources import Source
from mathquarry.models.rl.rewards.completions import NAMES
from mathquarry.models.rl.rewards.config import FunctionReward

COMPLETION_NAMES = ("completions", "completion_ids")
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_imported: dict[str, str] = {}
"""Digest of each module's source at the time when this process imported it."""


def function_source(name: str) -> Source:
    """Return the source of function `package.module:function`, for an artifact's identity. Nothing is imported.

    This is the module's file, or all Python files of its top-level package. Raises `MathQuarryError` if there is no such module.
    """
    module, label = name.partition(":")[0], f"grpo.rewards, function {name}"
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise MathQuarryError(f"{label}: `{top}` is a module of Python's standard library. Use a module of your own.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that files here never shadow installed modules; an installed command does not search here
    importlib.invalidate_caches()
    root, path = None, None
    for end in range(1, len(parts := module.split(".")) + 1):
        within = ".".join(parts[:end])
        spec = _find(within, path)
        if spec is None:
            raise MathQuarryError(
                f"{label}: there is no module `{within}` on Python's path or in {os.getcwd()}. Start the run in the folder that contains "
                f"`{top}`, add that folder to PYTHONPATH, or install the package."
            )
        root = root or (spec if spec.origin else None)
        path = spec.submodule_search_locations
        if path is None and end < len(parts):
            raise MathQuarryError(f"{label}: `{within}` is a module, not a package, so it has no `{parts[end]}`.")
    if root is None or root.origin is None:
        raise MathQuarryError(f"{label}: `{module}` is a folder without code. Use the module, `{module}.FILE:{name.partition(':')[2]}`.")
    folders = [Path(folder) for folder in root.submodule_search_locations or []]
    files = [(str(file.relative_to(folder)), file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    files = files or [(Path(root.origin).name, Path(root.origin))]
    digest = hashlib.sha256(f"{name}\n".encode())
    for relative, file in files:
        digest.update(os.fsencode(relative) + f":{file_digest(file)}\n".encode())
    return Source(f"function:{name}", digest.hexdigest(), sum(file.stat().st_size for _, file in files))


class RewardFunction:
    """A reward function that was found and checked, and can be called."""

    def __init__(self, config: FunctionReward) -> None:
        """Import the function. Raises `MathQuarryError` if that fails, or if the function has parameters without a value."""
        self._label = f"grpo.rewards, function {config.function}"
        self._config = config
        self._function = self._load()
        self._accepted = self._check()

    def __call__(self, keywords: dict[str, Any]) -> Any:
        """Call the function with those of `keywords` (see `Completions.keywords`) that it takes, and return its result.

        Raises `MathQuarryError` with the function and the line if it raises anything, or if it takes too long.
        """
        given = {name: value for name, value in keywords.items() if self._accepted is None or name in self._accepted}
        given |= self._config.arguments
        if self._config.timeout_seconds is None:
            return self._call(given)
        box: list[Any] = []

        def work() -> None:
            try:
                box.extend((self._call(given), None))
            except MathQuarryError as error:
                box.extend((None, error))

        # A daemon thread: threads cannot be stopped, and the process must be able to exit without waiting for it.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._config.timeout_seconds)
        if not box:
            raise MathQuarryError(
                f"{self._label} has not returned after {self._config.timeout_seconds:g} s. Make it faster, or raise its timeout_seconds."
            )
        value, error = box
        if error is not None:
            raise error
        return value

    def _call(self, keywords: dict[str, Any]) -> Any:
        try:
            return self._function(**keywords)
        except (Exception, SystemExit) as error:
            raise MathQuarryError(f"{self._label} failed: {_said(error)}{_line_of(error)}.") from error

    def _load(self) -> Callable[..., Any]:
        module, _, attribute = self._config.function.partition(":")
        digest = function_source(self._config.function).sha256
        if _imported.get(self._config.function, digest) != digest:
            raise MathQuarryError(f"{self._label} changed since this process imported it. Restart Python.")
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except (Exception, SystemExit) as error:
            raise MathQuarryError(f"{self._label}: `{module}` cannot be imported: {_said(error)}{_line_of(error)}.") from error
        _imported[self._config.function] = digest
        if not callable(found) or inspect.isclass(found):
            what = f"has no `{attribute}`" if found is None else f"has `{attribute}`, which is not a function"
            raise MathQuarryError(f"{self._label}: `{module}` {what}. Check the name.")
        if inspect.iscoroutinefunction(found):
            raise MathQuarryError(f"{self._label} is `async`. Write it as a plain function.")
        return found

    def _check(self) -> frozenset[str] | None:
        """Return the names of the arguments that the function takes; `None` for all (`**kwargs`)."""
        try:
            parameters = inspect.signature(self._function).parameters
        except (TypeError, ValueError):
            raise MathQuarryError(f"{self._label} does not declare its arguments. Write it in Python.") from None
        named = frozenset(name for name, parameter in parameters.items() if parameter.kind in NAMED)
        everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if not named & {*COMPLETION_NAMES}:
            raise MathQuarryError(f"{self._label} is not a reward function: it has no parameter `completions` or `completion_ids`.")
        known = NAMES | self._config.arguments.keys()
        missing = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty
            and (parameter.kind == parameter.POSITIONAL_ONLY or (name in named and name not in known))
        ]
        if missing:
            raise MathQuarryError(
                f"{self._label} has an unknown parameter `{missing[0]}`. Known are {', '.join(sorted(known))}; set others in `arguments`."
            )
        unwanted = [name for name in self._config.arguments if name in NAMES or not (everything or name in named)]
        if unwanted:
            raise MathQuarryError(
                f"{self._label}: `arguments` has `{unwanted[0]}`, which the function does not take, or which every call sets. Remove it."
            )
        return None if everything else named


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Return where a module would be imported from, for a package at `path`. Unlike `importlib.util.find_spec`, imports no package."""
    if path is None:
        found = (finder.find_spec(name, None) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)
    folders: list[str] = []
    for finder in map(pkgutil.get_importer, path):
        spec = finder.find_spec(name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        folders += spec.submodule_search_locations or [] if spec is not None else []
    if not folders:
        return None
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _line_of(error: BaseException) -> str:
    """Return the location of the innermost frame outside this file, if any."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        if (file := trace.tb_frame.f_code.co_filename) != __file__ and not file.startswith("<"):
            places.append(f" ({file}, line {trace.tb_lineno})")
        trace = trace.tb_next
    return places[-1] if places else ""
