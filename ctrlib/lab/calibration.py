r"""Do clicks come as often as a model says? Reliability curves and the expected calibration error.

Rows are put into bins of equal size by their predicted probability. With $\bar p_b$ the mean prediction of bin $b$ and
$\bar y_b$ its share of clicks,

$$\mathrm{ECE} = \sum_b \frac{n_b}{N}\, \big|\bar p_b - \bar y_b\big|.$$

It is never negative, so noise alone makes it positive: `chance_error` says by how much.

Letters: N rows, B bins.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ctrlib.errors import DataError, SettingError
from ctrlib.lab.stats import ALPHA, BOOTSTRAP_SEED, Estimate

BINS = 15
DRAWS = 500
NORMAL = 1.959964  # the normal distribution's 97.5 % quantile

Array = NDArray[np.float64]


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """Return one row for each bin: rows, predicted (mean probability), observed (share of clicks), low, high.

    probabilities, labels: (N,). low, high: Wilson's 95 % interval of the share. Raises `DataError` for probabilities
    outside [0, 1], labels other than 0 and 1, or none at all, `SettingError` for fewer than one bin.
    """
    p, y = _checked(probabilities, labels, bins)
    place = _bins(p, bins)
    counts = np.bincount(place).astype(float)
    predicted, observed = np.bincount(place, p) / counts, np.bincount(place, y) / counts
    spread = NORMAL**2 / counts
    centre = (observed + spread / 2) / (1 + spread)
    half = NORMAL * np.sqrt(observed * (1 - observed) / counts + spread / (4 * counts)) / (1 + spread)
    columns = {"predicted": predicted, "observed": observed, "low": centre - half, "high": centre + half}
    return pd.DataFrame({"rows": counts.astype(int), **columns})


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, draws: int = DRAWS) -> Estimate:
    """Return the expected calibration error, a share of rows, with a 95 % interval over the rows.

    The interval is the basic bootstrap's, cut at 0: resampling raises an error that cannot be negative, and this one
    takes that back. The draws have a fixed seed. Raises as `reliability` does.
    """
    p, y = _checked(probabilities, labels, bins)
    place, rng = _bins(p, bins), np.random.default_rng(BOOTSTRAP_SEED)
    value = _error(place, p - y)
    if len(p) < 2 or draws < 2:
        return Estimate(value, math.nan, math.nan, len(p))
    # Poisson weights in place of drawn row numbers: for thousands of rows the same, and faster
    found = np.array([_error(place, (p - y) * rng.poisson(1.0, len(p))) for _ in range(draws)])
    low, high = 2 * value - np.quantile(found, [1 - ALPHA / 2, ALPHA / 2])
    return Estimate(value, max(0.0, float(low)), max(value, float(high)), len(p), float(found.std(ddof=1)))


def chance_error(probabilities: ArrayLike, bins: int = BINS, draws: int = DRAWS) -> float:
    """Return the mean error of a perfectly calibrated model with these predictions, on as many rows."""
    p, _ = _checked(probabilities, np.zeros(np.shape(probabilities)), bins)
    place, rng = _bins(p, bins), np.random.default_rng(BOOTSTRAP_SEED)
    return float(np.mean([_error(place, p - (rng.random(len(p)) < p)) for _ in range(draws)]))


def _error(place: NDArray[np.intp], differences: Array) -> float:
    return float(np.abs(np.bincount(place, differences)).sum() / len(place))


def _bins(p: Array, bins: int) -> NDArray[np.intp]:
    """Return the bin of each row (N,): equally many rows in each, as far as N allows."""
    place = np.empty(len(p), dtype=np.intp)
    place[np.argsort(p, kind="stable")] = np.arange(len(p)) * min(bins, len(p)) // len(p)
    return place


def _checked(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[Array, Array]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise DataError(f"Give one probability and one label a row; their shapes are {p.shape} and {y.shape}.")
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(y, (0, 1)).all():
        raise DataError("Probabilities must lie in [0, 1] and labels must be 0 or 1.")
    if bins < 1:
        raise SettingError(f"bins is {bins}; give at least 1.")
    return p, y
