"""A generated ledger and generated manifests with the shape that real runs produce, for `ledger.py`.

A hundred runs share a problem set, a crawl and a corpus; each makes twenty artifacts of its own (three iterations of GRPO, scores of every
policy, a report that reads all of them). Eight of the twenty train, and leave five metrics over five steps. Configs are those of recipe
`smollm`. Keys, times and metrics are made up.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import write_json
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.store.store import MANIFEST, Store
from mathquarry.flows.recipe import load_recipe

FAMILY = 100
"""Runs that share a corpus."""
STEPS, METRICS = 5, ("loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second")
BEGUN = datetime(2025, 1, 1)
RUN_SECONDS, STAGE_SECONDS = 600, 25
PAGES = 200
"""Pages of each corpus on disk."""


class Made(NamedTuple):
    """An artifact of a run by its name there, and its inputs: role -> name."""

    name: str
    inputs: dict[str, str]

    @property
    def stage(self) -> str:
        """Stage that makes it."""
        return self.name.partition("-")[0]

    @property
    def trains(self) -> bool:
        """Whether it writes metrics."""
        return self.stage in ("pretrain", "sft", "reward", "grpo")


SHARED = [Made("problems", {}), Made("crawl", {"problems": "problems"}), Made("mine", {"crawl": "crawl", "problems": "problems"})]


def _own() -> list[Made]:
    made = [
        Made("pretrain", {"corpus": "mine", "problems": "problems"}),
        Made("curate", {"problems": "problems"}),
        Made("sft", {"base": "pretrain", "examples": "curate"}),
        Made("reward-0", {"start": "sft", "policy": "sft", "problems": "problems"}),
    ]
    policies = {"base": "pretrain", "sft": "sft"}
    for iteration in (1, 2, 3):
        policy, reward = policies["sft" if iteration == 1 else f"rl-{iteration - 1}"], f"reward-{iteration - 1}"
        made.append(Made(f"grpo-{iteration}", {"policy": policy, "reward": reward, "problems": "problems"}))
        policies[f"rl-{iteration}"] = f"grpo-{iteration}"
        if iteration < 3:
            history = {f"reward-{earlier}": f"reward-{earlier}" for earlier in range(iteration)}
            made.append(Made(f"reward-{iteration}", {"policy": f"grpo-{iteration}", "problems": "problems", **history}))
    made += [Made(f"evaluate-{name}", {"policy": policy, "problems": "problems"}) for name, policy in policies.items()]
    made += [Made(f"harness-{name}", {"policy": policy}) for name, policy in policies.items()]
    return [*made, Made("report", {one.name: one.name for one in [*SHARED, *made]})]


OWN = _own()
SHAPE = [*SHARED, *OWN]
_SHARED_NAMES = {one.name for one in SHARED}


def key_of(name: str, run: int) -> str:
    """Key of the artifact that run number `run` knows as `name`."""
    owner = run - run % FAMILY if name in _SHARED_NAMES else run
    return hashlib.md5(f"{name} {owner}".encode()).hexdigest()[:20]


def run_name(run: int) -> str:
    """Id of a run by its number, as `flows/pipeline.py` forms it."""
    return f"{BEGUN + timedelta(seconds=RUN_SECONDS * run):%Y%m%d-%H%M%S}-{run % 16**6:06x}"


def _config(stage: str, run: int | str) -> str:
    sections = load_recipe("smollm").model_dump(mode="json")
    config = {stage: sections.get(stage, {}) | {"seed": 987654321}}
    return json.dumps(config).replace("987654321", str(run))


def fill_ledger(store: Store, runs: int) -> None:
    """Write the ledger rows of `runs` runs, and into the store their files and the corpora and problem sets that they share."""
    with Ledger(store).connect() as connection:
        _shape_tables(connection, store, runs)
        connection.execute(
            f"""
            insert into artifacts select key, stage, 1, created, {STAGE_SECONDS}, 3000000 + run, 8, replace(config, 'RUN', run::varchar),
                '{{"steps": ' || {STEPS} || ', "greedy": ' || round(random(), 4) || ', "first_loss": ' || round(2 + random(), 4)
                || ', "last_loss": ' || round(random(), 4) || ', "tokens": ' || run || '}}',
                '0.1.0', md5((run // 50)::varchar)[:12], '{store.root}/artifacts/' || stage || '/' || key
            from owned order by created;
            insert into inputs select l.key, l.role, k.key from links l join keys k using (name, owner) order by l.created;
            insert into sources select key, '/data/gsm8k-train.jsonl', sha256('gsm8k'), 4166206 from owned where name = 'problems';
            insert into metrics select key, metric, step, created, random()
                from owned, range({STEPS}) as s(step), unnest({list(METRICS)}) as f(metric) where trains order by created;
            insert into run_stages select id, position, name, stage, k.key, k.owner <> run
                from (select *, if(shared, run - run % {FAMILY}, run) as owner from ran, shape) r join keys k using (name, owner)
                order by run, position;
            insert into runs select id, 'smollm', begun, begun + interval {len(OWN) * STAGE_SECONDS} seconds, 'completed',
                $config from ran order by run
            """,
            {"config": json.dumps(load_recipe("smollm").model_dump(mode="json"))},
        )
    for run in range(0, runs, FAMILY):
        _write_shared(store, run)
    recipe = load_recipe("smollm").model_dump(mode="json")
    for run in range(runs):
        write_run(store, run, recipe)


def _shape_tables(connection: duckdb.DuckDBPyConnection, store: Store, runs: int) -> None:
    shape = [(i, one.name, one.stage, one.trains, one.name in _SHARED_NAMES, _config(one.stage, "RUN")) for i, one in enumerate(SHAPE)]
    edges = [(one.name, role, other, other in _SHARED_NAMES) for one in SHAPE for role, other in one.inputs.items()]
    connection.execute("create temp table shape (position integer, name text, stage text, trains boolean, shared boolean, config text)")
    connection.executemany("insert into shape values (?, ?, ?, ?, ?, ?)", shape)
    connection.execute("create temp table edges_of (name text, role text, input text, shared boolean)")
    connection.executemany("insert into edges_of values (?, ?, ?, ?)", edges)
    connection.execute(
        f"""
        create temp table ran as select run, begun, strftime(begun, '%Y%m%d-%H%M%S') || '-' || printf('%06x', run) as id from
            (select range as run, timestamp '{BEGUN}' + to_seconds({RUN_SECONDS} * range) as begun from range({runs}));
        create temp table owned as select shape.*, run, begun + to_seconds({STAGE_SECONDS} * position) as created,
            md5(name || ' ' || run)[:20] as key from ran, shape where not shared or run % {FAMILY} = 0;
        create temp table keys as select name, run as owner, key from owned;
        create temp table links as select o.key, o.created, e.role, e.input as name, if(e.shared, run - run % {FAMILY}, run) as owner
            from owned o join edges_of e using (name)
        """
    )


def _write_shared(store: Store, run: int) -> None:
    corpus = store.folder("mine", key_of("mine", run)) / "corpus"
    corpus.mkdir(parents=True)
    hosts = [f"site-{run // FAMILY}.example" if page % 10 == 0 else f"host-{page}.example.org" for page in range(PAGES)]
    urls = [f"https://{host}/{page}" for page, host in enumerate(hosts)]
    pq.write_table(pa.table({"url": urls, "host": hosts, "score": [0.5] * PAGES, "tokens": [500] * PAGES}), corpus / "part-0000.parquet")
    crawl = store.folder("crawl", key_of("crawl", run))
    crawl.mkdir(parents=True)
    files = [{"path": f"/data/{index}.warc.gz", "sha256": "0" * 64, "bytes": 10**9} for index in range(10)]
    write_json(crawl / "warcs.json", {"files": files})
    problems = store.folder("problems", key_of("problems", run))
    problems.mkdir(parents=True)
    write_problems(problems / "train.jsonl", [Problem(f"p{run}-{index}", "1 + 1?", "2") for index in range(20)])


def write_manifests(store: Store, count: int) -> int:
    """Write manifests of at least `count` artifacts, with the metrics of those that train, and the run files. Returns the number."""
    written = 0
    configs = {one.stage: _config(one.stage, "RUN") for one in SHAPE}
    recipe = load_recipe("smollm").model_dump(mode="json")
    run = 0
    while written < count:
        for one in SHAPE:
            if one.name not in _SHARED_NAMES or run % FAMILY == 0:
                _write_artifact(store, one, run, configs[one.stage])
                written += 1
        write_run(store, run, recipe)
        run += 1
    return written


def write_run(store: Store, run: int, recipe: dict[str, Any]) -> None:
    """Write the file of a run."""
    record = {"id": run_name(run), "recipe": "smollm", "status": "completed", "config": recipe}
    record |= {"started": _time(run, 0), "ended": _time(run, len(SHAPE))}
    record["stages"] = [
        {"name": one.name, "stage": one.stage, "key": key_of(one.name, run), "reused": False, "seconds": STAGE_SECONDS} for one in SHAPE
    ]
    path = store.run_path(run_name(run))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2))


def _time(run: int, position: int) -> str:
    return (BEGUN + timedelta(seconds=RUN_SECONDS * run + STAGE_SECONDS * position)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write_artifact(store: Store, one: Made, run: int, config: str) -> None:
    key = key_of(one.name, run)
    folder = store.folder(one.stage, key)
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    manifest: dict[str, Any] = {
        "schema": 1,
        "key": key,
        "stage": one.stage,
        "version": 1,
        "config": json.loads(config.replace("RUN", str(run))),
        "inputs": {role: key_of(other, run) for role, other in one.inputs.items()},
        "sources": [{"path": "/data/gsm8k-train.jsonl", "sha256": sha256, "bytes": 4166206}] if one.name == "problems" else [],
        "files": [{"path": f"model/part-{index}.bin", "bytes": 2939488, "sha256": sha256} for index in range(8)],
        "summary": {"steps": STEPS, "greedy": 0.25, "first_loss": 2.5, "last_loss": 0.5, "tokens": run},
        "seconds": float(STAGE_SECONDS),
        "created": _time(run, SHAPE.index(one)),
        "code": {"version": "0.1.0", "revision": "3f9c1a2b4d5e", "python": "3.11.7"},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))
    if one.trains:
        values = {name: run / (index + 1) for index, name in enumerate(METRICS)}
        begun = BEGUN.replace(tzinfo=UTC).timestamp() + RUN_SECONDS * run
        lines = [json.dumps({"step": step, "time": begun + step, "values": values}) + "\n" for step in range(STEPS)]
        (folder / "metrics.jsonl").write_text("".join(lines))
