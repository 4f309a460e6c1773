"""Common Crawl snapshots: lists the files of one, and fetches a selection of them.

A snapshot lists its files in `crawl-data/<ID>/warc.paths.gz` (and `wet.paths.gz`), one path per line, relative to the base
URL (https://commoncrawl.org/get-started). Files keep these paths here, so (file, offset) names a record as Common Crawl does.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from mathquarry.data.crawl.config import CommonCrawl
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.download import download
from mathquarry.data.store.workspace import Progress

_LARGEST_LIST = 64 << 20
_LARGEST_UNPACKED = 512 << 20
_PATH = re.compile(r"(?!.*(?:^|/)\.)[\w.+=-]+(?:/[\w.+=-]+)*", re.ASCII)


@dataclass(frozen=True)
class PathList:
    """The paths of a snapshot's files, and the list they were read from."""

    url: str
    sha256: str
    """Digest of the list as received."""
    size: int
    """Size in bytes of the list as received."""
    paths: list[str]


def list_url(base_url: str, crawl: str, kind: str) -> str:
    """Address of a snapshot's list of paths; `kind` is warc, wet, or cc-index-table."""
    return f"{base_url.rstrip('/')}/crawl-data/{crawl}/{kind}.paths.gz"


def read_paths(client: PoliteClient, url: str) -> PathList:
    """Fetch a list of paths. Raises `MathQuarryError` naming the URL when it is damaged, empty, or contains anything but relative paths."""
    packed = client.read(url, _LARGEST_LIST)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(_LARGEST_UNPACKED + 1)
        lines = content.decode("ascii").split("\n")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise MathQuarryError(f"{url} is damaged: {error}. Check the base URL, or run again.") from None
    if len(content) > _LARGEST_UNPACKED:
        raise MathQuarryError(f"{url} unpacks to more than {_LARGEST_UNPACKED >> 20} MiB, too much for a list of paths.")
    paths = [line.removesuffix("\r") for line in lines if line.strip()]
    for number, path in enumerate(paths, 1):
        if not is_relative_path(path):
            raise MathQuarryError(f"{url}, line {number}: {path[:200]!r} is not a relative path.")
    if not paths:
        raise MathQuarryError(f"{url} lists no files.")
    if len(set(paths)) < len(paths):
        raise MathQuarryError(f"{url} lists a file twice.")
    return PathList(url, hashlib.sha256(packed).hexdigest(), len(packed), paths)


def is_relative_path(path: str) -> bool:
    """Whether a path can be appended to a base URL or a folder: plain segments, none hidden or `..`."""
    return _PATH.fullmatch(path) is not None


def choose(paths: Sequence[str], source: CommonCrawl, seed: int) -> list[str]:
    """The slice of the list that `source` names, or a sample of it, in the list's order. Raises `MathQuarryError` if it is empty."""
    chosen = list(paths[source.begin : source.end])
    if not chosen:
        raise MathQuarryError(f"crawl.source: begin = {source.begin}, end = {source.end} is an empty slice of {len(paths):,} files.")
    if source.sample is None:
        return chosen
    if source.sample > len(chosen):
        raise MathQuarryError(f"crawl.source.sample = {source.sample}, but there are {len(chosen):,} files to draw from.")
    return [chosen[place] for place in sorted(random.Random(seed).sample(range(len(chosen)), source.sample))]


def download_all(client: PoliteClient, base_url: str, paths: Sequence[str], folder: Path, limit: int, progress: Progress) -> list[Path]:
    """Download `paths` below `folder`, several at a time, and keep existing files. Returns the files in the order of `paths`.

    Raises `RemoteError` naming the URL that could not be fetched; finished and partial files stay for the next call.
    """
    targets = [folder / path for path in paths]
    missing = [(path, target) for path, target in zip(paths, targets, strict=True) if not target.exists()]
    with (
        progress.track("download", len(paths), "file", done=len(paths) - len(missing)) as bar,
        ThreadPoolExecutor(client.config.connections) as threads,
    ):
        futures = [threads.submit(download, client, f"{base_url.rstrip('/')}/{path}", target, limit) for path, target in missing]
        try:
            for future in as_completed(futures):
                future.result()
                bar.advance()
        finally:
            for future in futures:
                future.cancel()
    return targets
