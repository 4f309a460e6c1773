"""Task `problems`: load or generate the questions that are trained on, and the ones that are only scored."""

from __future__ import annotations

from prefect import task

from data.config import ProblemFiles, ProblemsConfig
from data.store import BuildMode
from tasks.stage import Produced, produce

VERSION = 4


@task(name="problems")
def problems(store: str, config: ProblemsConfig, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `train.jsonl`, `test.jsonl`, `benchmarks.jsonl`."""
    from data.problems.build import build_problems
    from data.problems.registry import find

    source = config.source
    files = []
    if isinstance(source, ProblemFiles):
        files = [
            find(entry, source.dataset, train)[1] for entries, train in ((source.train, True), (source.test, False)) for entry in entries
        ]
    return produce(
        store,
        "problems",
        VERSION,
        {"problems": config},
        {},
        lambda space, inputs: build_problems(config, space),
        sources=[*files, *config.benchmarks],
        mode=mode,
    )
