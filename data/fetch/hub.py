"""Fetches models from the hub, pushes folders to it, and explains its errors.

huggingface_hub handles the rest: the endpoint (`HF_ENDPOINT`), credentials (`HF_TOKEN` or `hf auth login`), the cache (`HF_HOME`), retries,
resumed downloads, and the check of downloaded files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from mathquarry.data.errors import MathQuarryError

Result = TypeVar("Result")
RepositoryKind = Literal["model", "dataset"]

ATTEMPTS = 5
"""Calls before giving up on a busy hub (our choice)."""
LONGEST_WAIT_SECONDS = 60
"""Longest wait between two calls, even if the hub asks for more (our choice)."""

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?:@[\w][\w./-]*)?", re.ASCII)
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""Files that load without running foreign code: no pickles, no Python."""


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form of a repository, `owner/name` or `owner/name@revision`."""
    return bool(_HUB_NAME.fullmatch(name))


def fetch_model(name: str) -> Path:
    """The folder of the model `owner/name` or `owner/name@revision`, fetched unless it is already local.

    Raises `MathQuarryError` if the hub does not provide it, or if its weights are not safetensors.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        folder = Path(with_retries(lambda: snapshot_download(repository, revision=revision or None, allow_patterns=_MODEL_FILES)))
    except Exception as error:  # the hub client's own, its HTTP library's, and the disk's
        raise hub_error(f"the model {name} cannot be fetched", error) from error
    if not any(folder.glob("*.safetensors")):
        raise MathQuarryError(f"the model {name} has no .safetensors file, and other weights are not read. Convert it, or choose another.")
    return folder


def with_retries(call: Callable[[], Result]) -> Result:
    """The result of `call`, repeated after the requested delay when the hub has had too many requests.

    The client itself waits during transfers, but gives up at once on metadata requests.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except Exception as error:
            response = next((found for one in _chain(error) if (found := getattr(one, "response", None)) is not None), None)
            if response is None or response.status_code != 429:
                raise
            asked = response.headers.get("Retry-After", "")
            time.sleep(min(int(asked) if asked.isdecimal() else 2**attempt, LONGEST_WAIT_SECONDS))
    return call()


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def push_folder(folder: Path, name: str, kind: RepositoryKind, private: bool) -> str:
    """Upload a folder as the repository `owner/name`, creating it if needed. Returns its address.

    Raises `MathQuarryError` for an invalid name, and when the hub refuses.
    """
    from huggingface_hub import HfApi

    if not is_hub_name(name) or "@" in name:
        raise MathQuarryError(f"--push {name}: write OWNER/NAME, with letters, digits, - _ and . only.")
    api = HfApi()
    try:
        url = with_retries(lambda: api.create_repo(name, repo_type=kind, private=private, exist_ok=True))
        with_retries(lambda: api.upload_folder(repo_id=name, folder_path=folder, repo_type=kind, commit_message="Exported by MathQuarry"))
    except Exception as error:
        raise hub_error(f"{folder} is exported and could not be pushed to {name}", error) from error
    return str(url)


def hub_error(what: str, error: BaseException) -> MathQuarryError:
    """Explain an error of the hub's client in one line that starts with `what`."""
    from huggingface_hub import constants, errors

    chain = _chain(error)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    statuses = [response.status_code for one in chain if (response := getattr(one, "response", None)) is not None]
    status = statuses[-1] if statuses else None
    # `datasets` raises its own error without the client's.
    no_set = next((str(one) for one in chain if type(one).__name__ == "DatasetNotFoundError"), "")
    if among(errors.GatedRepoError) or "gated" in no_set:
        reason = "it is gated. Accept its terms on its page, and set HF_TOKEN to a token of that account"
    elif among(errors.RevisionNotFoundError) or no_set.startswith("Revision"):
        reason = "it has no such revision. Check what follows the @"
    elif among(errors.RepositoryNotFoundError) or status == 404 or no_set:
        reason = f"{constants.ENDPOINT} has no such repository, or it is private. Check the name, or set HF_TOKEN"
    elif among(errors.LocalTokenNotFoundError) or status in (401, 403):
        reason = f"{constants.ENDPOINT} does not allow it ({status or 'no token'}). Set HF_TOKEN to a token that may"
    elif status == 429:
        reason = f"{constants.ENDPOINT} has had too many requests. Wait some minutes, or set HF_TOKEN, then run again"
    elif among(errors.OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set, and it is not among what was fetched before. Unset it, or name a local folder"
    elif status is not None:
        reason = f"{constants.ENDPOINT} answers {status}. Try again later"
    elif among(ConnectionError, errors.LocalEntryNotFoundError, errors.HTTPError):
        reason = f"{constants.ENDPOINT} cannot be reached. Check the network and HF_ENDPOINT, or name a local folder"
    else:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return MathQuarryError(f"{what}: {reason.rstrip('.')}.")
