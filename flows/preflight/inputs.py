"""Checks that the files, packages and hub names that stages read from outside the store exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any, Literal

from mathquarry.data.crawl.config import CommonCrawlRecords, CrawlConfig, CrawlFiles
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch import hub_names
from mathquarry.data.fetch.hub_rows import first_row, repository_of
from mathquarry.data.fetch.remote import is_http
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.problems.config import ProblemFiles, ProblemsConfig
from mathquarry.data.problems.generated import SOURCE
from mathquarry.data.problems.records import first_record
from mathquarry.data.problems.registry import find
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.solutions.own import own_examples, read_example
from mathquarry.data.store.sources import expand
from mathquarry.data.texts.generated import GENERATED_PREFIX
from mathquarry.models.evaluate.config import HarnessConfig
from mathquarry.models.policy.config import PretrainedModel
from mathquarry.models.train.config import PretrainConfig

LARGEST_READ = 64 << 20
"""Maximum size in bytes of a problem file that is read by the check. Larger files are only read by the stage."""

Named = tuple[str, str]
"""A field of the recipe, and the file, package or hub name in it."""


def named_inputs(config: Any) -> Iterator[Named]:
    """Yield (field, name) for everything that a stage with this config reads from outside the store."""
    match config:
        case ProblemsConfig(source=source):
            if isinstance(source, ProblemFiles):
                for split in ("train", "test"):
                    for entry in getattr(source, split):
                        with suppress(MathQuarryError):  # `problem_faults` reports sets that do not exist
                            yield f"problems.source.{split}", find(entry, source, split == "train")[1]
            yield from (("problems.benchmarks", name) for name in config.benchmarks)
        case CurateConfig(files=files):
            yield from (("curate.files.path", one.path) for one in files)
        case CrawlConfig(source=CrawlFiles(warcs=warcs)):
            yield from (("crawl.source.warcs", name) for name in warcs)
        case CrawlConfig(source=CommonCrawlRecords() as source):
            for field, names in (("index", source.index), ("annotations", [source.annotations]), ("known", source.known)):
                yield from ((f"crawl.source.{field}", name) for name in names)
        case MineConfig():
            chosen = {
                "mine.seed_pages.path": config.seed_pages.path,
                "mine.annotations": config.annotations,
                "mine.labelled": config.labelled,
                "mine.tokenizer": config.tokenizer,
            }
            yield from ((field, name) for field, name in chosen.items() if name)
        case PretrainedModel():
            yield "model.path", config.path
        case PretrainConfig():
            for field, texts in (("mix", config.mix), ("held_out", config.held_out)):
                yield from ((f"pretrain.{field}", one.path) for one in texts if one.path and not one.path.startswith(GENERATED_PREFIX))
        case HarnessConfig():
            yield from ((f"harness.{field}", name) for field in ("data", "definitions") if (name := getattr(config, field)))


class Inputs:
    """Checks inputs. Reads each file once, and queries each name on the hub once."""

    def __init__(self) -> None:
        self.hub_is_away = False
        self._hub: dict[str, str | None] = {}
        self._problems: dict[tuple[str, str], int | str | None] = {}

    def missing(self, names: list[Named]) -> Iterator[str]:
        """Yield local files and packages that are missing, and names that the hub does not have."""
        for field, name in names:
            if name.startswith("package:"):
                if util.find_spec(name.removeprefix("package:")) is None:
                    yield f"{field}: the package {name.removeprefix('package:')} is not installed. Install it, or give a model's folder."
            elif repository := repository_of(name):
                if fault := self._hub_fault(repository, "dataset"):
                    yield f"{field}: {fault}"
            elif not _is_here(name):
                of_a_model = field in ("model.path", "start.policy", "start.reward") and not name.endswith(".gguf")
                fault = self._hub_fault(name, "model") if of_a_model else f"{name} is missing. Provide it, or correct the field."
                if fault:
                    yield f"{field}: {fault}"

    def problem_faults(self, config: ProblemsConfig) -> Iterator[str]:
        """Yield problem files that are empty, that have the wrong format for their set, or that must not be trained on."""
        if not isinstance(config.source, ProblemFiles):
            return
        for split in ("train", "test"):
            if not getattr(config.source, split):
                yield f"problems.source.{split} is empty: give at least one file."
            for entry in getattr(config.source, split):
                found = self._problems_in(entry, config, split)
                if isinstance(found, str):
                    yield f"problems.source.{split}: {found.removeprefix(f'problems.source.{split}: ')}"

    def training_sets(self, config: ProblemsConfig) -> dict[str, list[str]]:
        """Return the training entries of each set by its name. Entries that do not exist are left out."""
        if not isinstance(config.source, ProblemFiles):
            return {SOURCE: []}
        found: dict[str, list[str]] = {}
        for entry in config.source.train:
            with suppress(MathQuarryError):  # `problem_faults` reports these
                found.setdefault(find(entry, config.source, True)[0].name, []).append(entry)
        return found

    def training_problems(self, config: ProblemsConfig, sets: Sequence[str] = ()) -> int | None:
        """Return the number of problems in the training files before filtering, or in those of some sets; `None` if some files are not
        read here."""
        if not isinstance(config.source, ProblemFiles):
            return config.source.train
        if sets and config.source.train_limit:
            return None  # the limit is a random choice from all sets
        entries = [entry for name, of_set in self.training_sets(config).items() if name in sets for entry in of_set]
        counts = [self._problems_in(entry, config, "train") for entry in (entries if sets else config.source.train)]
        if not all(isinstance(count, int) for count in counts):
            return None
        total = sum(count for count in counts if isinstance(count, int))
        return min(total, config.source.train_limit or total)

    def _problems_in(self, entry: str, config: ProblemsConfig, split: str) -> int | str | None:
        """Return the number of problems in an entry, or an error message; `None` if it is not read here."""
        source = config.source
        assert isinstance(source, ProblemFiles)
        if (entry, split) not in self._problems:
            try:
                dataset, name = find(entry, source, split == "train")
                found: int | str | None = None
                if split == "train":
                    dataset.check_training(name)
                if _is_small(name):
                    found = len((dataset.training if split == "train" else dataset.held_out)(name, config.encoding))
                elif self._hub_answers(name) and (record := first_record(name)) and not record.fault:
                    dataset.read(record)
            except MathQuarryError as error:
                found = " ".join(str(error).split())
            self._problems[entry, split] = found
        return self._problems[entry, split]

    def solution_faults(self, config: CurateConfig) -> Iterator[str]:
        """Yield problems of the files and hub sets with solutions. Of a hub set, only the first row is checked."""
        for files in config.files:
            try:
                if _is_small(files.path):
                    own_examples(files)
                elif self._hub_answers(files.path) and (record := first_record(files.path)):
                    read_example(files, record)
            except MathQuarryError as error:
                yield f"curate.files: {' '.join(str(error).split())}"

    def column_faults(self, field: str, path: str | None, wanted: list[str]) -> Iterator[str]:
        """Yield the columns that are missing in the first of some local files, or in the first row of a hub set."""
        if not path or path.startswith(GENERATED_PREFIX):
            return
        try:
            if repository_of(path):
                first: str | Path = path
                row = first_row(path) if self._hub_answers(path) else None
                there = None if row is None else list(row)
            elif "://" in path:
                return
            else:
                first = Path(expand([path])[0])
                there = _columns(first)
        except MathQuarryError as error:
            if repository_of(path):
                yield f"{field}: {error}"
            return  # `missing` reports a file that does not exist
        except (OSError, ValueError, EOFError):
            return  # the stage that reads the file reports this
        if there is not None and (lacking := [column for column in wanted if column not in there]):
            yield f"{field}: {first} has no column {lacking[0]}, only {', '.join(there)}. Correct the column's name, or give another file."

    def _hub_answers(self, place: str) -> bool:
        """Return whether this is a data set on the hub that can be read now."""
        repository = repository_of(place)
        return repository is not None and not self._hub_fault(repository, "dataset") and not self.hub_is_away

    def _hub_fault(self, name: str, kind: Literal["model", "dataset"]) -> str | None:
        if name not in self._hub and not self.hub_is_away:
            try:
                self._hub[name] = hub_names.fault_of(name, kind)
            except hub_names.HubAway:
                self.hub_is_away = True
        return self._hub.get(name)


def _is_here(name: str) -> bool:
    """Return whether a local file exists. Remote files are checked by their stage."""
    if is_http(name) or "://" in name:
        return True
    try:
        return bool(expand([name]))
    except MathQuarryError:
        return False


def _is_small(name: str) -> bool:
    """Return whether this is a local file small enough to be read here."""
    path = Path(name)
    return path.is_file() and path.stat().st_size <= LARGEST_READ


def _columns(path: Path) -> list[str] | None:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    if ".jsonl" not in path.suffixes and ".json" not in path.suffixes:
        return None
    import fsspec

    with fsspec.open(str(path), "rt", compression="infer", encoding="utf-8") as file:
        record = json.loads(file.readline())
    return list(record) if isinstance(record, dict) else None
