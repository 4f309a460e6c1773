"""Stage `crawl`: the WARC files that mining reads, generated or already here."""

from __future__ import annotations

from pathlib import Path

from data.config import CrawlConfig, CrawlFiles
from data.crawl.miniweb import generate_miniweb
from data.errors import MathQuarryError
from data.files import file_digest, write_json
from data.problems.problem import read_problems
from data.sources import identify
from data.workspace import Workspace

WARCS = "warcs.json"
"""The artifact's list of WARC files: {"files": [{"path", "sha256", "bytes"}]}; paths are absolute, URLs, or relative to the artifact."""


def build_crawl(config: CrawlConfig, problems: Path, space: Workspace) -> dict[str, int]:
    """Write warcs.json, and for the mini-web the WARC files and truth.jsonl; returns counts.

    `problems` is a `problems` artifact; the mini-web is written from it. Raises `MathQuarryError` for a file that does not exist or is
    a folder, a glob that matches nothing, an empty list, and a mini-web whose numbers do not fit together.
    """
    summary: dict[str, int] = {}
    if isinstance(config.source, CrawlFiles):
        files = _given_files(config.source, space)
    else:
        train, test = read_problems(problems / "train.jsonl"), read_problems(problems / "test.jsonl")
        paths, summary = generate_miniweb(config.source, train, test, config.seed, space)
        files = [
            {"path": path.relative_to(space.out).as_posix(), "sha256": file_digest(path), "bytes": path.stat().st_size} for path in paths
        ]
    write_json(space.out / WARCS, {"files": files})
    return {"files": len(files), "bytes": sum(file["bytes"] for file in files)} | summary


def _given_files(source: CrawlFiles, space: Workspace) -> list[dict]:
    if not source.warcs:
        raise MathQuarryError("crawl.source.warcs is empty: name at least one WARC file, glob or URL.")
    files: dict[str, dict] = {}
    with space.progress.track("digest WARC files", len(source.warcs), "entry") as bar:
        for name in source.warcs:
            for found in identify(name):
                path = found.path if "://" in found.path else str(Path(found.path).resolve())
                if Path(path).is_dir():
                    raise MathQuarryError(f"crawl.source.warcs: {path} is a folder; name its files, for example {path}/*.warc.gz.")
                files.setdefault(path, {"path": path, "sha256": found.sha256, "bytes": found.bytes})
            bar.advance()
    return list(files.values())
