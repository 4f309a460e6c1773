"""Task `pretrain`: continued pretraining on the mined corpus and its companions (paper section 2.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.data.texts.generated import GENERATED_PREFIX
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.train.config import PretrainConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 4


@task(name="pretrain")
def pretrain(
    store: str,
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: str,
    problems: str,
    before: str | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Artifact: the base model, continued from `before` if that is given."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.train.pretrain import pretrain as train

        return train(model, config, inputs["corpus"], inputs["problems"], workspace, inputs.get("before"))

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
    """Files of the mix and the held-out texts; generated texts have none."""
    paths = [*(source.path for source in config.mix), *(text.path for text in config.held_out)]
    return [path for path in paths if path and not path.startswith(GENERATED_PREFIX)]


def model_sources(model: ScratchModel | PretrainedModel) -> list[str]:
    """Files of the starting weights; a hub name has none here, and only the config identifies it."""
    if isinstance(model, ScratchModel):
        return []
    return [model.path] if model.path.startswith("package:") or Path(model.path).exists() else []
