"""Random splits and subsets that a seed fixes for good."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ctrlib.data.dataset import SPLITS
from ctrlib.errors import DataError, SettingError


def random_split(frame: pd.DataFrame, seed: int, where: str) -> dict[str, pd.DataFrame]:
    """Split the rows 8:1:1 at random; each split keeps the order of the file.

    Train and valid are rounded down and test takes the rest, which gives the paper's row counts on
    MovieLens-1M (591,209 / 73,901 / 73,902).
    """
    train, valid = len(frame) * 8 // 10, len(frame) // 10
    if not valid:
        raise DataError(f"{where}: {len(frame)} rows are too few for a split 8:1:1, which needs at least 10.")
    order = _permutation(len(frame), seed)
    parts = np.split(order, [train, train + valid])
    return {split: frame.iloc[np.sort(part)] for split, part in zip(SPLITS, parts, strict=True)}


def subset(frames: Mapping[str, pd.DataFrame], rows: int, seed: int) -> dict[str, pd.DataFrame]:
    """Keep `rows` random training rows, and of valid and test the same share (at least one row)."""
    if rows < 1:
        raise SettingError(f"rows must be at least 1, not {rows}.")
    share = min(1.0, rows / max(1, len(frames["train"])))
    kept = {split: max(1, round(share * len(frame))) for split, frame in frames.items()}
    return {
        split: frame.iloc[np.sort(_permutation(len(frame), seed)[: kept[split]])] for split, frame in frames.items()
    }


def _permutation(n: int, seed: int) -> np.ndarray:
    # The streams of RandomState are frozen; those of numpy's newer generators may change between versions.
    return np.random.RandomState(seed).permutation(n)
