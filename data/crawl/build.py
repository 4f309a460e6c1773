"""Stage `crawl`: the WARC files that mining reads: generated, local, or fetched from a Common Crawl snapshot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.crawl.annotations import Annotations
from mathquarry.data.crawl.commoncrawl import PathList, choose, download_all, list_url, read_paths
from mathquarry.data.crawl.config import CommonCrawl, CommonCrawlRecords, CrawlConfig, CrawlFiles
from mathquarry.data.crawl.index import open_index
from mathquarry.data.crawl.miniweb import generate_miniweb
from mathquarry.data.crawl.records import fetch_records, refusals
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import client_for
from mathquarry.data.files import file_digest, write_json, write_json_lines
from mathquarry.data.problems.problem import read_problems
from mathquarry.data.store.sources import Source, identify
from mathquarry.data.store.workspace import Workspace

WARCS = "warcs.json"
"""The artifact's list of WARC files: {"files": [{"path", "sha256", "bytes"}]}; paths are absolute, URLs, or relative to the artifact.
For a Common Crawl snapshot it also has {"list": {"url", "sha256", "files"}}, the list of paths they were chosen from. Files
that are not downloaded have a "name", their path in that list, and no known digest and size ("" and 0)."""


def build_crawl(config: CrawlConfig, problems: Path, workspace: Workspace) -> dict[str, int]:
    """Write warcs.json; for the mini-web also the WARC files and truth.jsonl, for a snapshot its files. Returns counts.

    For single records, also write wanted.parquet, their rows of the index, and refused.jsonl: {"url", "reason", "detail"}.

    `problems` is a `problems` artifact, which the mini-web is generated from. Raises `MathQuarryError` for a missing file, a folder, a
    glob that matches nothing, an empty list, inconsistent mini-web settings, and a file that cannot be fetched.
    """
    summary: dict[str, int] = {}
    listing: dict[str, Any] = {}
    if isinstance(config.source, CrawlFiles):
        files = _given_files(config.source, workspace)
    elif isinstance(config.source, CommonCrawl):
        listing, files = _snapshot(config.source, config.seed, workspace)
    elif isinstance(config.source, CommonCrawlRecords):
        listing, files, summary = _records(config.source, workspace)
    else:
        train, test = read_problems(problems / "train.jsonl"), read_problems(problems / "test.jsonl")
        paths, summary = generate_miniweb(config.source, train, test, config.seed, workspace)
        files = _described(workspace.out, paths)
    write_json(workspace.out / WARCS, listing | {"files": files})
    return {"files": len(files), "bytes": sum(file["bytes"] for file in files)} | summary


def outside_sources(config: CrawlConfig) -> list[Source]:
    """The crawl's inputs from outside the store: the given files, or the snapshot's list of paths."""
    if isinstance(config.source, CrawlFiles):
        return [found for name in config.source.warcs for found in identify(name)]
    if isinstance(config.source, CommonCrawl):
        return [_list_of(config.source)]
    if isinstance(config.source, CommonCrawlRecords):
        given = [*config.source.index, config.source.annotations, *config.source.known]
        return [found for name in given for found in identify(name)] + ([] if config.source.index else [_list_of(config.source)])
    return []


def _paths(source: CommonCrawl | CommonCrawlRecords) -> PathList:
    kind = source.files if isinstance(source, CommonCrawl) else "cc-index-table"
    return read_paths(client_for(source.client), list_url(source.base_url, source.crawl, kind))


def _list_of(source: CommonCrawl | CommonCrawlRecords) -> Source:
    found = _paths(source)
    return Source(found.url, found.sha256, found.size)


def _records(source: CommonCrawlRecords, workspace: Workspace) -> tuple[dict[str, Any], list[dict], dict[str, int]]:
    client = client_for(source.client)
    wanted = workspace.scratch / "wanted.parquet"
    listing: dict[str, Any] = {}
    index = source.index
    if not index:
        paths = _paths(source)
        # The other subsets are robots.txt files and failed requests.
        index = [f"{source.base_url.rstrip('/')}/{path}" for path in paths.paths if "/subset=warc/" in path]
        listing = {"list": {"url": paths.url, "sha256": paths.sha256, "files": len(paths.paths)}}
    verdicts = Annotations.read(Path(source.annotations)).verdicts
    if not wanted.exists():
        with open_index(index, client, workspace.scratch / "spill", source.memory_gib) as opened:
            opened.uncollected(verdicts, source.known, wanted, source.limit)
    if not pq.ParquetFile(wanted).metadata.num_rows:
        raise MathQuarryError(f"the index has no new page under the paths that {source.annotations} accepts; all are already known.")
    parts, refused = fetch_records(client, source.base_url, wanted, workspace.scratch / "records", workspace.progress)
    kept = _keep(parts, [workspace.out / "records" / part.name for part in parts])
    shutil.copyfile(wanted, workspace.out / "wanted.parquet")
    write_json_lines(workspace.out / "refused.jsonl", refusals(parts))
    summary = {"wanted": pq.ParquetFile(wanted).metadata.num_rows, "refused": refused.total()}
    return listing, _described(workspace.out, kept), summary | {f"refused_{k.replace('-', '_')}": v for k, v in sorted(refused.items())}


def _snapshot(source: CommonCrawl, seed: int, workspace: Workspace) -> tuple[dict[str, Any], list[dict]]:
    client = client_for(source.client)
    paths = _paths(source)
    chosen = choose(paths.paths, source, seed)
    listing = {"list": {"url": paths.url, "sha256": paths.sha256, "files": len(paths.paths)}}
    if source.fetch == "stream":
        return listing, [{"name": path, "path": f"{source.base_url.rstrip('/')}/{path}", "sha256": "", "bytes": 0} for path in chosen]
    fetched = download_all(client, source.base_url, chosen, workspace.scratch, round(source.max_file_gib * 2**30), workspace.progress)
    return listing, _described(workspace.out, _keep(fetched, [workspace.out / path for path in chosen]))


def _keep(fetched: Sequence[Path], targets: Sequence[Path]) -> Sequence[Path]:
    """Add the files to the artifact. They stay in the scratch folder until it is published, so that a kill does not lose them."""
    for path, target in zip(fetched, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return targets


def _described(folder: Path, paths: Sequence[Path]) -> list[dict]:
    return [{"path": path.relative_to(folder).as_posix(), "sha256": file_digest(path), "bytes": path.stat().st_size} for path in paths]


def _given_files(source: CrawlFiles, workspace: Workspace) -> list[dict]:
    if not source.warcs:
        raise MathQuarryError("crawl.source.warcs is empty: name at least one WARC file, glob or URL.")
    files: dict[str, dict] = {}
    with workspace.progress.track("digest WARC files", len(source.warcs), "entry") as bar:
        for name in source.warcs:
            for found in identify(name):
                path = found.path if "://" in found.path else str(Path(found.path).resolve())
                if Path(path).is_dir():
                    raise MathQuarryError(f"crawl.source.warcs: {path} is a folder; name its files, for example {path}/*.warc.gz.")
                files.setdefault(path, {"path": path, "sha256": found.sha256, "bytes": found.bytes})
            bar.advance()
    return list(files.values())
