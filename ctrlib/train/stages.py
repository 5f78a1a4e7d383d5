"""Models that train in stages, such as teacher, distillation, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ctrlib.data import CTRDataset
from ctrlib.errors import unknown
from ctrlib.models import CTRModel
from ctrlib.train.fit import Epoch, FitResult, fit
from ctrlib.train.protocol import Protocol


def run_stages(
    model: CTRModel,
    data: CTRDataset,
    protocols: Protocol | Mapping[str, Protocol],
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint_dir: Path | None = None,
    identity: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> dict[str, FitResult]:
    """Run the model's stages in order, each from the best weights of the one before.

    protocols: one for all stages, or one for each stage by name. With `checkpoint_dir` a finished stage is not
    run again and a stage cut off goes on. Returns a result for each stage. See `fit` for the errors.
    """
    if isinstance(protocols, Protocol):
        protocols = dict.fromkeys(model.stages, protocols)
    for stage in protocols:
        if stage not in model.stages:
            raise unknown("stage", stage, model.stages)
    results = {}
    for stage in model.stages:
        model.start_stage(stage)
        results[stage] = fit(
            model,
            data,
            protocols[stage],
            seed=seed,
            device=device,
            checkpoint_path=checkpoint_dir / f"{stage}.pt" if checkpoint_dir else None,
            identity=(identity or {}) | {"stage": stage},
            on_epoch=on_epoch,
        )
    return results
