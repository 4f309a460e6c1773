"""`mathquarry ledger ...`: what was made, from what, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

from data.clock import believed_column
from data.errors import MathQuarryError
from data.files import atomic_path
from data.ledger import Ledger
from data.manifests import MANIFEST
from data.store import INPUTS, Store, verify_files


def list_artifacts(options: argparse.Namespace) -> None:
    """Print the newest artifacts or runs, oldest first."""
    ledger = Ledger(Store(options.store))
    if options.runs:
        columns = "id, recipe, status, started, (select count(*) from run_stages s where s.id = runs.id) as stages"
        for row in _newest(ledger, columns, "runs", "started", options.limit):
            print(f"{row['id']}  {row['recipe']:<10} {row['status']:<10} {row['started']:%Y-%m-%d %H:%M}  {row['stages']} stages")
        rows = "runs"
    else:
        rows = f"artifacts where stage = '{options.stage}'" if options.stage else "artifacts"
        for row in _newest(ledger, "key, stage, created, seconds, bytes", rows, "created", options.limit):
            print(f"{row['key']}  {row['stage']:<10} {row['created']:%Y-%m-%d %H:%M:%S} {row['seconds']:>9.1f} s {row['bytes']:>14,} bytes")
    there = ledger.query(f"select count(*) as rows from {rows}")[0]["rows"]
    if options.limit and there > options.limit:
        print(f"(the newest {options.limit:,} of {there:,}; --limit 0 prints all)")


def _newest(ledger: Ledger, columns: str, rows: str, time: str, limit: int) -> list[dict[str, Any]]:
    """The newest rows, up to `limit` or (0) all, oldest first."""
    return ledger.query(f"select {columns} from {rows} order by {believed_column(time)} desc" + (f" limit {limit}" if limit else ""))[::-1]


def show(options: argparse.Namespace) -> None:
    """Print an artifact's row, summary, config and last metrics."""
    ledger = Ledger(Store(options.store))
    row = ledger.resolve(options.artifact)
    for field in ("key", "stage", "version", "created", "seconds", "bytes", "code_version", "code_revision", "path"):
        print(f"{field:<14} {row[field]}")
    print("summary " + json.dumps(json.loads(row["summary"]), indent=2))
    print("config " + json.dumps(json.loads(row["config"]), indent=2))
    for metric in ledger.query(
        "select name, count(*) points, arg_max(value, step) last from metrics where key = ? group by name order by name", [row["key"]]
    ):
        print(f"metric {metric['name']:<28} {metric['points']:>6} points, last {metric['last']:.6g}")


def lineage(options: argparse.Namespace) -> None:
    """Print what made an artifact as a tree: roles, keys, code version, config, and files from outside the store."""
    ledger = Ledger(Store(options.store))
    key = ledger.resolve(options.artifact)["key"]
    if options.json or options.output or options.direction != "up":
        _graph(ledger, key, options)
        return
    for depth, role, row in ledger.lineage(key):
        pad = "    " * depth
        made = f"{pad}{role + ': ' if role else ''}{row['stage']} {row['key']}"
        if row["repeated"]:
            print(f"{made}  (above)")
            continue
        print(f"{made}  {row['created']:%Y-%m-%d %H:%M:%S}  code {row['code_version']} {row['code_revision']}")
        print(f"{pad}    config {json.dumps(json.loads(row['config']))}")
        for source in row["sources"]:
            print(f"{pad}    file {source['path']}  sha256 {source['sha256'][:16]}  {source['bytes']:,} bytes")
        if row["stage"] == "crawl":
            _print_warcs(row["path"], pad)


def _graph(ledger: Ledger, key: str, options: argparse.Namespace) -> None:
    from data.lineage import draw, graph

    found = graph(ledger, key, options.direction)
    if options.output:
        with atomic_path(Path(options.output).resolve()) as temporary:
            temporary.write_text(draw(found, key), encoding="utf-8")
        print(Path(options.output).resolve())
    elif options.json:
        print(json.dumps(found._asdict(), indent=2, default=str))
    else:
        for row in found.artifacts:
            print(f"{row['key']}  {row['stage']:<10} {row['created']:%Y-%m-%d %H:%M:%S}  code {row['code_version']} {row['code_revision']}")


def sql(options: argparse.Namespace) -> None:
    """Print the rows of a read-only query, as a table or as JSON lines."""
    from data.explore import ask

    answer = ask(Ledger(Store(options.store)), options.query, options.limit or None)
    if options.json:
        for row in answer.rows:
            print(json.dumps(dict(zip(answer.columns, row, strict=True)), default=str, ensure_ascii=False))
        return
    cells = [answer.columns, *([_short(value) for value in row] for row in answer.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if options.limit and len(answer.rows) == options.limit:
        print(f"(the first {options.limit} rows; --limit 0 prints all)")


def _short(value: object) -> str:
    """A value in one line of at most 60 characters."""
    text = " ".join(("" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)).split())
    return text if len(text) <= 60 else text[:59] + "…"


def affected(options: argparse.Namespace) -> None:
    """Print the artifacts that hold a site, page or problem, and those made from them: what must be made again to be rid of it."""
    from data.explore import affected as find

    condition, value = next((name, chosen) for name in ("site", "url", "problem") if (chosen := getattr(options, name)) is not None)
    found = find(Ledger(Store(options.store)), condition, value)
    for stage, key, rows in found:
        print(f"{key}  {stage:<10} {f'holds it in {rows:,} rows' if rows else 'made from one that does'}")
    if not found:
        print(f"no artifact holds {value}.")


def _print_warcs(folder: str, pad: str) -> None:
    from data.files import read_json

    for file in read_json(Path(folder) / "warcs.json")["files"]:
        print(f"{pad}    warc {file['path']}  sha256 {file['sha256'][:16]}  {file['bytes']:,} bytes")


def why(options: argparse.Namespace) -> None:
    """Print what mining did with every capture of a page."""
    from data.mine.why import why as verdicts

    for verdict in verdicts(_corpus(options.store, options.corpus), options.url):
        print(f"{'kept   ' if verdict.kept else 'dropped'}  {verdict.url}\n         {verdict.reason}: {verdict.detail}")
        for line in verdict.history:
            print(f"         {line}")


def domains(options: argparse.Namespace) -> None:
    """Print the domain table of a corpus, or write its paths to an annotation file."""
    from data.mine.annotate import format_domains, read_domains, write_skeleton

    rows = read_domains(_corpus(options.store, options.artifact))
    if options.toml is None:
        print(format_domains(rows, options.limit))
    else:
        added = write_skeleton(rows, Path(options.toml))
        print(f"{added:,} paths added to {options.toml}; set their verdicts, then mine with annotations = {json.dumps(options.toml)}.")


def _corpus(store: str, name: str) -> Path:
    row = Ledger(Store(store)).resolve(name)
    if row["stage"] != "mine":
        raise MathQuarryError(f"{name} is an artifact of stage {row['stage']}; name one of stage mine.")
    return Path(row["path"])


def sync(options: argparse.Namespace) -> None:
    """Rebuild the ledger and print the row counts."""
    counts = Ledger(Store(options.store)).sync()
    print("rebuilt: " + ", ".join(f"{count} {table}" for table, count in counts.items()))


def verify(options: argparse.Namespace) -> None:
    """Check every file of every artifact; raises `MathQuarryError` listing what is damaged."""
    store = Store(options.store)
    damaged, whole = [], 0
    for folder, manifest in store.manifests():
        problems = verify_files(folder, manifest)
        whole += not problems
        damaged += [f"{manifest['stage']}/{manifest['key']}: {problem}" for problem in problems]
    if damaged:
        raise MathQuarryError(
            "damaged artifacts:\n  " + "\n  ".join(damaged) + "\nMake them again with `mathquarry run ... --force STAGE`."
        )
    print(f"{whole} artifacts are whole.")


def collect_garbage(options: argparse.Namespace) -> None:
    """List, and delete after asking, artifacts that no run needs and work folders that nobody uses.

    Kept are artifacts of recorded runs, of what is being made, and younger ones than `--older-than`, each with its inputs of any depth.
    """
    store = Store(options.store)
    found = {folder.name: (folder, manifest) for folder, manifest in store.manifests()}
    before = time.time() - options.older_than * 3600
    used = _needed(store.runs(), options.keep_runs) | store.inputs_in_work()
    used |= {key for key, (folder, _) in found.items() if (folder / MANIFEST).stat().st_mtime > before}
    waiting = list(used)
    while waiting:
        inputs = set(found[key][1]["inputs"].values()) if (key := waiting.pop()) in found else set()
        waiting += inputs - used
        used |= inputs
    unused = sorted((key for key in found if key not in used), key=lambda key: str(found[key][1]["created"]))
    rooms = [
        room for room in sorted(store.root.glob("work/*")) if room.is_dir() and not room.is_symlink() and _left_over(store, room, found)
    ]
    for key in unused:
        folder, manifest = found[key]
        print(f"unused {folder.parent.name}/{key}  {sum(file['bytes'] for file in manifest['files']):,} bytes")
    for room in rooms:
        print(f"left over work/{room.name}  {sum(path.lstat().st_size for path in room.rglob('*') if path.is_file()):,} bytes")
    if not unused and not rooms:
        print("nothing to collect.")
        return
    if not options.delete and not options.yes:
        print("Add --delete to delete these.")
        return
    if not options.yes and not _agreed():
        raise MathQuarryError("nothing was deleted. Answer y, or add --yes to delete without a question.")
    for key in unused:
        with store.unused(key) as free:
            if free:
                store.remove(found[key][0].parent.name, key)
            print(f"{'deleted' if free else 'kept, somebody makes it now:'} {found[key][0].parent.name}/{key}")
    for room in rooms:
        with store.unused(room.name):
            print(f"deleted work/{room.name}")
    Ledger(store).sync()


def _agreed() -> bool:
    try:
        return input("Delete these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _needed(runs: list[dict[str, Any]], keep: int | None) -> set[str]:
    """Keys that runs name: all runs, or the newest `keep` completed ones, those that began after them, and running ones of any age."""
    completed = [run for run in runs if run["status"] == "completed"]
    since = min((run["started"] for run in completed[-keep:]), default="") if keep else ""
    kept = [run for run in runs if run["status"] == "running" or run["started"] >= since]
    return {stage["key"] for run in kept for stage in run["stages"]}


def _left_over(store: Store, room: Path, found: Container[str]) -> bool:
    """Whether nobody needs a work folder: its artifact is published, or it holds nothing of an attempt, and its lock is free."""
    holds = any(path.is_file() and path.name not in ("lock", INPUTS) for path in room.rglob("*"))
    return (room.name in found or not holds) and not store.being_made(room.name)
