"""Benchmarks of mining, the answer checker and more, with other systems: `make bench-mining`, or `python -m tests.benchmarks NAME ...`.

Each benchmark runs every side on the same input, on one core, in alternating order, and rewrites its section of
RESULTS.md. The peers get environments of their own, made by uv. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mathquarry.data.mine.config import ClassifierConfig, MineConfig, SeedConfig, WorkersConfig
from tests.benchmarks import copies, inputs, peers
from tests.benchmarks.contest import ROOT, Contestant, contest, run, speed_table
from tests.benchmarks.formulas import kept_formulas, source_formulas
from tests.benchmarks.plan import PLAN, Rates, plan_lines
from tests.benchmarks.results import write_section
from tests.benchmarks.words import agreement, read_main_content
from tests.data.grade.measure import gold_answers, respelled

EARLIER = "fc018db"
"""The revision whose extraction is timed for comparison: the last one before extraction was made faster."""


@dataclass(frozen=True)
class Bench:
    """Settings that every benchmark needs."""

    data: Path
    folder: Path
    environments: Path
    repeats: int

    def contestant(self, label: str, peer: str, script: str, *arguments: str | Path) -> Contestant:
        """A side of a comparison that runs `script` in the environment of `peer`."""
        code = ROOT if peer == "mathquarry" else None
        return Contestant(label, peers.python_of(peer, self.environments), script, tuple(map(str, arguments)), code)

    def earlier(self, label: str, script: str, *arguments: str | Path) -> Contestant:
        """A side that runs the code of revision `EARLIER` of this repository."""
        code = self.folder / EARLIER
        if not code.exists():
            code.mkdir()
            archive = subprocess.run(["git", "archive", EARLIER, "data"], cwd=ROOT, check=True, capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", str(code)], input=archive, check=True)
        return replace(self.contestant(label, "mathquarry", script, *arguments), code=code)

    def circumstances(self, name: str, systems: tuple[str, ...], repeats: int = 0) -> list[str]:
        """Command, machine, date, versions."""
        repeats = repeats or self.repeats
        return [
            f"`python -m tests.benchmarks {name}`, {datetime.date.today():%d %B %Y}, {machine()}, Python {platform.python_version()}; "
            f"{f'median of {repeats} runs' if repeats > 1 else 'one run'}, load {os.getloadavg()[0]:.1f} at the end.",
            "",
            *(f"- {system}: {peers.versions(system, self.environments)}" for system in systems),
            "",
        ]


def machine() -> str:
    """Description of the machine."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else ""
    return f"{os.cpu_count()} cores {model or platform.processor() or platform.machine()}"


def recall(bench: Bench) -> None:
    """The pass that sees every page: WARC -> text -> language -> classifier."""
    warc = bench.data / "web" / "sample.warc.gz"
    sample = inputs.read_sample(bench.data)
    model = inputs.train_classifier(sample, inputs.read_labels(bench.data), bench.folder / "classifier")
    pages = inputs.write_pages(sample, bench.folder / "pages.jsonl")
    sides = [
        bench.contestant(label, peer, "recall.py", peer, warc, model, "0.5")
        for label, peer in (
            ("MathQuarry: plain text in a process with limits, language, classifier", "mathquarry"),
            ("datatrove: WarcReader, Trafilatura, fastText filter", "datatrove"),
        )
    ]
    sides.append(bench.contestant("resiliparse alone: main text of decoded pages", "resiliparse", "extract.py", "resiliparse", pages))
    outcomes = contest(sides, bench.repeats)
    filtered = [outcome for outcome in outcomes if "kept" in outcome.runs[0]]
    kept = ", ".join(f"{outcome.label.partition(',')[0].partition(':')[0]} {outcome.runs[0]['kept']:,}" for outcome in filtered)
    lines = [*bench.circumstances("recall", ("mathquarry", "datatrove", "resiliparse")), *speed_table(outcomes, "pages")]
    why = "It was trained on text in lower case with symbols apart, and datatrove scores text as it is: the counts measure no quality."
    write_section("recall", [*lines, "", f"Of {outcomes[0].items:,} pages the same classifier kept: {kept}. {why}"])


EXTRACTORS = {
    "MathQuarry, in this process": ("mathquarry", "mathquarry"),
    "MathQuarry, in a process with limits": ("mathquarry", "mathquarry-limited"),
    "openwebmath-text-extract": ("openwebmath", "openwebmath"),
    "trafilatura": ("trafilatura", "trafilatura"),
    "resiliparse, main content": ("resiliparse", "resiliparse"),
}


FORMULA_EXTRACTORS = {
    "MathQuarry": ("mathquarry", "mathquarry"),
    "openwebmath-text-extract": ("openwebmath", "openwebmath"),
    "resiliparse, main content": ("resiliparse", "resiliparse"),
    "trafilatura": ("trafilatura", "trafilatura"),
    "trafilatura, Markdown": ("trafilatura", "trafilatura-markdown"),
}


def extraction(bench: Bench) -> None:
    """Careful extraction: HTML in memory -> text with formulas."""
    pages = inputs.write_pages(inputs.read_sample(bench.data), bench.folder / "pages.jsonl")
    sides = [bench.contestant(label, peer, "extract.py", name, pages) for label, (peer, name) in EXTRACTORS.items()]
    sides.append(bench.earlier(f"MathQuarry at {EARLIER}, in this process", "extract.py", "mathquarry-earlier", pages))
    outcomes = contest(sides, bench.repeats)
    failed = [f"{outcome.label} failed on {outcome.runs[0]['failed']}" for outcome in outcomes if outcome.runs[0]["failed"]]
    lines = bench.circumstances("extraction", ("mathquarry", "openwebmath", "trafilatura", "resiliparse"))
    write_section("extraction", [*lines, *speed_table(outcomes, "pages"), "", "; ".join(failed) + "." if failed else "No page failed."])


def formulas(bench: Bench) -> None:
    """How many of the formulas in the sources of the mathematical pages each extractor keeps."""
    labels = inputs.read_labels(bench.data)
    pages = [page for page in inputs.read_sample(bench.data) if labels[page.url]["label"] == "math"]
    stated = {page.url: found for page in pages if (found := source_formulas(page.html))}
    written = inputs.write_pages([page for page in pages if page.url in stated], bench.folder / "pages.jsonl")
    lines = bench.circumstances("formulas", ("mathquarry", "openwebmath", "trafilatura", "resiliparse"))
    lines += ["| | mean of the pages | of all formulas | pages that keep all | pages that keep none |", "|---|---:|---:|---:|---:|"]
    for label, (peer, name) in FORMULA_EXTRACTORS.items():
        texts = bench.folder / f"{name}.jsonl"
        run(bench.contestant(label, peer, "extract.py", name, written, texts))
        kept = [
            (kept_formulas(record["text"], stated[record["url"]]), len(stated[record["url"]]))
            for record in map(json.loads, texts.read_text(encoding="utf-8").splitlines())
        ]
        macro = statistics.mean(found / total for found, total in kept)
        micro = sum(found for found, _ in kept) / sum(total for _, total in kept)
        whole, none = sum(found == total for found, total in kept), sum(found == 0 for found, _ in kept)
        lines.append(f"| {label} | {macro:.3f} | {micro:.3f} | {whole} | {none} |")
    lines += ["", f"{len(stated)} pages labelled mathematical state {sum(map(len, stated.values())):,} formulas as TeX."]
    write_section("formulas", lines)


MAIN_CONTENT_EXTRACTORS = {name: side for name, side in FORMULA_EXTRACTORS.items() if side[1] != "trafilatura-markdown"}


def content(bench: Bench) -> None:
    """How many words of a page's main content each extractor keeps, and how many others it adds."""
    pages = read_main_content(bench.data / "web" / "main-content.jsonl.xz")
    wanted = {page.name: page for page in pages}
    written = bench.folder / "pages.jsonl"
    written.write_text("".join(json.dumps({"url": page.name, "html": page.html}) + "\n" for page in pages), encoding="utf-8")
    lines = bench.circumstances("content", ("mathquarry", "openwebmath", "trafilatura", "resiliparse"), repeats=1)
    lines += ["| | precision | recall | F1 | F1 where rules were tuned | F1 of the others |", "|---|---:|---:|---:|---:|---:|"]
    for label, (peer, name) in MAIN_CONTENT_EXTRACTORS.items():
        texts = bench.folder / f"{name}.jsonl"
        run(bench.contestant(label, peer, "extract.py", name, written, texts))
        found = {record["url"]: record["text"] for record in map(json.loads, texts.read_text(encoding="utf-8").splitlines())}
        every = [(page.is_tuning, agreement(found[name], page.text)) for name, page in wanted.items()]
        means = [statistics.mean(getattr(one, metric) for _, one in every) for metric in ("precision", "recall", "f1")]
        means += [statistics.mean(one.f1 for is_tuning, one in every if is_tuning == half) for half in (True, False)]
        lines.append(f"| {label} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    tuned = sum(page.is_tuning for page in pages)
    lines += [
        "",
        f"Means of {len(pages)} pages. Our rules were made by looking at {tuned} of them; of the others only the means were looked at, but "
        "for three pages.",
    ]
    write_section("content", lines)


def minhash(bench: Bench) -> None:
    """Signatures for near-duplicate removal: 14 bands of 8 rows over word 5-grams."""
    pairs = bench.folder / "pairs.json"
    documents = inputs.write_documents(inputs.read_sample(bench.data), bench.folder / "documents.jsonl", pairs)
    names = {
        "MathQuarry": ("mathquarry", "mathquarry"),
        "rensa: RMinHash, MathQuarry's words": ("rensa", "rensa"),
        "rensa: RMinHash, words between spaces": ("rensa", "rensa-spaces"),
        "datasketch: MinHash.update_batch": ("datasketch", "datasketch"),
        "datatrove: MinhashDedupSignature": ("datatrove", "datatrove"),
    }
    sides = [bench.contestant(label, peer, "minhash.py", name, documents, pairs) for label, (peer, name) in names.items()]
    outcomes = contest(sides, bench.repeats)
    lines = [*bench.circumstances("minhash", ("mathquarry", "rensa", "datasketch", "datatrove")), *speed_table(outcomes, "documents"), ""]
    size = documents.stat().st_size / outcomes[0].items / 1000
    lines += [
        f"{outcomes[0].items:,} texts of {size:.1f} kB on average, 200 of them edited copies of others. Error of the estimated similarity "
        "of those pairs, against the true one of the same library's shingles:",
        "",
    ]
    lines += ["| | bias | root of mean square | expected of 112 hashes |", "|---|---:|---:|---:|"]
    for label, (peer, name) in names.items():
        errors = bench.folder / f"{name}.json"
        run(bench.contestant(label, peer, "minhash.py", name, documents, pairs, errors))
        found = json.loads(errors.read_text())
        bias = statistics.mean(estimate - true for estimate, true in found)
        rmse = math.sqrt(statistics.mean((estimate - true) ** 2 for estimate, true in found))
        expected = math.sqrt(statistics.mean(true * (1 - true) / 112 for _, true in found))
        lines.append(f"| {label} | {bias:+.4f} | {rmse:.4f} | {expected:.4f} |")
    write_section("minhash", lines)


MULTIPLES = (1, 4, 16)


def scaling(bench: Bench) -> None:
    """A complete mining run on 1, 4 and 16 times the sample: does cost grow as the crawl does?"""
    pages = inputs.read_sample(bench.data)
    copies.write_benchmark_problems(bench.data, bench.folder / "problems")
    runs = []
    for multiple in MULTIPLES:
        folder = bench.folder / str(multiple)
        copies.write_copies(pages, multiple, folder / "crawl")
        (folder / "config.json").write_text(_mine_config(multiple).model_dump_json())
        side = bench.contestant("MathQuarry", "mathquarry", "mine.py", folder / "crawl", bench.folder / "problems", folder / "run")
        runs.append(run(side))
        shutil.rmtree(folder)
    lines = bench.circumstances("scaling", ("mathquarry",), repeats=1)
    lines += ["| sample | pages | seconds | CPU-s | pages/CPU-s | peak memory, MiB | on disk, MB | collected |", "|---|" + "---:|" * 7]
    for multiple, found in zip(MULTIPLES, runs, strict=True):
        lines.append(
            f"| {multiple}x | {found['items']:,} | {found['seconds']:.0f} | {found['cpu_seconds']:.0f} | "
            f"{found['items'] / found['cpu_seconds']:.0f} | {found['peak_mib']:,.0f} | {found['scratch_bytes'] / 1e6:.0f} | "
            f"{found['collected']:,} |"
        )
    growth = math.log(runs[-1]["items"] / runs[0]["items"])
    powers = {name: math.log(runs[-1][name] / runs[0][name]) / growth for name in ("cpu_seconds", "peak_mib", "scratch_bytes")}
    lines += [
        "",
        f"From {MULTIPLES[0]}x to {MULTIPLES[-1]}x, processor time grows as pages to the power {powers['cpu_seconds']:.2f}, memory "
        f"{powers['peak_mib']:.2f}, disk {powers['scratch_bytes']:.2f} (1 is linear, 0 is constant). One worker, which has a process with "
        "limits beside it.",
    ]
    write_section("scaling", lines)


def _mine_config(multiple: int) -> MineConfig:
    """Sizes that grow with the crawl, except the seed's and the classifier's, as in a real crawl."""
    return MineConfig(
        seed_pages=SeedConfig(source="crawl-formulas", positives=100, negatives=200),
        classifier=ClassifierConfig(dim=16, buckets=50_000, learning_rate=0.5, epochs=20, min_count=1),
        token_budgets=[200_000 * multiple, 300_000 * multiple],
        max_rounds=3,
        workers=WorkersConfig(count=1),
    )


def plan(bench: Bench) -> None:
    """Cost of a snapshot and of the paper's crawl at the rates of this machine: the tables of docs/scaling-mining.md."""
    pages = inputs.read_sample(bench.data)
    model = inputs.train_classifier(pages, inputs.read_labels(bench.data), bench.folder / "classifier")
    pairs = bench.folder / "pairs.json"
    documents = inputs.write_documents(pages, bench.folder / "documents.jsonl", pairs)
    written = inputs.write_pages(pages, bench.folder / "pages.jsonl")
    first, careful, signed = contest(
        [
            bench.contestant(
                "MathQuarry, plain", "mathquarry", "recall.py", "mathquarry", bench.data / "web" / "sample.warc.gz", model, "0.5"
            ),
            bench.contestant("MathQuarry, careful", "mathquarry", "extract.py", "mathquarry-limited", written),
            bench.contestant("MathQuarry, signatures", "mathquarry", "minhash.py", "mathquarry", documents, pairs),
        ],
        bench.repeats,
    )
    copies.write_benchmark_problems(bench.data, bench.folder / "problems")
    copies.write_copies(pages, 1, bench.folder / "1" / "crawl")
    (bench.folder / "1" / "config.json").write_text(_mine_config(1).model_dump_json())
    folders = (bench.folder / "1" / "crawl", bench.folder / "problems", bench.folder / "run")
    mined = run(bench.contestant("MathQuarry", "mathquarry", "mine.py", *folders))
    rates = Rates(first.per_cpu_second, careful.per_cpu_second, signed.per_cpu_second, mined["captures_bytes"] / mined["items"])
    page_kilobytes = statistics.mean(len(page.html) for page in pages) / 1000
    write_section("plan", plan_lines(rates, first.peak_mib, page_kilobytes, bench.circumstances("plan", ("mathquarry",))), PLAN)


GRADED = 0.02
"""Share of the gold answers whose spellings both checkers grade; math-verify would need hours for all."""


def grading(bench: Bench) -> None:
    """The answer checker and math-verify on gold answers of four problem sets in harmless and harmful spellings."""
    sides, totals = [], {}
    for label, system, share in (
        ("MathQuarry", "mathquarry", GRADED),
        ("math-verify", "math-verify", GRADED),
        ("MathQuarry, all gold answers", "mathquarry", 1.0),
    ):
        spellings = respelled(gold_answers(bench.data, share))
        path = bench.folder / f"pairs-{share}.jsonl"
        path.write_text("".join(json.dumps({"gold": one.gold, "text": one.text, "right": one.right}) + "\n" for one in spellings))
        harmless = sum(one.right for one in spellings)
        totals[label] = {"harmless": harmless, "harmful": len(spellings) - harmless}
        sides.append(bench.contestant(label, "mathquarry", "grade.py", system, path))
    outcomes = contest(sides, bench.repeats)
    lines = [*bench.circumstances("grading", ("mathquarry",)), *speed_table(outcomes, "pairs"), ""]
    lines += ["| | harmless, accepted | harmful, accepted | longest pair, s | which was |", "|---|---:|---:|---:|---|"]
    for outcome in outcomes:
        found = outcome.runs[0]
        shares = [f"{found[what]:,} of {total:,} ({found[what] / total:.2%})" for what, total in totals[outcome.label].items()]
        text = found["longest_text"].replace("|", "\\|")
        lines.append(f"| {outcome.label} | {' | '.join(shares)} | {found['longest']:.3f} | `{text}` |")
    write_section("grading", lines)


BENCHMARKS: dict[str, Callable[[Bench], None]] = {
    "recall": recall,
    "extraction": extraction,
    "formulas": formulas,
    "content": content,
    "minhash": minhash,
    "scaling": scaling,
    "plan": plan,
    "grading": grading,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="benchmarks to run; all of them if none is named")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (default 5)")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MATHQUARRY_SHARED") or "../shared/data"))
    parser.add_argument("--environments", type=Path, help="keep the peers' environments in this folder")
    options = parser.parse_args()
    if not (options.data / "web" / "sample.warc.gz").exists():
        raise SystemExit(f"the sample of real pages is not in {options.data}; give its place with --data.")
    with tempfile.TemporaryDirectory() as scratch:
        environments = options.environments or Path(scratch) / "environments"
        for name in options.names or BENCHMARKS:
            folder = Path(scratch) / name
            folder.mkdir()
            print(f"{name} ...", flush=True)
            BENCHMARKS[name](Bench(options.data, folder, environments.absolute(), options.repeats))


if __name__ == "__main__":
    main()
