"""The networks of the plane that the claims on decision boundaries compare, and their runs (QNN paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ctrlib.lab.grid import Cell
from ctrlib.plane import EPOCHS, NOISE, PlaneResult, train_planes, turning

PANELS: dict[str, Cell] = {
    "MLP.relu": ("MLP", {"post_activation": "relu"}),
    "MLP.none": ("MLP", {}),
    "CrossNetV2": ("CrossNetV2", {}),
    "DCNv2": ("DCNv2", {}),
    "T9": ("T9", {}),
    "T19": ("T19", {}),
}
SE = {"dropout": 0.1, "loss": "self-ensemble", "passes": 2}
Results = dict[str, dict[str, PlaneResult]]


def with_losses(names: Sequence[str]) -> dict[str, Cell]:
    """Return each network at dropout 0.1 with the usual and with the self-ensemble loss; the MLP with its ReLU."""
    cells: dict[str, Cell] = {}
    for name in names:
        act = {"post_activation": "relu"} if name == "MLP" else {}
        cells[f"{name}.dropout"] = (name, act | {"dropout": 0.1})
        cells[f"{name}.SE"] = (name, act | SE)
    return cells


def trained(
    cells: Mapping[str, Cell],
    seeds: int,
    epochs: int | None = None,
    frames: Mapping[str, Sequence[int]] | None = None,
    noise: float = 1.0,
) -> Results:
    """Train every cell on both shapes with seeds 1 to `seeds`: shape -> label -> result.

    epochs: None for those of the shape. frames: shape -> epochs whose pictures are kept. noise: as a multiple of the
    usual one.
    """
    tasks: dict[tuple[str, str], dict[str, Any]] = {
        (shape, label): {
            "name": name,
            "shape": shape,
            "numbers": range(1, seeds + 1),
            "epochs": epochs,
            "frames": (frames or {}).get(shape, ()),
            "noise": noise * NOISE[shape],
            **settings,
        }
        for shape in EPOCHS
        for label, (name, settings) in cells.items()
    }
    found = dict(zip(tasks, train_planes(list(tasks.values())), strict=True))
    return {shape: {label: found[shape, label] for label in cells} for shape in EPOCHS}


def boundary_runs(*results: Results) -> pd.DataFrame:
    """Return one row for each shape, network and seed, as claims read it: accuracy, and how the boundary turns."""
    return pd.DataFrame(
        row
        for shape in EPOCHS
        for part in results
        for label, result in part[shape].items()
        for row in _measured(shape, label, result)
    )


def _measured(shape: str, label: str, result: PlaneResult) -> list[dict[str, Any]]:
    rows = []
    for number, accuracy in enumerate(result.accuracy):
        found = turning(result.network.only(number).logits)
        row = {"experiment": "boundaries", "dataset": shape, "label": label, "seed": number + 1}
        row |= {"status": "completed", "accuracy": accuracy, "length": found.length}
        rows.append(row | {"turning": found.per_length, "concentration": found.concentration})
    return rows
