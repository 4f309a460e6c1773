"""Task `pretrain`: continued pretraining on the mined corpus and its companions (paper section 2.3)."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from data.store import BuildMode
from models.config import PretrainConfig, PretrainedModel, ScratchModel
from tasks.stage import Produced, produce

VERSION = 2


@task(name="pretrain")
def pretrain(
    store: str, model: ScratchModel | PretrainedModel, config: PretrainConfig, corpus: str, problems: str, mode: BuildMode = "reuse"
) -> Produced:
    """Artifact: the base model."""
    from models.pretrain import pretrain as train

    return produce(
        store,
        "pretrain",
        VERSION,
        {"model": model, "pretrain": config},
        {"corpus": corpus, "problems": problems},
        lambda space, inputs: train(model, config, inputs["corpus"], inputs["problems"], space),
        sources=[*model_sources(model), *(source.path for source in config.mix if source.path)],
        mode=mode,
    )


def model_sources(model: ScratchModel | PretrainedModel) -> list[str]:
    """Files behind the starting weights; a hub name has none here and is identified by the config alone."""
    if isinstance(model, ScratchModel):
        return []
    return [model.path] if model.path.startswith("package:") or Path(model.path).exists() else []
