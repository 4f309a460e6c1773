"""Task `pretrain`: continued pretraining on the mined corpus and its companions (paper section 2.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.texts import GENERATED_PREFIX
from data.workspace import Workspace
from models.config import PretrainConfig, PretrainedModel, ScratchModel
from tasks.stage import Produced, produce

VERSION = 3


@task(name="pretrain")
def pretrain(
    store: str,
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: str,
    problems: str,
    before: str | None = None,
    mode: BuildMode = "reuse",
) -> Produced:
    """Artifact: the base model, trained on from the one `before` it where there is one."""

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.pretrain import pretrain as train

        return train(model, config, inputs["corpus"], inputs["problems"], space, inputs.get("before"))

    return produce(
        store,
        "pretrain",
        VERSION,
        {"model": model, "pretrain": config},
        {"corpus": corpus, "problems": problems, **({"before": before} if before else {})},
        work,
        sources=[*model_sources(model), *text_sources(config)],
        mode=mode,
    )


def text_sources(config: PretrainConfig) -> list[str]:
    """Files behind mix and held-out texts; generated ones have none."""
    paths = [*(source.path for source in config.mix), *(text.path for text in config.held_out)]
    return [path for path in paths if path and not path.startswith(GENERATED_PREFIX)]


def model_sources(model: ScratchModel | PretrainedModel) -> list[str]:
    """Files behind the starting weights; a hub name has none here and is identified by the config alone."""
    if isinstance(model, ScratchModel):
        return []
    return [model.path] if model.path.startswith("package:") or Path(model.path).exists() else []
