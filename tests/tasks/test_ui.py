"""The Prefect UI artifacts of a stage."""

import json
from pathlib import Path

from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.tasks.ui import _summary


def made(store: Store, warnings: list[str] | None) -> Artifact:
    def work(workspace: Workspace) -> dict[str, int]:
        if warnings is not None:
            (workspace.out / "warnings.json").write_text(json.dumps(warnings))
        return {}

    return store.build(Identity("mine", 1, {"warnings": warnings}, {}), work)


def test_warnings_stand_before_everything_else_with_their_markup_taken_away(tmp_path: Path) -> None:
    text = _summary(made(Store(tmp_path), ["the threshold splits a group of equal scores", "see <b>[this](http://x)</b>"]))
    head, _, first, second, *_ = text.splitlines()
    assert head.startswith("## mine/")
    assert first == "- **Warning:** the threshold splits a group of equal scores"
    assert second == r"- **Warning:** see \<b\>\[this\](http://x)\</b\>"


def test_without_warnings_nothing_is_said_of_them(tmp_path: Path) -> None:
    texts = [_summary(made(Store(tmp_path), warnings)) for warnings in (None, [])]
    assert all("Warning" not in text for text in texts)
    assert texts[0].splitlines()[2].startswith("Made;")
