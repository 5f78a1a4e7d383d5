"""A person's own runs beside the recorded ones: do they agree, and would any verdict change?

A cell is one set of settings on one data set; its folder of records names it. Its recorded seeds give an interval in
which the mean of as many further seeds as the person made lies with probability 0.95, if scores are normal
(`stats.prediction_interval`). They often are not: with few seeds, a run that stuck on a plateau makes the interval too
narrow or too wide. So the number of cells inside is judged by what the same scores would give if a lot decided which of
a cell's seeds are the person's: that holds for scores of any distribution. Where the person took recorded seeds again,
the sides share part of their noise, and more cells lie inside.

With one or two cells no count is beyond chance, and the verdict says that it cannot tell. A cell that is far off, whose
mean is useless beside every recorded run of it, is told in any case (`_far_off`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.errors import RecordError, SettingError
from ctrlib.lab.claims import Claim, evaluate_claims, load_claims
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.judged import HOSTS, judged_runs, of_runs
from ctrlib.lab.records import Record, read_record
from ctrlib.lab.search import SEARCH
from ctrlib.lab.stats import ALPHA, BOOTSTRAP_SEED, DRAWS, MARGIN, prediction_factor, prediction_interval, summary
from ctrlib.lab.verify import TOLERANCE

METRICS = {"auc": "test AUC", "logloss": "test logloss"}
FAR = 2  # far off: the distance of AUC from chance divided by so much, or logloss times so much
CHANCE, AT_CHANCE = 0.5, 0.01  # AUC of a guess, and how near to it a recorded AUC counts as one
MOST_ERRORS = 3  # told of failed runs
Records = Mapping[str, Record]  # path under the records folder -> record


def stored(folder: Path) -> dict[str, Record]:
    """Return all records below a folder by their paths. Raises `RecordError` for a damaged one."""
    paths = sorted(folder.glob("*/*/*/seed-*.json"))
    return {path.relative_to(folder).as_posix(): read_record(path) for path in paths}


def compare_cells(own: Records, recorded: Records) -> pd.DataFrame:
    """Return one row for each metric and cell that both sides completed; searches are left out.

    Columns: metric, experiment, dataset, label, seeds and mean of each side, the interval (low, high) for the person's
    mean, gap (own - recorded mean), inside and far (`_far_off`). With a single recorded seed there is no interval, and
    no row.
    """
    ours, theirs = _scores(recorded), _scores(own)
    rows = []
    for (cell, metric), values in theirs.items():
        known = ours.get((cell, metric), {})
        if len(known) < 2:
            continue
        low, high = prediction_interval(known.values(), len(values))
        mean, before = summary(values.values()).value, summary(known.values()).value
        experiment, dataset, _ = cell.split("/")
        label = next(r["label"] for path, r in own.items() if _cell(path) == cell)
        row = {"metric": metric, "experiment": experiment, "dataset": dataset, "label": label}
        row |= {"recorded_seeds": len(known), "own_seeds": len(values), "recorded_mean": before, "own_mean": mean}
        inside = low - TOLERANCE <= mean <= high + TOLERANCE
        row |= {"low": low, "high": high, "gap": mean - before, "inside": inside}
        rows.append(row | {"far": _far_off(metric, mean, known.values())})
    return pd.DataFrame(rows)


def _far_off(metric: str, mean: float, known: Collection[float]) -> bool:
    """Tell whether a mean is useless beside every recorded score of its cell.

    Its AUC keeps less than half of what the worst recorded seed has above chance, or its logloss is more than double
    the worst. Where recorded AUC is at chance itself, nothing is far off by AUC. A run that sticks on a plateau stays
    well within: of our recorded runs, held against other seeds of their cell, none is far off.
    """
    if metric == "logloss":
        return mean > FAR * max(known)
    worst = min(known) - CHANCE
    return worst > AT_CHANCE and FAR * (mean - CHANCE) < worst


def _scores(records: Records) -> dict[tuple[str, str], dict[int, float]]:
    """Return (cell, metric) -> seed -> score of the completed runs that are no search."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for path, record in records.items():
        if record["status"] == "completed" and not record["label"].startswith(SEARCH):
            for metric in METRICS:
                found.setdefault((_cell(path), metric), {})[record["seed"]] = record["test"][metric]
    return found


def _cell(path: str) -> str:
    return path.rsplit("/", 1)[0]


def repeated(own: Records, recorded: Records) -> tuple[int, int]:
    """Return how many completed runs both sides made with the same seed, and how many of them score the same."""
    pairs = [
        (record["test"], recorded[path]["test"])
        for path, record in own.items()
        if path in recorded and {record["status"], recorded[path]["status"]} == {"completed"}
        if not record["label"].startswith(SEARCH)
    ]
    same = [all(abs(a[metric] - b[metric]) <= TOLERANCE for metric in METRICS) for a, b in pairs]
    return len(pairs), sum(same)


def by_lot(own: Records, recorded: Records, draws: int = DRAWS, seed: int = BOOTSTRAP_SEED) -> dict[str, NDArray[Any]]:
    """Return for each metric how many cells lie inside in each of `draws` lots (K,).

    A lot draws anew, in every cell, which of its scores are the person's.
    """
    ours, theirs = _scores(recorded), _scores(own)
    random = np.random.default_rng(seed)
    found = {metric: np.zeros(draws, dtype=int) for metric in METRICS}
    for (cell, metric), values in theirs.items():
        known = list(ours.get((cell, metric), {}).values())
        if len(known) < 2:
            continue
        both_S = np.array([*known, *values.values()])
        drawn_KS = random.permuted(np.tile(both_S, (draws, 1)), axis=1)
        first_KM, rest_KN = drawn_KS[:, : len(known)], drawn_KS[:, len(known) :]
        half_K = prediction_factor(len(known), len(values)) * first_KM.std(axis=1, ddof=1)
        found[metric] += np.abs(rest_KN.mean(axis=1) - first_KM.mean(axis=1)) <= half_K + TOLERANCE
    return found


def verdict(own: Records, recorded: Records) -> list[str]:
    """Return in words whether a person's runs agree with the recorded ones, one line a sentence.

    Failed runs come first. The runs differ where a cell is far off, or where fewer than one lot in forty, by AUC or by
    logloss, leaves so few cells inside (`by_lot`). Where lots leave none inside more often than that, or would even if
    the two sides had nothing in common, there are too few cells to tell.
    """
    return [*_failures(own), *_judgement(own, recorded)]


def _failures(own: Records) -> list[str]:
    """Return in words how many of a person's runs failed, and of what; nothing where none did."""
    failed = [record for record in own.values() if record["status"] == "failed"]
    if not failed:
        return []
    errors = Counter(f"{r['dataset']} {r['label']}: {_first_line(r.get('error'))}" for r in failed)
    lines = [f"{len(failed)} of your {_counted(len(own), 'run')} FAILED."]
    lines += [f"  failed: {error} ({_seeds(count)})" for error, count in errors.most_common(MOST_ERRORS)]
    if len(errors) > MOST_ERRORS:
        lines.append(f"  and {len(errors) - MOST_ERRORS} more")
    return lines


def _first_line(error: str | None) -> str:
    return (error or "").strip().partition("\n")[0] or "no reason is recorded"


def _judgement(own: Records, recorded: Records) -> list[str]:
    table = compare_cells(own, recorded)
    if table.empty:
        return ["Nothing to compare: no cell has a completed run of yours and two recorded seeds."]
    lots = by_lot(own, recorded)
    lines, agrees, tells = [], True, False
    for metric, rows in table.groupby("metric", sort=False):
        inside = int(rows["inside"].sum())
        counts = lots[str(metric)]
        agrees &= float((counts <= inside).mean()) >= ALPHA / 2
        tells |= max(float((counts == 0).mean()), _rarest(rows)) < ALPHA / 2
        low, high = np.quantile(counts, [ALPHA / 2, 1 - ALPHA / 2], method="nearest")
        lines.append(
            f"{METRICS[str(metric)]}: {inside} of {_counted(len(rows), 'cell')} {_verb(inside, len(rows))} inside the "
            f"interval for as many seeds as you made; by chance {low} to {high} would."
        )
        lines += [f"  FAR OFF: {_gap(row)}" for row in _worst_first(rows[rows["far"]])]
        lines += [f"  outside: {_gap(row)}" for row in _worst_first(rows[~rows["inside"] & ~rows["far"]])]
    cells = _counted(int((table["metric"] == "auc").sum()), "cell")
    again, same = repeated(own, recorded)
    first = f"Your runs agree with the recorded ones, as far as {cells} can tell."
    if far := table.loc[table["far"], ["experiment", "dataset", "label"]].drop_duplicates().shape[0]:
        is_far = "is" if far == 1 else "are"
        first = (
            f"Your runs DIFFER from the recorded ones: {far} of {cells} {is_far} far worse than every recorded seed."
        )
        lines.append(
            "Far off: AUC keeps less than half of what the worst recorded seed has above chance, or logloss is more "
            "than double the worst. Look at the data and the versions first."
        )
    elif not agrees:
        first = "Your runs DIFFER from the recorded ones: fewer cells lie inside than chance explains."
        lines.append("Cells share seeds, so a rare seed may carry several outside: more seeds would tell.")
    elif again and same == sum(len(values) for (_, metric), values in _scores(own).items() if metric == "auc"):
        first = "Your runs give the recorded figures again, seed by seed."
    elif not tells:
        first = f"Too few cells to tell whether your runs agree: by chance alone all of {cells} may lie outside."
    if again:
        lines.append(_told_again(again, same))
    return [first, *lines]


def _rarest(rows: pd.DataFrame) -> float:
    """Return the probability that a lot takes, in all cells, just those seeds that are the person's."""
    sides = zip(rows["recorded_seeds"], rows["own_seeds"], strict=True)
    return math.prod(1 / math.comb(known + own, own) for known, own in sides)


def _told_again(again: int, same: int) -> str:
    if again == 1:
        return f"1 of your runs repeats a recorded seed and gives {'the same' if same else 'other'} figures."
    gives = "gives" if same == 1 else "give"
    return f"{again} of your runs repeat a recorded seed; {same} of them {gives} the same figures."


def _verb(count: int, total: int) -> str:
    return "lies" if count == 1 or total == 1 else "lie"


def _worst_first(rows: pd.DataFrame) -> list[Any]:
    order = (rows["gap"].abs() / (rows["high"] - rows["low"]).clip(lower=TOLERANCE)).sort_values(ascending=False)
    return list(rows.loc[order.index].itertuples())


def _gap(row: Any) -> str:
    small = "; too small to matter" if row.metric == "auc" and abs(row.gap) <= MARGIN else ""
    return (
        f"{row.dataset} {row.label}: yours {row.own_mean:.4f} ({_seeds(row.own_seeds)}), "
        f"recorded {row.recorded_mean:.4f} ({_seeds(row.recorded_seeds)}), "
        f"expected {row.low:.4f} to {row.high:.4f}, gap {row.gap:+.4f}{small}"
    )


def _seeds(count: int) -> str:
    return _counted(count, "seed")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def changed_claims(experiment: str, own: Records, recorded: Records) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each claim and data set that both sides judge: id, dataset, before, after, seeds, changed.

    Each side is judged by its own run records alone, with what is derived from them. Claims about what is measured,
    counted or timed on networks are left out (`judged.of_runs`): run records do not hold it. With the table comes, in
    words, which data sets a side cannot judge, and why.
    """
    claims = [claim for claim in load_claims() if claim.experiment == experiment and of_runs(claim)]
    sides = {name: _judged(experiment, side, claims) for name, side in (("the recorded", recorded), ("your", own))}
    refused = [f"{data} by {name} runs: {why}" for name, (_, part) in sides.items() for data, why in part.items()]
    before, after = (table for table, _ in sides.values())
    if before.empty or after.empty:
        return pd.DataFrame(columns=["id", "dataset", "before", "after", "seeds", "changed"]), refused
    both = before.merge(after, on=["id", "dataset"], suffixes=("_before", "_after"))
    both = both.rename(columns={"outcome_before": "before", "outcome_after": "after", "seeds_after": "seeds"})
    return both.assign(changed=both["before"] != both["after"]), refused


def _judged(experiment: str, records: Records, claims: Sequence[Claim]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return id, dataset, outcome and seeds of the claims that these records can judge, and data set -> its error."""
    wanted = {experiment, *EXPERIMENTS[experiment].shares}
    used = [
        record
        for record in records.values()
        if record["experiment"] == experiment
        or (record["experiment"] in wanted and not record["label"].startswith(SEARCH))
    ]
    found, refused = [], {}
    for dataset in sorted({record["dataset"] for record in used}) if claims else []:
        part = [record for record in used if record["dataset"] == dataset]
        try:
            for runs in judged_runs(experiment, part, measured=False).values():  # one, or none without a result run
                found.append(evaluate_claims(runs, experiment, dataset, claims).assign(dataset=dataset))
        except (RecordError, SettingError) as error:
            refused[dataset] = str(error)  # this side lacks a search, or holds one label with several settings
    rows = pd.concat(found) if found else pd.DataFrame(columns=["id", "dataset", "outcome", "seeds"])
    return rows.loc[rows["outcome"] != "not measured", ["id", "dataset", "outcome", "seeds"]], refused


def told_claims(experiment: str, own: Records, recorded: Records, *, joined: bool = False) -> list[str]:
    """Return in words which verdicts a person's runs change, one line each after the count, and what is left out.

    joined: `own` holds the recorded runs too.
    """
    asked = [claim for claim in load_claims() if HOSTS.get(claim.experiment, claim.experiment) == experiment]
    if not asked:
        return ["This chapter judges no claim."]
    table, refused = changed_claims(experiment, own, recorded)
    side = "your runs among the recorded ones" if joined else "your runs alone"
    other = table[table["changed"].astype(bool)]
    verdicts = _counted(len(table), "verdict")
    are = "is" if len(table) == 1 or len(table) - len(other) == 1 else "are"
    first = f"Claims: {len(table) - len(other)} of {verdicts} {are} the same with {side}."
    if table.empty:
        first = f"No claim can be judged both by the recorded runs and by {side}."
    return [
        first,
        *(
            f"  {r.id} on {r.dataset}: {r.before} -> {r.after} ({_seeds(int(str(r.seeds)))})"
            for r in other.itertuples()
        ),
        *(f"  not judged: {one}" for one in refused),
        *_left_out(asked, set(table["id"])),
    ]


def _left_out(claims: Sequence[Claim], judged: Collection[str]) -> list[str]:
    """Return in words how many claims are not among the `judged` ones, a line for each reason."""
    measured = sum(not of_runs(claim) for claim in claims)
    lacking = sum(of_runs(claim) and claim.id not in judged for claim in claims)
    reasons = {
        "about what is measured, counted or timed on networks: run records do not hold it": measured,
        "that cannot be judged by the runs of both sides": lacking,
    }
    return [f"  left out: {_counted(count, 'claim')} {why}." for why, count in reasons.items() if count]
