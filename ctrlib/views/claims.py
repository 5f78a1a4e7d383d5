"""Verdicts on claims as pages show them: tables, and the numbers that decide a claim in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ctrlib.errors import unknown
from ctrlib.figures import Table
from ctrlib.lab.claims import Claim, evaluate_claims, load_claims, printed_effects
from ctrlib.views.chapter import display
from ctrlib.views.runs import Columns, table
from ctrlib.views.words import estimate

VERDICT_COLUMNS: Columns = {
    "sentence": ("claim", ""),
    "verdict": ("verdict", ""),
    "told": ("effect", ""),
    "seeds_told": ("seeds", ""),
    "printed": ("in the paper", ""),
}
TEST_COLUMNS: Columns = {
    "sentence": ("claim", ""),
    "reading": ("how it is tested", ""),
    "compared": ("what was compared", ""),
    "remark": ("remark", ""),
}

SMALLEST = 5e-7  # less than this is shown as zero
MOST_DECIMALS = 6

UNITS = {  # ending of a metric -> scale, decimals, unit; other metrics are shown as they are
    "auc": (100, 2, " points of AUC"),
    "logloss": (1, 4, " nats"),
    "logloss_gap": (1, 4, " nats"),
    "accuracy": (100, 1, " points of accuracy"),
    "kept": (100, 1, " points"),
    "wrong": (100, 1, " points"),
    "mended": (100, 1, " points"),
    "confident": (100, 2, " points"),
    "mse": (1, 5, ""),
    "main_squared": (1, 5, ""),
    "correlation": (1, 3, ""),
    "concentration": (1, 3, ""),
    "turning": (1, 2, " radians for each unit of length"),
    "best_epoch": (1, 1, " epochs"),
    "num_epochs": (1, 1, " epochs"),
    "parameters": (1, 0, " parameters"),
    "multiply_adds": (1, 0, " multiply-adds"),
    "scaling slope": (100, 3, " points of AUC for each doubling"),
    "latency": (1, 3, " ms"),
    "log2_latency": (1, 2, " doublings of time"),
    "log2_seconds": (1, 2, " doublings of time"),
}


def verdicts(runs: Mapping[str, pd.DataFrame], experiment: str, shown: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Show the verdicts on an experiment's claims on each data set, then how each is tested; return them."""
    found = {name: evaluate_claims(runs[name], experiment, name) for name in shown}
    for name, rows in found.items():
        display(verdict_table(rows, name))
    if found:
        display(test_table(found))
    return found


def verdict_table(verdicts: pd.DataFrame, dataset: str) -> Table:
    """Return the table of `evaluate_claims`: each claim with its verdict, the effect, and the effect in the paper."""
    claims = {claim.id: claim for claim in load_claims()}
    measured = verdicts["outcome"] != "not measured"
    told = [
        effect(row, row["id"]) if has else (row["compared"] if row["at_chance"] else None)
        for has, (_, row) in zip(measured, verdicts.iterrows(), strict=True)
    ]
    printed = [_in_the_paper(claims[name]) for name in verdicts["id"]]
    rows = verdicts.assign(told=_texts(told, verdicts), printed=_texts(printed, verdicts))
    uneven = rows["fewest"] < rows["most"]
    spread = rows["seeds"].astype(str) + " (" + rows["fewest"].astype(str) + " to " + rows["most"].astype(str) + ")"
    rows["seeds_told"] = rows["seeds"].astype(object).mask(uneven, spread)
    caption = f"Verdicts on {dataset}."
    if uneven.any():
        caption += " Seeds are those of the pair whose effect is shown, in brackets those of all pairs."
    return table(rows if any(printed) else rows.drop(columns="printed"), VERDICT_COLUMNS, caption)


def _in_the_paper(claim: Claim) -> str | None:
    """Return the effect that the paper's table has, of several data sets the lowest and the highest."""
    effects = printed_effects(claim)
    ends = sorted(effects, key=lambda name: effects[name])
    told = [f"{in_units(claim, effects[name])} ({name})" for name in dict.fromkeys((*ends[:1], *ends[-1:]))]
    return " to ".join(told) or None


def _texts(values: Sequence[str | None], like: pd.DataFrame) -> pd.Series[Any]:
    return pd.Series(values, index=like.index, dtype=object)


def test_table(verdicts: Mapping[str, pd.DataFrame]) -> Table:
    """Return how each claim is tested and what was compared, folded up. verdicts: data set -> `evaluate_claims`."""
    whole = pd.concat([rows.assign(data=name) for name, rows in verdicts.items()], ignore_index=True)
    measured = whole[whole["outcome"] != "not measured"]
    compared = (measured["data"] + ": " + measured["compared"]).groupby(measured["id"]).agg("; ".join)
    rows = whole.drop_duplicates("id")
    inside = table(rows.assign(compared=rows["id"].map(compared)), TEST_COLUMNS, "Labels are those of the records.")
    summary = "<summary>How each claim was tested</summary>"
    return Table(f'<div class="ctr-fold"><details>{summary}{inside.html}</details></div>', inside.text)


def answer(question: str, verdicts: pd.DataFrame, claim: str, *, lead: str = "", told: str = "") -> str:
    """Return a finding: a question, the numbers that decide it, and the verdict on a claim.

    verdicts: rows of `evaluate_claims`. claim: the id of the one that affirms the question. lead: words before
    the numbers. told: words in place of the numbers; they also stand where the claim is not measured. Raises
    `SettingError` for a claim without a verdict.
    """
    rows = verdicts[verdicts["id"] == claim]
    if rows.empty:
        raise unknown("claim", claim, verdicts["id"])
    row = rows.iloc[0]
    if row["outcome"] == "not measured":
        return (
            f"{question} {told}; the claim needs more runs: *not measured*." if told else f"{question} *Not measured.*"
        )
    numbers = told or " ".join(part for part in (lead, effect(row, claim)) if part)
    return f"{question} {numbers}: *{row['verdict']}*."


def effect(row: pd.Series[Any], name: str) -> str:
    """Return the effect of a claim with its interval, of several pairs the weakest, and a rank where one is claimed.

    What has to be known beside it, such as a test that does not agree, follows in brackets.
    """
    claim = next(claim for claim in load_claims() if claim.id == name)
    pairs = row["pairs"]
    told = in_units(claim, row["effect"], row["low"], row["high"])
    if claim.kind == "rank-first" and "; rank of " in row["compared"]:
        place = row["compared"].rsplit(": ", 1)[-1]
        told = f"Rank {place}{', counted from the lowest' if claim.sign < 0 else ''}; {told}"
    if claim.kind == "share":
        told = f"{told} of {pairs} comparisons"
    elif pairs > 1:
        told = f"{told} in the weakest of {pairs} comparisons"
    return f"{told} ({row['note']})" if row["note"] else told


def seeds_of(row: pd.Series[Any]) -> str:
    """Return the seeds behind the effect of a claim in words, and those of all its pairs where they differ."""
    told = f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}"
    return f"{told} ({row['fewest']} to {row['most']} over all pairs)" if row["fewest"] < row["most"] else told


def in_units(claim: Claim, value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return an effect on a claim's metric with its interval and its unit, such as "+0.61 points of AUC"."""
    scale, decimals, unit = (100, 0, " %") if claim.kind == "share" else _unit(claim)
    shown = [abs(scale * number) for number in (value, low, high) if math.isfinite(number)]
    while decimals < MOST_DECIMALS and any(SMALLEST <= number < 0.5 * 10**-decimals for number in shown):
        # No end of an interval is rounded to the zero that it may exclude; a number alone is shown as papers print it.
        decimals = decimals + 1 if math.isfinite(low + high) else MOST_DECIMALS
    digits = f"{'' if claim.kind in ('level', 'share') else '+'}z,.{decimals}f"  # z: no minus sign before a zero
    return estimate(scale * value, scale * low, scale * high, digits, unit)


def _unit(claim: Claim) -> tuple[float, int, str]:
    metric = f"{claim.experiment} {claim.metric}"  # two experiments have a slope
    fitting = [ending for ending in UNITS if metric.endswith(ending)]
    return UNITS[max(fitting, key=len)] if fitting else (1, 2, "")
