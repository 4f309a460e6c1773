import json
from pathlib import Path

import pytest

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, CrawlFiles
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import file_digest
from mathquarry.data.store.workspace import Workspace


def files(tmp_path: Path, *warcs: str) -> list[dict]:
    workspace = Workspace.at(tmp_path / "crawl")
    summary = build_crawl(CrawlConfig(source=CrawlFiles(warcs=list(warcs))), tmp_path / "no-problems", workspace)
    found = json.loads((workspace.out / "warcs.json").read_text())["files"]
    assert summary == {"files": len(found), "bytes": sum(file["bytes"] for file in found)}
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.warc.gz", "a.warc.gz", "c.txt"):
        (tmp_path / name).write_text(name * 3)
    return tmp_path


def test_paths_and_globs_are_listed_once_in_order_with_digest_and_size(folder: Path) -> None:
    found = files(folder, f"{folder}/b.warc.gz", f"{folder}/*.warc.gz")
    assert [Path(file["path"]) for file in found] == [folder / "b.warc.gz", folder / "a.warc.gz"]
    assert found[0] == {"path": str(folder / "b.warc.gz"), "sha256": file_digest(folder / "b.warc.gz"), "bytes": 27}


def test_relative_paths_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [file["path"] for file in files(folder, "a.warc.gz")] == [str(folder / "a.warc.gz")]


def test_urls_stay_urls(folder: Path) -> None:
    (found,) = files(folder, (folder / "a.warc.gz").as_uri())
    assert found["path"] == (folder / "a.warc.gz").as_uri()
    assert found["sha256"] == file_digest(folder / "a.warc.gz")


@pytest.mark.parametrize("warcs", [["absent.warc.gz"], ["a.warc.gz", "nothing-*.warc.gz"]])
def test_what_is_missing_is_named(folder: Path, warcs: list[str]) -> None:
    with pytest.raises(MathQuarryError, match="absent.warc.gz|nothing-"):
        files(folder, *(f"{folder}/{name}" for name in warcs))
    assert not (folder / "crawl" / "out" / "warcs.json").exists()


def test_a_folder_is_named(folder: Path) -> None:
    with pytest.raises(MathQuarryError, match="is a folder"):
        files(folder, str(folder))


def test_an_empty_list_is_named(folder: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"crawl\.source\.warcs is empty"):
        files(folder)
