"""Random splits and subsets that a seed fixes for good, as row numbers or of tables.

Dimension letters: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.data.dataset import SPLITS
from ctrlib.errors import DataError, SettingError

SPLIT_SEED = 2024  # of data sets that come without splits
Rows = NDArray[np.int64]  # row numbers, in rising order


def random_rows(n: int, seed: int, where: str) -> dict[str, Rows]:
    """Split `n` rows 8:1:1 at random. Raises DataError for fewer than 10.

    Train and valid are rounded down and test takes the rest, which gives the paper's row counts on
    MovieLens-1M (591,209 / 73,901 / 73,902).
    """
    train, valid = n * 8 // 10, n // 10
    if not valid:
        raise DataError(f"{where}: {n} rows are too few for a split 8:1:1, which needs at least 10.")
    parts = np.split(_permutation(n, seed), [train, train + valid])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def cut_rows(n: int, seed: int, where: str) -> dict[str, Rows]:
    """Split `n` rows of a training table 9:1 into "train" and "valid". Raises DataError for fewer than 10."""
    if n < 10:
        raise DataError(f"{where}: {n} rows are too few to cut a tenth of them as validation.")
    order = _permutation(n, seed)
    return {"train": np.sort(order[n // 10 :]), "valid": np.sort(order[: n // 10])}


def subset_rows(sizes: Mapping[str, int], rows: int, seed: int) -> dict[str, Rows]:
    """Return `rows` random rows of the training split, and of valid and test the same share (at least one row).

    sizes: split -> its rows. Raises SettingError for fewer than one row.
    """
    if rows < 1:
        raise SettingError(f"rows must be at least 1, not {rows}.")
    share = min(1.0, rows / max(1, sizes["train"]))
    return {split: np.sort(_permutation(n, seed)[: max(1, round(share * n))]) for split, n in sizes.items()}


def random_split(frame: pd.DataFrame, seed: int, where: str) -> dict[str, pd.DataFrame]:
    """Split the rows 8:1:1 at random; each split keeps the order of the file (see `random_rows`)."""
    return {split: frame.iloc[part] for split, part in random_rows(len(frame), seed, where).items()}


def cut_valid(frames: Mapping[str, pd.DataFrame], seed: int, where: str) -> dict[str, pd.DataFrame]:
    """Return the tables of "train" and "test" with a tenth of train as "valid" (see `cut_rows`)."""
    train = frames["train"]
    parts = {split: train.iloc[part] for split, part in cut_rows(len(train), seed, where).items()}
    return {**parts, "test": frames["test"]}


def subset(frames: Mapping[str, pd.DataFrame], rows: int, seed: int) -> dict[str, pd.DataFrame]:
    """Keep `rows` random training rows, and of valid and test the same share (see `subset_rows`)."""
    kept = subset_rows({split: len(frame) for split, frame in frames.items()}, rows, seed)
    return {split: frame.iloc[kept[split]] for split, frame in frames.items()}


def _permutation(n: int, seed: int) -> np.ndarray:
    # The streams of RandomState are frozen; those of numpy's newer generators may change between versions.
    return np.random.RandomState(seed).permutation(n)
