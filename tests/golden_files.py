"""Golden vectors: NAME.npz beside NAME.json, from `CTRLIB_FIXTURES` or tests/golden."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(os.environ.get("CTRLIB_FIXTURES") or Path(__file__).parent / "golden")


def cases(name: str) -> dict[str, dict[str, Any]]:
    """Return case -> settings, from the JSON file."""
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def arrays(name: str, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays whose key starts with `prefix`, without it."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key[len(prefix) :]: file[key] for key in file.files if key.startswith(prefix)}


def double(array: NDArray[Any]) -> Tensor:
    """Return the array as a float64 tensor: the arithmetic of a test is done there."""
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def assert_close(ours: Tensor, reference: NDArray[Any], what: str) -> None:
    """Compare with 1e-5 of the largest reference value: the vectors were computed in float32."""
    limit = 1e-5 * max(1.0, float(np.abs(reference).max()))
    difference = float((ours.detach() - double(reference)).abs().max())
    assert ours.shape == reference.shape, f"{what}: shape {tuple(ours.shape)}, expected {reference.shape}"
    assert difference <= limit, f"{what}: differs by {difference:.3g}, allowed {limit:.3g}"
