"""The papers' claims and their verdicts, computed from run records only.

`data/claims.toml` holds each claim in our own words with the comparison that tests it. A claim is a list of
pairs of cells; its kind says what is asked of them, seed by seed:

- difference: every left - right lies on the claimed side of `threshold`.
- rank-first: the same, where the pairs set one cell against all others; the rank is told too.
- loss-ratio: every left - right is smaller than `factor` times that of the `reference` pair.
- no-gain: no left - right reaches `margin`, left being the side with the addition.
- share: the share of pairs in which left is better lies above `threshold`.
- level: the metric of every one of `cells` lies on the claimed side of `threshold`.

A claim about several pairs is contradicted by any one of them and has another verdict only if all agree.
Tests are Holm-adjusted over the pairs of the claim. The effect shown is that of the pair that speaks
most against the claim, among those that give it its verdict. Where the records are on other data than
the paper's, a reproduced claim "transfers to DATA" and a contradicted one "does not transfer to DATA".

Two kinds of pairs say nothing. A seed in which both sides are at chance counts as missing: neither network learned.
And where both sides have the same value in each seed, a measure such as a share of errors does not vary: undecided.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib import paths
from ctrlib.errors import SettingError, unknown
from ctrlib.lab import published, stats, tables
from ctrlib.lab.tables import Pair

TABLES = ("claim", "untestable")
KINDS = ("difference", "rank-first", "loss-ratio", "no-gain", "share", "level")
DIRECTIONS = {"higher": 1, "lower": -1}
AT_CHANCE = 1e-3  # a network whose test AUC lies within this of one half has not learned
COUNTED = ("parameters", "multiply_adds")  # sizes, which training does not change
SAME_RUNS = ("auc", "logloss", *COUNTED)  # endings of metrics whose equal values mean equal runs or equal sizes
UNJUDGED: dict[str, Any] = {"outcome": "not measured", "negligible": False, "seeds": 0, "fewest": 0, "most": 0}
UNJUDGED |= {"pairs": 0, "note": "", "at_chance": ""}
UNJUDGED |= dict.fromkeys(("effect", "low", "high", "p_holm"), math.nan)


@dataclass(frozen=True)
class Claim:
    """One claim of a paper and the comparison that tests it; the keys are explained in data/claims.toml."""

    id: str
    paper: str
    section: str
    sentence: str
    reading: str  # the claim in a form that runs can decide
    experiment: str
    kind: str
    pairs: tuple[Pair, ...]  # labels (left, right); of a level (cell, "")
    datasets: tuple[str, ...] = ()  # where the paper says it; elsewhere a verdict is about transfer
    metric: str = "test_auc"
    direction: str = "higher"  # the claimed side; for no-gain and share the better side
    margin: float | None = None  # None: 0.0005 for an AUC, 0 for other metrics
    threshold: float = 0.0
    factor: float = 1.0
    reference: Pair | None = None  # for loss-ratio
    substitute: dict[str, str] = field(default_factory=dict)
    pairs_on: dict[str, tuple[Pair, ...]] = field(default_factory=dict)  # data set -> its pairs, in place of `pairs`
    published: str = ""
    remark: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(f"kind of claim '{self.id}':", self.kind, KINDS)
        if self.direction not in DIRECTIONS:
            raise unknown(f"direction of claim '{self.id}':", self.direction, DIRECTIONS)
        if any(not pairs or any(len(pair) != 2 for pair in pairs) for pairs in (self.pairs, *self.pairs_on.values())):
            raise SettingError(f"Claim '{self.id}' needs pairs of two labels each.")
        if any((right == "") != (self.kind == "level") for _, right in self.pairs):
            raise SettingError(f"Claim '{self.id}': a level needs cells, other kinds need pairs.")
        if (self.kind == "loss-ratio") != (self.reference is not None):
            raise SettingError(f"Claim '{self.id}': loss-ratio needs a reference, other kinds have none.")

    @property
    def sign(self) -> int:
        """1 where higher is claimed, -1 where lower is."""
        return DIRECTIONS[self.direction]

    @property
    def tolerance(self) -> float:
        """The equivalence margin in the metric's units."""
        return tables.margin_of(self.metric) if self.margin is None else self.margin

    def on(self, dataset: str) -> Claim:
        """Return the claim as the paper makes it on one data set, by its name there, after `pairs_on`."""
        return replace(self, pairs=self.pairs_on.get(dataset, self.pairs), pairs_on={})

    def ours(self) -> Claim:
        """Return the claim with the labels of our runs, after `substitute`."""
        swap = self.substitute
        pairs = tuple((swap.get(left, left), swap.get(right, right)) for left, right in self.pairs)
        return replace(self, pairs=pairs, substitute={})

    def labels(self) -> list[str]:
        """Return every label that the claim compares, once, in order."""
        used = [*self.pairs, *([self.reference] if self.reference else [])]
        return list(dict.fromkeys(label for pair in used for label in pair if label))


@dataclass(frozen=True)
class Untestable:
    """A statement of a paper that nothing here can decide, and why; `experiment` names the chapter nearest to it."""

    id: str
    paper: str
    section: str
    sentence: str
    experiment: str
    reason: str


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Return the claims of `path` (default: data/claims.toml).

    Raises `SettingError` for an unreadable file, an unknown or missing key, or an id used twice.
    """
    return tuple(_claim(entry) for entry in _entries(path)["claim"])


def load_untestable(path: Path | None = None) -> tuple[Untestable, ...]:
    """Return the statements of `path` (default: data/claims.toml) that are not testable here.

    Raises `SettingError` as `load_claims` does.
    """
    return tuple(_untestable(entry) for entry in _entries(path)["untestable"])


def _entries(path: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Return what the file says of claims and of statements that are not testable, each id once."""
    path = path or paths.root() / "data" / "claims.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"The claims in {path} cannot be read: {error}. Correct the file.") from error
    if strange := [key for key in found if key not in TABLES]:
        raise unknown("table in the file of claims:", strange[0], TABLES)
    entries = {kind: found.get(kind, []) for kind in TABLES}
    names = [entry.get("id", "") for part in entries.values() for entry in part]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"{path} has more than one claim called {', '.join(twice)}. Rename one of each.")
    return entries


def _untestable(entry: dict[str, Any]) -> Untestable:
    known = [f.name for f in fields(Untestable)]
    if strange := [key for key in entry if key not in known]:
        raise unknown(f"key in statement '{entry.get('id')}':", strange[0], known)
    try:
        return Untestable(**entry)
    except TypeError as error:
        raise SettingError(f"Statement '{entry.get('id')}' is incomplete: {error}.") from error


def _claim(entry: dict[str, Any]) -> Claim:
    name = entry.get("id", "(without id)")
    known = [f.name for f in fields(Claim)]
    values = dict(entry)
    if "over" in values:
        names = expand(values.pop("over"), values.pop("skip", ()))
        left, right = values.pop("left", "{}"), values.pop("right", "{}")
        values["pairs"] = [(left.replace("{}", f), right.replace("{}", f)) for f in names]
    if "cells" in values:
        values["pairs"] = [(cell, "") for cell in values.pop("cells")]
    if strange := [key for key in values if key not in known]:
        raise unknown(f"key in claim '{name}':", strange[0], [*known, "over", "skip", "left", "right", "cells"])
    values["pairs"] = tuple(tuple(pair) for pair in values.get("pairs", ()))
    if "pairs_on" in values:
        values["pairs_on"] = {name: tuple(map(tuple, pairs)) for name, pairs in values["pairs_on"].items()}
    values["datasets"] = tuple(values.get("datasets", ()))
    values["reference"] = tuple(values["reference"]) if "reference" in values else None
    try:
        return Claim(**values)
    except TypeError as error:
        raise SettingError(f"Claim '{name}' is incomplete: {error}.") from error


def expand(names: Iterable[str], skip: Iterable[str] = ()) -> list[str]:
    """Return `names` with every range such as "T1..T25" written out, less those in `skip`."""
    found: list[str] = []
    for name in names:
        ends = re.fullmatch(r"(\D+)(\d+)\.\.\1(\d+)", name)
        found += [f"{ends[1]}{i}" for i in range(int(ends[2]), int(ends[3]) + 1)] if ends else [name]
    return [name for name in found if name not in set(skip)]


def evaluate_claims(
    frame: pd.DataFrame, experiment: str, dataset: str, claims: Sequence[Claim] | None = None
) -> pd.DataFrame:
    """Return one row per claim of `experiment`, its verdict computed from the runs in `frame` on `dataset`.

    The frame may hold other data sets; of one cell it may hold one run per seed, so it holds the runs of one
    experiment (`ctrlib.lab.experiments.experiment_runs`). Columns: id, paper, section, sentence, reading, verdict,
    outcome (the verdict before it is worded for other data), negligible, effect, low, high, p_holm, seeds (of the
    weakest pair; of a share the fewest of a pair), fewest and most (seeds of a pair), pairs (judged), note (what to
    know beside the effect), at_chance (pairs left out, since both sides are at chance in every seed), failed (failed
    runs of these cells), compared, missing (labels without a completed run, pairs without a common seed or at chance,
    or a metric that no run has; the verdict is then "not measured"), remark.
    """
    asked = [c for c in (load_claims() if claims is None else claims) if c.experiment == experiment]
    if not asked:
        known = {c.experiment for c in (load_claims() if claims is None else claims)}
        raise unknown("experiment with claims", experiment, known)
    if not frame.empty:
        frame = frame[frame["dataset"] == dataset]
    return pd.DataFrame([_row(claim.on(dataset), frame, dataset) for claim in asked])


def _row(claim: Claim, frame: pd.DataFrame, dataset: str) -> dict[str, Any]:
    ours = claim.ours()
    runs = frame[frame["label"].isin(ours.labels())] if not frame.empty else frame
    known = runs.empty or claim.metric in runs  # what is measured on trained networks stands beside few runs or none
    values = tables.by_seed(runs, claim.metric) if known else pd.DataFrame()
    missing = _missing(ours, values) if known else [claim.metric]
    row = {key: getattr(claim, key) for key in ("id", "paper", "section", "sentence", "reading")}
    row["missing"] = ", ".join(missing)
    if missing:
        found = UNJUDGED | {"compared": _why(missing, known)}
    else:
        found = _judge_learned(ours, values, _at_chance(claim.metric, runs, values))
    row |= {"verdict": _worded(found["outcome"], claim, dataset), **found}
    failed = int((runs["status"] == "failed").sum()) if not runs.empty else 0
    return row | {"failed": failed, "remark": claim.remark}


def _missing(claim: Claim, values: pd.DataFrame) -> list[str]:
    """Return the labels without a completed run, or else the pairs that have no seed in common."""
    present = values.dropna(how="all").index
    if absent := [label for label in claim.labels() if label not in present]:
        return absent
    sets = [[label for label in (*pair, *(claim.reference or ())) if label] for pair in claim.pairs]
    return [" with ".join(cells) for cells in sets if values.loc[cells].dropna(axis=1).empty]


def _why(missing: Sequence[str], known: bool) -> str:
    if not known:
        return f"not measured on any run: {missing[0]}"
    kind = "no seed in common" if " with " in missing[0] else "no completed run"
    return f"{kind}: {', '.join(missing)}"


def _worded(outcome: str, claim: Claim, dataset: str) -> str:
    """Word the outcome for data that the paper did not use."""
    if dataset in claim.datasets:
        return outcome
    transfer = {"reproduced": f"transfers to {dataset}", "contradicted": f"does not transfer to {dataset}"}
    return transfer.get(outcome, outcome)


def _at_chance(metric: str, runs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Return which of `values` (labels x seeds) are of networks that have not learned; none where that is no matter."""
    if metric.endswith(COUNTED) or "test_auc" not in runs:
        return _none_at_chance(values)
    return (tables.by_seed(runs, "test_auc").reindex_like(values) - 0.5).abs() < AT_CHANCE


def _none_at_chance(values: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(False, index=values.index, columns=values.columns)


def _sides(values: pd.DataFrame, chance: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Return both rows of a pair (2, S), empty in the seeds in which both are at chance: their gap says nothing."""
    rows = values.loc[list(pair)]
    return rows.loc[:, ~chance.loc[list(pair)].all()].reindex(columns=values.columns)


def _judge_learned(claim: Claim, values: pd.DataFrame, chance: pd.DataFrame) -> dict[str, Any]:
    """Judge the pairs that are not at chance on both sides in every seed; those are missing.

    A share is one of the pairs that are left. Any other claim can still be contradicted by these, and not upheld.
    """
    lost = [pair for pair in claim.pairs if _contrast(claim, values, pair, chance).dropna().empty]
    left = tuple(pair for pair in claim.pairs if pair not in lost)
    found = _judge(replace(claim, pairs=left), values, chance) if left else UNJUDGED
    if not lost:
        return found
    named = ", ".join(f"{one} with {other}" for one, other in lost)
    if left and (claim.kind == "share" or found["outcome"] == "contradicted"):
        note = "; ".join(part for part in (found["note"], f"without {named}, both at chance") if part)
        return found | {"note": note, "at_chance": named}
    return UNJUDGED | {"compared": f"both sides at chance: {named}", "missing": named, "at_chance": named}


def comparisons(claim: Claim, values: pd.DataFrame, chance: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per pair of `claim` from `values` (labels x seeds): effect, interval, test, verdict.

    For loss-ratio the effect is what is left of the allowance: factor x reference loss - the pair's loss. chance: which
    of the values are of networks at chance, None for none. still: both sides have the same value in each seed, of a
    measure where this decides nothing.
    """
    chance = _none_at_chance(values) if chance is None else chance
    contrasts = [_contrast(claim, values, pair, chance) for pair in claim.pairs]
    # Away from 0 the test asks whether the effect differs from the threshold.
    threshold = claim.threshold if claim.kind in ("difference", "rank-first", "level") else 0.0
    tested = tables.adjusted(stats.one_sample(c - threshold) for c in contrasts)
    rows = []
    for (left, right), contrast, (shifted, p) in zip(claim.pairs, contrasts, tested, strict=True):
        found, judged = stats.summary(contrast), _verdict(claim, shifted.interval, p)
        still = _stands_still(claim, found)
        judged = stats.Verdict("undecided") if still else judged
        row = {"left": left, "right": right, "effect": found.value, "low": found.low, "high": found.high}
        row |= {"p": shifted.p, "p_holm": p, "seeds": found.n}
        rows.append(row | {"verdict": judged.name, "negligible": judged.negligible, "still": still})
    return pd.DataFrame(rows).astype({"p": float, "p_holm": float})


def _contrast(claim: Claim, values: pd.DataFrame, pair: Pair, chance: pd.DataFrame) -> pd.Series:
    """Return what is asked of a pair, for each seed (S,)."""
    if claim.kind == "level":
        return values.T[pair[0]]
    difference = _difference(values, chance, pair)
    if claim.reference is None:
        return difference
    return claim.factor * _difference(values, chance, claim.reference) - difference


def _difference(values: pd.DataFrame, chance: pd.DataFrame, pair: Pair) -> pd.Series:
    left, right = _sides(values, chance, pair).to_numpy(dtype="float64")
    return pd.Series(left - right, index=values.columns)


def _stands_still(claim: Claim, found: stats.Estimate) -> bool:
    return claim.kind != "level" and not claim.metric.endswith(SAME_RUNS) and found.value == 0 and found.sd == 0


def _verdict(claim: Claim, interval: tuple[float, float], p: float | None) -> stats.Verdict:
    if claim.kind == "no-gain":
        return stats.no_gain(interval, claim.sign, claim.tolerance, p=p)
    sign = 1 if claim.kind == "loss-ratio" else claim.sign
    return stats.verdict(interval, sign, claim.tolerance, p=p)


def _judge(claim: Claim, values: pd.DataFrame, chance: pd.DataFrame | None = None) -> dict[str, Any]:
    chance = _none_at_chance(values) if chance is None else chance
    if claim.kind == "share":
        return _judge_share(claim, values, chance)
    table = comparisons(claim, values, chance)
    judged = zip(table["verdict"], table["negligible"], strict=True)
    combined = stats.combine([stats.Verdict(name, bool(flag)) for name, flag in judged])
    weakest = _weakest(claim, table, combined.name)
    return UNJUDGED | {
        "outcome": combined.name,
        "negligible": combined.negligible,
        **{key: weakest[key] for key in ("effect", "low", "high", "p_holm")},
        "seeds": int(weakest["seeds"]),
        "fewest": int(table["seeds"].min()),
        "most": int(table["seeds"].max()),
        "pairs": len(table),
        "note": "; ".join(_notes(claim, table, weakest, chance)),
        "compared": _compared(claim, table, weakest) + _rank(claim, values),
    }


def _weakest(claim: Claim, table: pd.DataFrame, outcome: str) -> pd.Series:
    """Return the row that speaks most against the claim, among those that give it its verdict."""
    sign = {"loss-ratio": 1, "no-gain": -claim.sign}.get(claim.kind, claim.sign)
    deciding = table
    if outcome == "contradicted":
        deciding = table[table["verdict"] == outcome]
    elif outcome == "undecided":
        deciding = table[table["verdict"] != "reproduced"]
    return deciding.iloc[int((sign * deciding["effect"]).to_numpy().argmin())]


def _notes(claim: Claim, table: pd.DataFrame, weakest: pd.Series, chance: pd.DataFrame) -> list[str]:
    """Return what to know beside the effect of the weakest pair, and which networks have not learned."""
    found = []
    threshold = 0.0 if claim.kind in ("loss-ratio", "no-gain") else claim.threshold
    excluded = weakest["low"] > threshold or weakest["high"] < threshold
    if excluded and weakest["verdict"] not in ("reproduced", "contradicted") and weakest["p_holm"] >= stats.ALPHA:
        what = "the threshold" if threshold else "zero"
        found.append(f"excludes {what}, not after adjustment for {int(table['p_holm'].notna().sum())} tests")
    if weakest["still"]:
        found.append("the measure does not vary here")
    if claim.kind != "level" and (alone := _at_chance_alone(claim, chance)):
        found.append(f"did not learn, AUC at chance: {', '.join(alone)}")
    return found


def _at_chance_alone(claim: Claim, chance: pd.DataFrame) -> list[str]:
    """Return the networks at chance beside one that is not, each with the number of its seeds in which that is so."""
    seeds: dict[str, set[Any]] = {}
    for pair in (*claim.pairs, *([claim.reference] if claim.reference else [])):
        left, right = chance.loc[list(pair)].to_numpy(dtype=bool)
        for label, alone in zip(pair, (left & ~right, right & ~left), strict=True):
            seeds.setdefault(label, set()).update(chance.columns[alone])
    return [f"{label} in {len(at)} seed{'' if len(at) == 1 else 's'}" for label, at in seeds.items() if at]


def _compared(claim: Claim, table: pd.DataFrame, weakest: pd.Series) -> str:
    pair = " - ".join(label for label in (weakest["left"], weakest["right"]) if label)
    if claim.reference:
        times = "" if claim.factor == 1 else f"{claim.factor:g} x "
        pair = f"{times}({claim.reference[0]} - {claim.reference[1]}) - ({pair})"
    if len(table) == 1:
        return f"{claim.metric}: {pair}"
    counts = ", ".join(f"{n} {name}" for name, n in table["verdict"].value_counts().items())
    return f"{claim.metric}: {len(table)} {'cells' if claim.kind == 'level' else 'pairs'} ({counts}); weakest {pair}"


def _rank(claim: Claim, values: pd.DataFrame) -> str:
    if claim.kind != "rank-first":
        return ""
    first, labels = claim.pairs[0][0], claim.labels()
    shared = values.loc[labels].dropna(axis=1)
    if shared.empty:
        return ""
    means = claim.sign * shared.mean(axis=1)
    return f"; rank of {first}: {int((means > means[first]).sum()) + 1} of {len(labels)}"


def _judge_share(claim: Claim, values: pd.DataFrame, chance: pd.DataFrame) -> dict[str, Any]:
    sides = [_sides(values, chance, pair) for pair in claim.pairs]
    left, right = (pd.DataFrame([rows.iloc[i] for rows in sides]).reset_index(drop=True) for i in (0, 1))
    found = stats.win_share(left, right, direction=claim.sign, margin=claim.tolerance)
    judged = stats.verdict(found.share.interval, 1, 0.0, against=claim.threshold)
    tested = ", ".join(f"{n} {word}" for word, n in found.tested.items())
    return UNJUDGED | {
        "outcome": judged.name,
        **{"effect": found.share.value, "low": found.share.low, "high": found.share.high, "p_holm": math.nan},
        "seeds": found.share.n,
        "fewest": found.share.n,
        "most": int((left.notna() & right.notna()).sum(axis=1).max()),
        "pairs": len(sides),
        "note": f"by test {found.tested['better']} better, {found.tested['worse']} worse",
        "compared": f"{claim.metric}: {found.better} better, {found.tied} tied, {found.worse} worse "
        f"of {len(sides)}; by paired test {tested}",
    }


def paper_effect(claim: Claim) -> float:
    """Return the effect of `claim` in the paper's printed table, NaN where the table is not at hand."""
    if claim.published != "qnn_table1":
        return math.nan
    values = tables.published_values(claim.metric).to_frame()
    if any(label not in values.index for label in claim.labels()):
        return math.nan
    return float(_judge(claim, values)["effect"])


def printed_effects(claim: Claim) -> dict[str, float]:
    """Return the effect of `claim` on each data set of the table that its section names, of several pairs the weakest.

    Data sets on which the table lacks a cell are left out.
    """
    named = re.search(r"\bTable (\d)", claim.section)
    if not named:
        return {}
    if math.isfinite(first := paper_effect(claim)):
        return {"Criteo": first}
    values = published.printed(claim.paper, int(named[1]), claim.metric)
    effects = {}
    for name in map(str, values):
        there = claim.on(name)
        if values[name].reindex(there.labels()).notna().all():
            effects[name] = float(_judge(there, values[[name]])["effect"])
    return effects
