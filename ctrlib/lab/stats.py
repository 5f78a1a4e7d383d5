"""Paired statistics over seeds: intervals, tests, verdicts, shares, rank agreement, noise.

Decisions.
- Two cells are compared on the seeds that both completed, so what a seed fixes (split, batch order,
  first embedding values) cancels.
- Intervals are two-sided 95 % t intervals. With 3 or fewer seeds there is an interval and no test: p is None.
- Tests are Holm-adjusted within a table; comparisons without a test stay outside the family.
- The bootstrap draws seeds (and, for ranks, items) with a fixed generator seed, so a page never changes by
  itself. Percentile intervals from 5 seeds or fewer are on the narrow side. Where the estimate lies outside of its
  draws' interval, the interval is stretched to hold it: a seed drawn twice makes means noisier, and a sign or a rank
  near its turning point then turns more often one way than the other.

Letters: I items (formats, cells), S seeds, K bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize
from scipy import stats as distributions

from ctrlib.errors import SettingError

ALPHA = 0.05
MARGIN = 0.0005  # AUC; a difference inside +-MARGIN does not matter in practice
MIN_SEEDS_FOR_TEST = 4
DRAWS = 2000
BOOTSTRAP_SEED = 2024

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over `n` seeds; no bounds (NaN) where n < 2, `p` None if untested."""

    value: float
    low: float
    high: float
    n: int
    sd: float = math.nan
    p: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The pair (low, high)."""
        return self.low, self.high


@dataclass(frozen=True)
class Verdict:
    """`name` is reproduced, contradicted, equivalent or undecided; `negligible`: inside the margin."""

    name: str
    negligible: bool = False


def summary(values: Iterable[float]) -> Estimate:
    """Return mean, standard deviation (n - 1) and t interval of the finite `values`."""
    x = np.asarray(list(values), dtype=np.float64)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 2:
        return Estimate(float(x[0]) if n else math.nan, math.nan, math.nan, n)
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    half = float(distributions.t.ppf(1 - ALPHA / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, sd)


def prediction_interval(values: Iterable[float], n: int) -> tuple[float, float]:
    """Return the 95 % interval for the mean of `n` further values of the same normal distribution as `values`.

    It holds the uncertainty of both means. NaN for fewer than two finite values, which leave the spread unknown. Raises
    `SettingError` for n < 1.
    """
    found = summary(values)
    half = prediction_factor(found.n, n) * found.sd
    return found.value - half, found.value + half


def prediction_factor(known: int, n: int) -> float:
    """Return the half width of `prediction_interval` in standard deviations of so many `known` values."""
    if n < 1:
        raise SettingError(f"n is {n}; a mean needs at least one value.")
    if known < 2:
        return math.nan
    return float(distributions.t.ppf(1 - ALPHA / 2, known - 1)) * math.sqrt(1 / known + 1 / n)


def one_sample(differences: Iterable[float]) -> Estimate:
    """Return `summary` with the two-sided p value of the t test against 0 (None with 3 or fewer values).

    Differences without any spread are a case of their own: p is 1 when all are 0 (a ReLU that never
    cuts gives the same run twice) and 0 otherwise.
    """
    found = summary(differences)
    if found.n < MIN_SEEDS_FOR_TEST:
        return found
    if found.sd == 0:
        p = 1.0 if found.value == 0 else 0.0
    else:
        t = abs(found.value) / (found.sd / math.sqrt(found.n))
        p = float(2 * distributions.t.sf(t, found.n - 1))
    return Estimate(found.value, found.low, found.high, found.n, found.sd, p)


def paired(left: pd.Series, right: pd.Series) -> Estimate:
    """Return the mean of left - right over the seeds (the index) that both have, with interval and test."""
    return one_sample((left - right).to_numpy(dtype=np.float64))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm-adjusted p values in the given order; None stays None and does not count."""
    family = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(family):
        running = max(running, min(1.0, p * (len(family) - rank)))
        adjusted[i] = running
    return adjusted


def verdict(
    interval: tuple[float, float],
    direction: int = 1,
    margin: float = MARGIN,
    *,
    against: float = 0.0,
    p: float | None = None,
) -> Verdict:
    """Return the verdict on a claim that the effect lies above (`direction` 1) or below (-1) `against`.

    Reproduced: the interval excludes `against` in the claimed direction. Contradicted: it excludes it
    the other way. Equivalent: it lies within `margin` of `against`, ends included. Else undecided.
    Significance comes first: an interval that excludes 0 and still lies inside the margin is
    reproduced (or contradicted), and its flag `negligible` says that the effect does not matter.
    With an adjusted `p`, exclusion counts only where p < 0.05. Without an interval (NaN): undecided.
    """
    if direction not in (1, -1):
        raise SettingError(f"direction is {direction}; it must be 1 (higher) or -1 (lower).")
    low, high = sorted(direction * (end - against) for end in interval)
    inside = -margin <= low and high <= margin
    significant = p is None or p < ALPHA
    if low > 0 and significant:
        return Verdict("reproduced", inside)
    if high < 0 and significant:
        return Verdict("contradicted", inside)
    return Verdict("equivalent" if inside else "undecided", inside)


def no_gain(
    interval: tuple[float, float], direction: int = 1, margin: float = MARGIN, *, p: float | None = None
) -> Verdict:
    """Return the verdict on "this addition does not help", for the interval of with - without.

    Contradicted: the interval excludes 0 on the better side (`direction` 1: higher is better), with the
    flag `negligible` when it also lies inside the margin. Reproduced: a gain as large as the margin is
    excluded. Else undecided.
    """
    seen = verdict(interval, direction, margin, p=p)
    if seen.name == "reproduced":
        return Verdict("contradicted", seen.negligible)
    best_case = max(direction * end for end in interval)
    return Verdict("reproduced" if best_case < margin else "undecided", seen.negligible)


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim about every comparison: contradicted by any, else only if unanimous."""
    against = [v for v in verdicts if v.name == "contradicted"]
    if against:
        return Verdict("contradicted", all(v.negligible for v in against))
    names = {v.name for v in verdicts}
    return Verdict(names.pop() if len(names) == 1 else "undecided", all(v.negligible for v in verdicts))


# What a verdict on "left is better" says about the left side.
OUTCOMES = {"reproduced": "better", "contradicted": "worse"} | {w: w for w in ("equivalent", "undecided")}


@dataclass(frozen=True)
class Share:
    """How often left beats right over items, and how often that is more than noise.

    `better`, `tied`, `worse` count items at the rounded means; `share` is better / items with a bootstrap interval
    over seeds, which are drawn for all items and both sides together; `tested` counts the verdicts of the paired
    comparisons after Holm, `untested` those of the plain intervals, both under the keys better, worse, equivalent,
    undecided.
    """

    better: int
    tied: int
    worse: int
    share: Estimate
    tested: dict[str, int]
    untested: dict[str, int]


def win_share(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    direction: int = 1,
    decimals: int = 4,
    margin: float = MARGIN,
    draws: int = DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> Share:
    """Return how many items (rows, (I, S) with seeds as columns) are better on the left.

    Means are compared at `decimals` digits; 4 are the papers' two decimals of AUC in percent.
    Only seeds that both sides have count; items without any are left out.
    """
    a, b = left.align(right, join="inner")
    both = (a.notna() & b.notna()).any(axis=1).to_numpy()
    a, b = a.where(b.notna())[both], b.where(a.notna())[both]
    if a.empty:
        raise SettingError("No item has a seed on both sides, so there is no share to count.")
    x_IS, y_IS = a.to_numpy(dtype=np.float64), b.to_numpy(dtype=np.float64)
    signs_I = _signs(np.nanmean(x_IS, 1), np.nanmean(y_IS, 1), direction, decimals)
    weights_KS = _seed_weights(x_IS.shape[1], draws, np.random.default_rng(seed))
    signs_KI = _signs(_means(x_IS, weights_KS), _means(y_IS, weights_KS), direction, decimals)
    seeds = int(np.isfinite(x_IS).sum(1).min())
    share = _bootstrapped(float((signs_I > 0).mean()), (signs_KI > 0).mean(1), seeds)
    compared = [paired(a.loc[item], b.loc[item]) for item in a.index]
    adjusted = holm([c.p for c in compared])
    better, tied, worse = (int((signs_I == s).sum()) for s in (1, 0, -1))
    judged = [verdict(c.interval, direction, margin, p=p) for c, p in zip(compared, adjusted, strict=True)]
    plain = [verdict(c.interval, direction, margin) for c in compared]
    return Share(better, tied, worse, share, _outcomes(judged), _outcomes(plain))


def _signs(x: Array, y: Array, direction: int, decimals: int) -> Array:
    scale = 10.0**decimals
    return np.asarray(direction * np.sign(np.rint(x * scale) - np.rint(y * scale)))


def _outcomes(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return {word: sum(OUTCOMES[v.name] == word for v in verdicts) for word in OUTCOMES.values()}


def rank_agreement(
    ours: pd.DataFrame | pd.Series,
    theirs: pd.DataFrame | pd.Series,
    *,
    draws: int = DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Estimate]:
    """Return Spearman's and Kendall's (tau-b) correlation of two vectors over items, with intervals.

    A frame has items as rows and seeds as columns: (I, S); a series has one value per item: (I,). The
    bootstrap draws items with replacement and, where a side has several seeds, its seeds too.
    `n` of the estimates is the number of items; items that lack a value are left out.
    """
    a, b = pd.DataFrame(ours).dropna(how="all"), pd.DataFrame(theirs).dropna(how="all")
    items = [i for i in a.index if i in b.index]
    if len(items) < 3:
        raise SettingError(f"A rank agreement needs 3 items that both sides have, got {len(items)}: {items}.")
    rng = np.random.default_rng(seed)
    n = len(items)
    picked_KI = rng.integers(n, size=(draws, n))
    plain, drawn = [], []
    for side in (a, b):
        values_IS = side.loc[items].to_numpy(dtype=np.float64)
        means_KI = _means(values_IS, _seed_weights(values_IS.shape[1], draws, rng))
        plain.append(np.nanmean(values_IS, 1)[None])  # (1, I)
        drawn.append(np.take_along_axis(means_KI, picked_KI, 1))
    measures = {"spearman": _spearman, "kendall": _kendall}
    return {name: _bootstrapped(float(f(*plain)[0]), f(*drawn), n) for name, f in measures.items()}


def _seed_weights(num_seeds: int, draws: int, rng: np.random.Generator) -> Array:
    """Return how often each seed is drawn: (K, S), rows sum to S."""
    return rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=draws).astype(np.float64)


def _means(values_IS: Array, weights_KS: Array) -> Array:
    """Return the weighted means (K, I). An item of which no seed was drawn keeps its plain mean."""
    present_IS = np.isfinite(values_IS)
    total_KI = weights_KS @ np.where(present_IS, values_IS, 0.0).T
    count_KI = weights_KS @ present_IS.T.astype(np.float64)
    return np.where(count_KI > 0, total_KI / np.maximum(count_KI, 1), np.nanmean(values_IS, 1))


def _bootstrapped(value: float, draws_K: Array, n: int) -> Estimate:
    """Return `value` with the percentile interval of the draws, stretched to hold it; without one where n < 2."""
    usable = draws_K[np.isfinite(draws_K)]
    if n < 2 or not len(usable):
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(usable, [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), n, float(usable.std(ddof=1)))


def _spearman(x_KI: Array, y_KI: Array) -> Array:
    a, b = (distributions.rankdata(v, axis=1) for v in (x_KI, y_KI))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return _ratio((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1)))


def _kendall(x_KI: Array, y_KI: Array) -> Array:
    a, b = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x_KI, y_KI))  # (K, I, I)
    return _ratio((a * b).sum((1, 2)), np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2))))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN where a draw picked one item only and nothing can be ranked."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


@dataclass(frozen=True)
class Noise:
    """Pooled standard deviation within cells, its degrees of freedom and the number of cells behind it."""

    sd: float
    degrees: int
    cells: int


def noise(values: pd.DataFrame) -> Noise:
    """Return the pooled within-row standard deviation of an (I, S) frame.

    Give it the cells' values for the spread of a single run, or the differences of pairs for the spread
    that a paired comparison meets. Rows with fewer than two values do not count.
    """
    rows = [summary(row) for row in values.to_numpy(dtype=np.float64)]
    rows = [r for r in rows if r.n > 1]
    degrees = sum(r.n - 1 for r in rows)
    pooled = math.sqrt(sum((r.n - 1) * r.sd**2 for r in rows) / degrees) if degrees else math.nan
    return Noise(pooled, degrees, len(rows))


def smallest_difference(sd: float, n: int, power: float = 0.8) -> float:
    """Return the true difference that a paired t test on `n` seeds finds with probability `power`.

    `sd` is the standard deviation of the paired differences (sqrt(2) times that of a cell where seeds
    share nothing), in the metric's own units; so is the answer.
    """
    if n < 2 or not ALPHA < power < 1:
        raise SettingError(f"n is {n}, power {power}; give at least 2 seeds and a power between {ALPHA} and 1.")
    bound = float(distributions.t.ppf(1 - ALPHA / 2, n - 1))
    # The estimated over the true sd, at 2,000 equally likely values: scipy's noncentral t is NaN far out.
    spread = np.sqrt(distributions.chi2.ppf((np.arange(2000) + 0.5) / 2000, n - 1) / (n - 1))

    def missing(shift: float) -> float:
        normal = distributions.norm.cdf
        return float((normal(shift - bound * spread) + normal(-shift - bound * spread)).mean() - power)

    # A shift of 10 x the bound is found nearly always, so the root lies below it.
    return float(optimize.brentq(missing, 0.0, 10 * bound)) * sd / math.sqrt(n)


def relative_improvement(auc: float, base: float) -> float:
    """Return by how many percent an AUC is further from chance than that of a base model (RelaImpr)."""
    return 100 * ((auc - 0.5) / (base - 0.5) - 1)


def fit_by_seed(values: pd.DataFrame, degree: int = 1) -> pd.DataFrame:
    """Return each seed's least-squares polynomial in log2 of the size: row k holds the factors of the power k.

    values: sizes as index, seeds as columns (L, S). With degree 1 row 1 is what a doubling of the size brings. A seed
    that lacks a size is left out. Raises `SettingError` for fewer sizes than the polynomial has factors.
    """
    if len(values) <= degree:
        raise SettingError(f"A polynomial of degree {degree} needs {degree + 1} sizes, got {len(values)}.")
    whole = values.dropna(axis=1)
    x_L = np.log2(np.asarray(whole.index, dtype=np.float64))
    fits = {seed: np.polynomial.Polynomial.fit(x_L, whole[seed], degree).convert().coef for seed in whole}
    rows = {seed: np.pad(factors, (0, degree + 1 - len(factors))) for seed, factors in fits.items()}
    return pd.DataFrame(rows, index=range(degree + 1), columns=whole.columns)


def fitted_curve(values: pd.DataFrame, sizes: Sequence[float], degree: int = 2) -> pd.DataFrame:
    """Return the mean of `fit_by_seed` at some sizes and its 95 % t interval over seeds: value, low, high."""
    factors_PS = fit_by_seed(values, degree).to_numpy(dtype=np.float64)
    powers_KP = np.vander(np.log2(np.asarray(sizes, dtype=np.float64)), degree + 1, increasing=True)
    rows = [summary(at_S) for at_S in powers_KP @ factors_PS]
    return pd.DataFrame([{"value": r.value, "low": r.low, "high": r.high} for r in rows], index=list(sizes))
