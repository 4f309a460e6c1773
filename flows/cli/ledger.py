"""`mathquarry ledger ...`: lists, traces and verifies artifacts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.ledger.collection import Collection, size_of
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.clock import believed_column
from mathquarry.data.store.published import Damaged
from mathquarry.data.store.store import Store


def list_artifacts(options: argparse.Namespace) -> None:
    """Print the latest artifacts or runs, oldest first."""
    ledger = Ledger(Store(options.store))
    if ledger.store.ledger_path.exists():
        try:
            ledger.catch_up()  # a run that failed or is running has a file, but no rows yet
        except (MathQuarryError, OSError) as error:
            print(f"the list may be incomplete: {error}", file=sys.stderr)
    if options.runs:
        head = f"{'run':<22}  {'recipe':<10} {'status':<10} {'started (UTC)':<16}  stages"
        columns, rows, moment = "id, recipe, status, started", "runs", "started"
        names = _names(ledger, "id", "name")
    else:
        head = f"{'key':<20}  {'stage':<10} {'name':<12} {'made (UTC)':<19} {'seconds':>9} {'bytes':>16}"
        columns, rows, moment = "key, stage, created, seconds, bytes", "artifacts", "created"
        names = _names(ledger, "key", "name")
    where, parameters = ("where stage = ?", [options.stage]) if options.stage and not options.runs else ("", [])
    newest = f"select {columns} from {rows} {where} order by {believed_column(moment)} desc" + (
        f" limit {options.limit}" if options.limit else ""
    )
    print(head)
    for row in ledger.query(newest, parameters)[::-1]:
        if options.runs:
            stages = names.get(row["id"], [])
            print(f"{row['id']:<22}  {row['recipe']:<10} {row['status']:<10} {row['started']:%Y-%m-%d %H:%M}  {' '.join(stages)}".rstrip())
        else:
            name = " ".join(names.get(row["key"], [])[-1:])
            made = f"{row['created']:%Y-%m-%d %H:%M:%S}"
            print(f"{row['key']}  {row['stage']:<10} {name:<12} {made} {row['seconds']:>9.1f} {row['bytes']:>16,}")
    there = ledger.query(f"select count(*) as rows from {rows} {where}", parameters)[0]["rows"]
    if options.limit and there > options.limit:
        print(f"(the latest {options.limit:,} of {there:,}; --limit 0 prints all)")


def _names(ledger: Ledger, owner: str, column: str) -> dict[str, list[str]]:
    """Return names of stages in runs (`grpo-2`) by run or by key, in the order of the run; those of the latest run come last."""
    names: dict[str, list[str]] = {}
    order = f"{believed_column('r.started')}, s.position"
    for row in ledger.query(f"select s.{owner} as owner, s.{column} as name from run_stages s join runs r using (id) order by {order}"):
        names.setdefault(row["owner"], []).append(row["name"])
    return names


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
    """Print an artifact's inputs as a tree: roles, keys, code version, config, and files from outside the store."""
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
    from mathquarry.data.ledger.lineage import draw, graph

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
    from mathquarry.data.ledger.sql import ask

    answer = ask(Ledger(Store(options.store)), options.query, options.limit or None)
    if options.json:
        for row in answer.rows:
            print(json.dumps(dict(zip(answer.columns, row, strict=True)), default=str, ensure_ascii=False))
        return
    # At a terminal each row is shortened to a line. A pipe gets all of it.
    whole = not sys.stdout.isatty()
    cells = [answer.columns, *([_in_a_line(value, whole) for value in row] for row in answer.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if options.limit and len(answer.rows) == options.limit:
        print(f"(the first {options.limit} rows; --limit 0 prints all)")


def _in_a_line(value: object, whole: bool) -> str:
    """Format a value as one line, of at most 60 characters unless `whole`."""
    text = " ".join(("" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)).split())
    return text if whole or len(text) <= 60 else text[:59] + "…"


def affected(options: argparse.Namespace) -> None:
    """Print the artifacts that contain a site, page or problem, and those made from them: all that must be rebuilt to remove it."""
    from mathquarry.data.ledger.sql import affected as find

    condition, value = next((name, chosen) for name in ("site", "url", "problem") if (chosen := getattr(options, name)) is not None)
    found = find(Ledger(Store(options.store)), condition, value)
    for stage, key, rows in found:
        print(f"{key}  {stage:<10} {f'contains it in {rows:,} rows' if rows else 'made from one that does'}")
    if not found:
        print(f"no artifact contains {value}.")


def _print_warcs(folder: str, pad: str) -> None:
    from mathquarry.data.files import read_json

    for file in read_json(Path(folder) / "warcs.json")["files"]:
        print(f"{pad}    warc {file['path']}  sha256 {file['sha256'][:16]}  {file['bytes']:,} bytes")


def why(options: argparse.Namespace) -> None:
    """Print what mining did with every capture of a page."""
    from mathquarry.data.mine.record.why import why as verdicts

    for verdict in verdicts(_corpus(options.store, options.corpus), options.url):
        print(f"{'kept   ' if verdict.kept else 'dropped'}  {verdict.url}\n         {verdict.reason}: {verdict.detail}")
        for line in verdict.history:
            print(f"         {line}")


def domains(options: argparse.Namespace) -> None:
    """Print the domain table of a corpus, or write its paths to an annotation file."""
    from mathquarry.data.mine.domains.annotate import format_domains, read_domains, write_skeleton

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
    """Rebuild the ledger, and print row counts and damaged artifacts."""
    done = Ledger(Store(options.store)).sync()
    print("rebuilt: " + ", ".join(f"{count} {table}" for table, count in done.rows.items()))
    _print_damaged(done.damaged)


def _print_damaged(damaged: list[Damaged]) -> None:
    for one in damaged:
        print(f"skipped, damaged: {one}", file=sys.stderr)


def verify(options: argparse.Namespace) -> None:
    """Check the whole store. Raises `MathQuarryError` with a list of all problems."""
    from mathquarry.data.store.verification import verify as verify_store

    whole, problems = verify_store(Store(options.store))
    if problems:
        raise MathQuarryError(
            f"{whole} artifacts are intact. Problems:\n  "
            + "\n  ".join(problems)
            + "\nRebuild damaged or missing artifacts with `mathquarry run ... --rebuild STAGE`, and delete foreign files."
        )
    print(f"{whole} artifacts are intact.")


def collect_garbage(options: argparse.Namespace) -> None:
    """List, and delete after confirmation, artifacts that no run needs and work folders that are not in use."""
    store = Store(options.store)
    collection = Collection(store, options.keep_runs, options.older_than)
    _print_damaged(collection.damaged)
    if collection.blind:
        print("no artifact is deleted, since the inputs of the above are unknown. `mathquarry ledger verify` lists all problems.")
    for one in collection.unused:
        print(f"unused {one.stage}/{one.key}  {one.bytes:,} bytes")
    for room in collection.rooms:
        print(f"leftover work/{room.name}  {size_of(room):,} bytes")
    if not collection.unused and not collection.rooms:
        print("nothing to collect.")
        return
    print(f"{sum(one.bytes for one in collection.unused) + sum(map(size_of, collection.rooms)):,} bytes in total")
    if not options.delete and not options.yes:
        print("Add --delete to delete these.")
        return
    if not options.yes and not _agreed():
        raise MathQuarryError("nothing was deleted. Answer y, or add --yes to delete without a question.")
    for one in collection.unused:
        print(f"{'deleted' if collection.delete(one) else 'kept, in use:'} {one.stage}/{one.key}")
    for room in collection.rooms:
        print(f"{'deleted' if collection.clear(room) else 'kept, in use:'} work/{room.name}")
    Ledger(store).sync()


def _agreed() -> bool:
    try:
        return input("Delete these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
