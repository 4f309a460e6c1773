"""Looks up names on the Hugging Face hub: the current commit, whether it exists, and a model's config.

`HF_ENDPOINT` selects another hub, `HF_TOKEN` gives access to gated sets, `HF_HUB_OFFLINE` disables the network. Files that were downloaded
before are in the hub's cache on disk, and are found there without a network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from mathquarry.data.errors import MathQuarryError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SECONDS = 10.0
"""Time limit of a request to the hub."""


class HubAway(Exception):
    """The hub is unreachable, so a name cannot be checked."""


def split_name(name: str) -> tuple[str, str]:
    """Split `owner/name@revision` into repository and revision (default `main`). Raises `MathQuarryError` if it is not a hub name."""
    repository, _, revision = name.partition("@")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise MathQuarryError(f"{name} is neither a file or folder here nor a name on the hub, which is written owner/name.")
    return repository, revision or "main"


def pinned_name(name: str) -> str:
    """Return `owner/name@commit` for a model's hub name: the current commit of its branch or tag, or that of the cached copy.

    Raises `MathQuarryError` if the hub has no such model or revision, or requires an access token, or if there is neither hub nor copy.
    """
    repository, revision = split_name(name)
    if _COMMIT.fullmatch(revision):
        return f"{repository}@{revision}"
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=SECONDS).sha
    except Exception as error:  # errors of the hub client, the HTTP library or the system
        if fault := _fault(name, error):
            raise MathQuarryError(fault) from None
        commit = _cached_commit(repository, revision)
        if commit is None:
            raise MathQuarryError(
                f"{name} is not a local folder, and the hub is unreachable: {_first_line(error)} Give a folder, or connect to a network."
            ) from None
    return f"{repository}@{commit}"


def fault_of(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Return the problem with a hub name (missing, or not public); `None` if it is fine. Raises `HubAway`."""
    try:
        repository, revision = split_name(name)
    except MathQuarryError as error:
        return str(error)
    from huggingface_hub import HfApi

    try:
        # A lookup of the name does not check access to a gated repository; this does.
        HfApi().auth_check(repository, repo_type=kind)
        HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=SECONDS)
    except Exception as error:
        if fault := _fault(name, error):
            return fault
        raise HubAway(_first_line(error)) from None
    return None


def model_config(name: str) -> dict[str, Any] | None:
    """Return the `config.json` of a model's folder or hub name; `None` if there is none, or if the hub is unreachable."""
    path = Path(name) / "config.json"
    if not path.is_file():
        if Path(name).exists():
            return None
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

        try:
            repository, revision = split_name(name)
            cached = try_to_load_from_cache(repository, "config.json", revision=revision)
            if not isinstance(cached, str):
                # Tries once. The download would retry if the hub is unreachable.
                get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision), timeout=SECONDS)
                cached = hf_hub_download(repository, "config.json", revision=revision)
            path = Path(cached)
        except Exception:
            return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fault(name: str, error: Exception) -> str | None:
    """Convert an error of the hub client to a message that a user can act on."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on the hub, and set HF_TOKEN to a token of that account."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: the hub has no such revision. Use a branch, a tag or a commit."
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return f"{name} is neither a file or folder here nor on the hub; for a private one, set HF_TOKEN."
    return None


def _cached_commit(repository: str, revision: str) -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    path = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "refs" / revision
    try:
        commit = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith(".") else f"{line}."
