"""What is being made in a store now."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mathquarry.data.store.locks import exclusive
from mathquarry.data.store.making import Making, being_made
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.workspace import Workspace


def test_only_what_is_being_made_is_listed_and_damaged_records_hide_no_other(tmp_path: Path) -> None:
    identity = Identity("sft", 1, {"steps": 5}, {"corpus": "c0"})
    damaged = {"0-half": '{"stage": "mine"', "0-list": "[]", "0-folder": None}
    for name, content in (damaged | {"0-left": '{"stage": "mine", "config": {}, "inputs": {}, "begun": 1.0}'}).items():
        file = tmp_path / "work" / name / "making.json"
        file.parent.mkdir(parents=True)
        if content is None:
            file.mkdir()
        else:
            file.write_text(content)
    before = time.time()

    def look(workspace: Workspace) -> dict[str, Any]:
        with ExitStack() as locks:
            for name in damaged:
                locks.enter_context(exclusive(tmp_path / "work" / name))
            (found,) = being_made(tmp_path)
        assert before <= found.begun <= time.time()
        assert found == Making("sft", identity.key, {"steps": 5}, {"corpus": "c0"}, found.begun, workspace.scratch)
        return {}

    Store(tmp_path).build(identity, look)
    assert list(being_made(tmp_path)) == []
