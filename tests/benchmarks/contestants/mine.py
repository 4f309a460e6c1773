"""Run mining once in this process: `mine.py crawl problems out`. Reads config.json beside the crawl."""

from __future__ import annotations

import sys
from pathlib import Path

from clock import measured

from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace


def main(crawl: str, problems: str, out: str) -> None:
    """Mine, and count the written pages."""
    config = MineConfig.model_validate_json((Path(crawl).parent / "config.json").read_text())
    workspace = Workspace.at(Path(out))
    result: dict = {}
    with measured(result):
        summary = mine(config, Path(crawl), Path(problems), workspace)
        result["collected"] = summary["pages"]
        result["items"] = summary["pages"] + sum(value for name, value in summary.items() if name.startswith("dropped_"))
        result["scratch_bytes"] = _size(Path(out))
        result["captures_bytes"] = _size(workspace.scratch / "captures")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main(*sys.argv[1:])
