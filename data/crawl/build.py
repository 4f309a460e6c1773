"""Stage `crawl`: the WARC files that mining reads, generated, already here, or fetched from a Common Crawl snapshot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.config import ClientConfig, CommonCrawl, CrawlConfig, CrawlFiles
from data.crawl.client import client_for
from data.crawl.commoncrawl import choose, download_all, list_url, read_paths
from data.crawl.miniweb import generate_miniweb
from data.errors import MathQuarryError
from data.files import file_digest, write_json
from data.problems.problem import read_problems
from data.sources import Source, identify
from data.workspace import Workspace

WARCS = "warcs.json"
"""The artifact's list of WARC files: {"files": [{"path", "sha256", "bytes"}]}; paths are absolute, URLs, or relative to the artifact.
For a Common Crawl snapshot also {"list": {"url", "sha256", "files"}}, the list of paths it was chosen from; of files that are
not downloaded digest and size are not known ("" and 0)."""


def build_crawl(config: CrawlConfig, problems: Path, space: Workspace) -> dict[str, int]:
    """Write warcs.json, for the mini-web also the WARC files and truth.jsonl, for a snapshot its files; returns counts.

    `problems` is a `problems` artifact; the mini-web is written from it. Raises `MathQuarryError` for a file that does not exist or is
    a folder, a glob that matches nothing, an empty list, a mini-web whose numbers do not fit together, and a file that cannot be fetched.
    """
    summary: dict[str, int] = {}
    listing: dict[str, Any] = {}
    if isinstance(config.source, CrawlFiles):
        files = _given_files(config.source, space)
    elif isinstance(config.source, CommonCrawl):
        listing, files = _snapshot(config.source, config.seed, space)
    else:
        train, test = read_problems(problems / "train.jsonl"), read_problems(problems / "test.jsonl")
        paths, summary = generate_miniweb(config.source, train, test, config.seed, space)
        files = _described(space.out, paths)
    write_json(space.out / WARCS, listing | {"files": files})
    return {"files": len(files), "bytes": sum(file["bytes"] for file in files)} | summary


def outside_sources(config: CrawlConfig) -> list[Source]:
    """What the crawl is made of that lies outside the store: the given files, or the snapshot's list of paths."""
    if isinstance(config.source, CrawlFiles):
        return [found for name in config.source.warcs for found in identify(name)]
    if isinstance(config.source, CommonCrawl):
        return [_list_of(config.source)]
    return []


def identity(config: CrawlConfig) -> CrawlConfig:
    """The config as far as it decides what is fetched: without how politely."""
    if isinstance(config.source, CommonCrawl):
        return config.model_copy(update={"source": config.source.model_copy(update={"client": ClientConfig()})})
    return config


def _list_of(source: CommonCrawl) -> Source:
    found = read_paths(client_for(source.client), list_url(source.base_url, source.crawl, source.files))
    return Source(found.url, found.sha256, found.size)


def _snapshot(source: CommonCrawl, seed: int, space: Workspace) -> tuple[dict[str, Any], list[dict]]:
    client = client_for(source.client)
    paths = read_paths(client, list_url(source.base_url, source.crawl, source.files))
    chosen = choose(paths.paths, source, seed)
    listing = {"list": {"url": paths.url, "sha256": paths.sha256, "files": len(paths.paths)}}
    if source.fetch == "stream":
        return listing, [{"path": f"{source.base_url.rstrip('/')}/{path}", "sha256": "", "bytes": 0} for path in chosen]
    # Downloads stay in the scratch folder too until the artifact is published: a kill before that must not cost them.
    fetched = download_all(client, source.base_url, chosen, space.scratch, round(source.max_file_gib * 2**30), space.progress)
    kept = [space.out / path for path in chosen]
    for path, target in zip(fetched, kept, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return listing, _described(space.out, kept)


def _described(folder: Path, paths: Sequence[Path]) -> list[dict]:
    return [{"path": path.relative_to(folder).as_posix(), "sha256": file_digest(path), "bytes": path.stat().st_size} for path in paths]


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
