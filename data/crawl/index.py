"""Queries a columnar URL index: how many pages a host has, and which pages under accepted paths are not collected yet.

The index is Common Crawl's (https://commoncrawl.org/columnar-index): Parquet files with one row per capture, local or
behind http(s). DuckDB runs the queries within a memory limit and spills to a folder beyond it. Pages are counted by URL:
two captures of one URL are one page. This provides the denominators of the paper's 10 % rule and the new pages of the
next round, without reading a single WARC file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb.func import FunctionNullHandling, PythonUDFType
from duckdb.sqltypes import VARCHAR

from mathquarry.data.crawl.annotations import Verdict
from mathquarry.data.crawl.urls import parse_address
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.remote import BLOCK_BYTES, RangeFileSystem, is_http
from mathquarry.data.files import atomic_path

COLUMNS = (
    "url",
    "url_host_registered_domain",
    "url_host_name",
    "url_path",
    "fetch_status",
    "content_mime_detected",
    "content_digest",
    "warc_filename",
    "warc_record_offset",
    "warc_record_length",
)

HOST_PAGES = """
    select url_host_name as host, any_value(url_host_registered_domain) as domain, count(distinct hash(url)) as pages
    from pages group by url_host_name order by host
"""

# The folders that contain a path, at most two deep: /a/b/c.html is in /, /a/ and /a/b/ (as data/mine/domains/table.py counts them).
PATH_PAGES = """
    with placed as (select url, url_host_name as host, string_split(url_path, '/')[2:-2] as folders from pages),
    prefixed as (
        select url, host,
            unnest(['/'] || [concat('/', array_to_string(folders[1:depth], '/'), '/') for depth in range(1, least(2, len(folders)) + 1)])
            as prefix
        from placed
    )
    select host, prefix, count(distinct hash(url)) as pages from prefixed group by host, prefix order by host, prefix
"""

# Of the prefixes that cover a path, the one with the most letters besides `*` decides; of a page's captures, the first is taken.
UNCOLLECTED = """
    with matched as (
        select pages.*, list_filter(
            verdicts_of_host.verdicts,
            lambda v: url_path = v.stem or starts_with(url_path, v.stem || '/') or coalesce(regexp_full_match(url_path, v.pattern), false)
        )[1].accept as accepted
        from pages join verdicts_of_host on pages.url_host_name = verdicts_of_host.host
    ),
    named as (select *, canonical(url) as canonical_url from matched where accepted),
    new as (select * from named anti join known using (canonical_url) where canonical_url is not null)
    select canonical_url, {columns} from new
    qualify row_number() over (partition by canonical_url order by warc_filename, warc_record_offset) = 1
    order by warc_filename, warc_record_offset
"""

_PAGES = """
    create view pages as select {columns} from read_parquet($files, hive_partitioning = false, union_by_name = true)
    where fetch_status = 200 and content_mime_detected in ('text/html', 'application/xhtml+xml')
"""


class Index:
    """An open index, created by `open_index`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def host_pages(self, target: Path) -> int:
        """Write host, domain, pages (the host's HTML pages in the crawl) to Parquet; returns the number of hosts."""
        return self._write(HOST_PAGES, target)

    def path_pages(self, target: Path) -> int:
        """Write host, prefix, pages for the folders of all hosts, at most two deep, to Parquet; returns the number of folders."""
        return self._write(PATH_PAGES, target)

    def uncollected(self, verdicts: Sequence[Verdict], known: Sequence[str], target: Path, limit: int | None = None) -> int:
        """Write the index rows of pages under accepted paths that are not in `known` to Parquet, with their canonical URL.

        `known` are Parquet files or globs with a column `canonical_url` or `url`: corpora, and pages that mining dropped. Rows are in the
        order of the WARC files. Returns their number, at most `limit`. Raises `MathQuarryError` naming a file that cannot be read.
        """
        rows = [(v.host, v.stem, v.pattern, v.letters, v.verdict == "accept") for v in verdicts if v.verdict != "undecided"]
        if not any(row[-1] for row in rows):
            raise MathQuarryError("the annotations accept no path, so there is nothing to fetch. Add a [[path]] with verdict = 'accept'.")
        self._connection.execute(
            "create or replace temp table verdicts (host varchar, stem varchar, pattern varchar, letters integer, accept boolean)"
        )
        self._connection.executemany("insert into verdicts values (?, ?, ?, ?, ?)", rows)
        self._connection.execute(
            "create or replace temp table verdicts_of_host as select host, "
            "list({'stem': stem, 'pattern': pattern, 'accept': accept} order by letters desc, stem desc) as verdicts "
            "from verdicts group by host"
        )
        self._connection.execute("create or replace temp table known (canonical_url varchar)")
        for name in known:
            self._add_known(name)
        query = UNCOLLECTED.format(columns=", ".join(COLUMNS))
        return self._write(query + (f" limit {limit}" if limit is not None else ""), target)

    def _add_known(self, name: str) -> None:
        try:
            columns = {row[0] for row in self._connection.execute("describe select * from read_parquet(?)", [name]).fetchall()}
            if "canonical_url" not in columns and "url" not in columns:
                raise MathQuarryError(f"{name} has neither a column canonical_url nor url.")
            value = "canonical_url" if "canonical_url" in columns else "canonical(url)"
            # Only hosts with a verdict matter, and a canonical URL starts with its host.
            self._connection.execute(
                f"insert into known select distinct address from (select {value} as address from read_parquet(?)) "
                "where split_part(split_part(split_part(address, '/', 1), '?', 1), ':', 1) in (select host from verdicts_of_host)",
                [name],
            )
        except duckdb.Error as error:
            raise MathQuarryError(f"{name} cannot be read: {error}") from error

    def _write(self, query: str, target: Path) -> int:
        try:
            with atomic_path(target) as temporary:
                self._connection.execute(f"copy ({query}) to '{_quoted(temporary)}' (format parquet, compression zstd)")
        except duckdb.Error as error:
            raise MathQuarryError(f"the index cannot be read: {error}") from error
        return pq.ParquetFile(target).metadata.num_rows


@contextmanager
def open_index(files: Sequence[str], client: PoliteClient, scratch: Path, memory_gib: float = 4.0) -> Iterator[Index]:
    """Open index files: paths, globs, or http(s) URLs, which are read in parts.

    DuckDB uses at most `memory_gib` and spills to `scratch`. Raises `MathQuarryError` when a file cannot be read or lacks a column.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_gib * 1024:.0f}MiB",
        "temp_directory": str(scratch),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as connection:
        if any(is_http(name) for name in files):
            connection.register_filesystem(RangeFileSystem(client, BLOCK_BYTES))
        connection.create_function(
            "canonical", _canonical, [VARCHAR], VARCHAR, type=PythonUDFType.ARROW, null_handling=FunctionNullHandling.SPECIAL
        )
        listed = ", ".join(f"'{_quoted(name)}'" for name in files)
        try:
            connection.execute(_PAGES.replace("$files", f"[{listed}]").format(columns=", ".join(COLUMNS)))
        except duckdb.Error as error:
            raise MathQuarryError(f"the index {', '.join(files)[:500]} cannot be read: {error}") from error
        yield Index(connection)


def _canonical(urls: pa.ChunkedArray) -> pa.Array:
    addresses = [parse_address(url) if url else None for url in urls.to_pylist()]
    return pa.array([address.canonical if address else None for address in addresses], pa.string())


def _quoted(name: object) -> str:
    return str(name).replace("'", "''")
