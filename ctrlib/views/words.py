"""Numbers and differences in the words of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

MOST_LISTED = 7  # rows; of more only the extremes are named


def findings(title: str, points: Sequence[str]) -> str:
    """Return, as markdown, `title` in bold and a bullet for each of `points`; empty points are left out."""
    told = [f"- {point}" for point in points if point]
    return f"**{title}**\n\n" + "\n".join(told or ["- Not measured yet."])


def estimate(value: float, low: float, high: float, digits: str = "+.2f", unit: str = "") -> str:
    """Return a number with its interval, such as "+0.61 points [-0.20, +1.42]"; without one where there is none."""
    interval = f" [{low:{digits}}, {high:{digits}}]" if math.isfinite(low + high) else ""
    return f"{value:{digits}}{unit}{interval}"


def listing(rows: pd.DataFrame, name: str = "name") -> str:
    """Return the differences of `against` or `gaps` with their outcomes in words, the lowest first.

    name: the column with the names of the rows. Of more than seven rows only the extremes and those that a test decides
    are named; where these are too many, the extremes of each outcome. The rest is counted.
    """
    rows = rows.dropna(subset="difference").sort_values("difference").reset_index(drop=True)
    if rows.empty:
        return "not measured"
    named = set(rows.index if len(rows) <= MOST_LISTED else [0, len(rows) - 1])
    for _, part in rows[rows["outcome"].isin(["better", "worse"])].groupby("outcome"):
        named |= set(part.index if len(part) <= MOST_LISTED else part.index[[0, -1]])
    told = [f"{row[name]} {row['difference']:+.2f} ({row['outcome']})" for _, row in rows.loc[sorted(named)].iterrows()]
    rest = rows.drop(index=sorted(named))["outcome"].value_counts()
    return "; ".join(
        told + [f"{count} {'other' if count == 1 else 'others'} {outcome}" for outcome, count in rest.items()]
    )


def seeds_told(runs: pd.DataFrame) -> str:
    """Return the seeds of some runs in words, such as "seeds 1, 2, 3"."""
    seeds = sorted(runs["seed"].unique())
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}" if seeds else "no seed"


def setting(value: Any) -> Any:
    """Return a setting as the book prints it: widths as 300×300, switches as on and off, others as they are."""
    if isinstance(value, list | tuple):
        return "×".join(map(str, value))
    return ("on" if value else "off") if isinstance(value, bool | np.bool_) else value
