"""`mathquarry ledger ...`: what was made, from what, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from data.errors import MathQuarryError
from data.ledger import Ledger
from data.store import Store, verify_files


def list_artifacts(options: argparse.Namespace) -> None:
    """Print artifacts or runs, oldest first."""
    ledger = Ledger(Store(options.store))
    if options.runs:
        for row in ledger.query(
            "select id, recipe, status, started, (select count(*) from run_stages s where s.id = r.id) n from runs r order by started"
        ):
            print(f"{row['id']}  {row['recipe']:<10} {row['status']:<10} {row['started']:%Y-%m-%d %H:%M}  {row['n']} stages")
        return
    rows = ledger.query("select * from artifacts where stage = ? or ? is null order by created", [options.stage, options.stage])
    for row in rows:
        print(f"{row['key']}  {row['stage']:<10} {row['created']:%Y-%m-%d %H:%M:%S} {row['seconds']:>9.1f} s {row['bytes']:>14,} bytes")


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
    for depth, role, row in ledger.lineage(ledger.resolve(options.artifact)["key"]):
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
    """List, or delete, artifacts outside the recorded runs and work folders whose artifact was published."""
    store = Store(options.store)
    runs = store.runs()[-options.keep_runs :] if options.keep_runs else store.runs()
    used = {stage["key"] for run in runs for stage in run["stages"]}
    manifests = {manifest["key"]: manifest for _, manifest in store.manifests()}
    for key in list(used):
        used |= set(manifests.get(key, {}).get("inputs", {}).values())
    unused = [manifest for key, manifest in manifests.items() if key not in used]
    leftovers = [room for room in store.root.glob("work/*") if room.name in manifests]
    for manifest in unused:
        size = sum(file["bytes"] for file in manifest["files"])
        print(f"{'deleted' if options.delete else 'unused'} {manifest['stage']}/{manifest['key']}  {size:,} bytes")
        if options.delete:
            store.remove(manifest["stage"], manifest["key"])
    for room in leftovers:
        print(f"{'deleted' if options.delete else 'left over'} work/{room.name}")
        if options.delete:
            shutil.rmtree(room)
    if not unused and not leftovers:
        print("nothing to collect.")
    elif options.delete:
        Ledger(store).sync()
    else:
        print("Add --delete to delete these.")
