"""Tasks `import` and `import-corpus`: a model or texts from outside, as an artifact with an identity of its own.

Files are known by their content, a model on the hub by the commit that its name means today.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import task

from mathquarry.data.fetch.hub_names import pinned_name
from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.tasks.stage import StageResult, produce

VERSION = 1


@task(name="import")
def import_model(
    store: str,
    path: str,
    holds: Literal["policy", "reward"],
    chat_template: Literal["own", "paper"] | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Artifact: the model in our checkpoint format, in `model/`."""
    local = path.startswith("package:") or Path(path).exists()
    name = path if local else pinned_name(path)

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.policy.imported import import_model as copy

        return copy(name, holds, chat_template, workspace)

    return produce(
        store,
        "import",
        VERSION,
        {"model": "files" if local else name, "holds": holds, "chat_template": chat_template or "its own, if it has one"},
        {},
        work,
        sources=[path] if local else [],
        mode=mode,
    )


@task(name="import-corpus")
def import_corpus(store: str, path: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: the texts as a corpus, in `corpus/`."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.data.texts.imported import import_corpus as copy

        return copy(path, workspace)

    return produce(store, "import", VERSION, {"texts": path if path.startswith("hf://") else "files"}, {}, work, sources=[path], mode=mode)
