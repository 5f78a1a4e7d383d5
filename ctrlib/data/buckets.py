"""Rules that turn a number into a token.

| rule       | token of the value v                                             | learned |
|------------|------------------------------------------------------------------|---------|
| quantile:N | index of the interval between the N-quantiles of the training split | yes  |
| log2       | floor(log2(v)) for v >= 1, 0 below 1 and "n" below 0              | no      |
| criteo     | floor(ln(v)^2) for v > 2, else the whole part of v                | no      |
| decade     | 10 * floor(v / 10), for years                                     | no      |

`criteo` is the rule of the Criteo_x4 preparation in the code of paper A.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ctrlib.errors import SettingError, unknown

Values = NDArray[np.float64]
Tokens = NDArray[np.str_]
RULES = ("quantile:N", "log2", "criteo", "decade")
LARGEST = 2.0**62  # tokens are whole numbers of 64 bits, so larger values share the last one


def check_rule(name: str, kind: str, rule: str | None) -> None:
    """Raise SettingError unless `rule` fits a field called `name` of this `kind`."""
    if kind != "numeric":
        if rule is not None:
            raise SettingError(f"Field '{name}': only a numeric field takes buckets, and this one is {kind}.")
    elif not isinstance(rule, str):
        found = "" if rule is None else f", not {rule!r}"
        raise SettingError(f"Field '{name}': a numeric field needs buckets, one of: {', '.join(RULES)}{found}.")
    elif rule.startswith("quantile:"):
        number = rule.removeprefix("quantile:")
        if not number.isdigit() or int(number) < 2:
            raise SettingError(f"Field '{name}': 'quantile:N' needs a whole number N >= 2, not '{number}'.")
    elif rule not in RULES:
        raise unknown("bucketing rule", rule, RULES)


def fit_rule(rule: str, train: Values) -> Callable[[Values], Tokens]:
    """Return the function values (N,) -> tokens (N,); only a quantile rule looks at the values of `train`."""
    return rule_between(rule, edges_of(rule, train))


def edges_of(rule: str, train: Values) -> Values:
    """Return what a rule learns from `train`: the distinct inner quantiles, in rising order; empty for other rules."""
    if not rule.startswith("quantile:"):
        return np.empty(0)
    parts = int(rule.removeprefix("quantile:"))
    edges: Values = np.unique(np.quantile(train, np.arange(1, parts) / parts))
    return edges


def rule_between(rule: str, edges: Values) -> Callable[[Values], Tokens]:
    """Return the function values (N,) -> tokens (N,) of a rule that has learnt `edges`."""
    if rule.startswith("quantile:"):
        return lambda values: np.searchsorted(edges, values, side="right").astype(str)
    return {"log2": _log2, "criteo": _criteo, "decade": _decade}[rule]


def _log2(values: Values) -> Tokens:
    tokens = np.floor(np.log2(np.maximum(values, 1.0))).astype(np.int64).astype(str)
    return np.where(values < 0, "n", tokens)


def _criteo(values: Values) -> Tokens:
    logarithm = np.floor(np.log(np.maximum(values, 1.0)) ** 2)
    return _whole(np.where(values > 2, logarithm, np.trunc(values)))


def _decade(values: Values) -> Tokens:
    return _whole(10 * np.floor(values / 10))


def _whole(values: Values) -> Tokens:
    return np.clip(values, -LARGEST, LARGEST).astype(np.int64).astype(str)
