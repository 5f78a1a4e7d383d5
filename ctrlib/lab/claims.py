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
UNJUDGED: dict[str, Any] = {"outcome": "not measured", "negligible": False, "seeds": 0}
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
    outcome (the verdict before it is worded for other data), negligible, effect, low, high, p_holm (of the weakest
    pair), seeds (fewest of a pair), failed (failed runs of these cells), compared, missing (labels without a completed
    run, pairs without a common seed, or a metric that no run has; the verdict is then "not measured"), remark.
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
    found = UNJUDGED | {"compared": _why(missing, known)} if missing else _judge(ours, values)
    row |= {"verdict": _worded(found["outcome"], claim, dataset), **found}
    failed = int((runs["status"] == "failed").sum()) if not runs.empty else 0
    return row | {
        "failed": failed,
        "missing": ", ".join(missing),
        "remark": claim.remark,
    }


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


def comparisons(claim: Claim, values: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair of `claim` from `values` (labels x seeds): effect, interval, test, verdict.

    For loss-ratio the effect is what is left of the allowance: factor x reference loss - the pair's loss.
    """
    contrasts = [_contrast(claim, values, pair) for pair in claim.pairs]
    # Away from 0 the test asks whether the effect differs from the threshold.
    threshold = claim.threshold if claim.kind in ("difference", "rank-first", "level") else 0.0
    tested = tables.adjusted(stats.one_sample(c - threshold) for c in contrasts)
    rows = []
    for (left, right), contrast, (shifted, p) in zip(claim.pairs, contrasts, tested, strict=True):
        found, judged = stats.summary(contrast), _verdict(claim, shifted.interval, p)
        row = {"left": left, "right": right, "effect": found.value, "low": found.low, "high": found.high}
        row |= {"p": shifted.p, "p_holm": p, "seeds": found.n}
        rows.append(row | {"verdict": judged.name, "negligible": judged.negligible})
    return pd.DataFrame(rows).astype({"p": float, "p_holm": float})


def _contrast(claim: Claim, values: pd.DataFrame, pair: Pair) -> pd.Series:
    cells = values.T  # seeds x labels
    if claim.kind == "level":
        return cells[pair[0]]
    difference = cells[pair[0]] - cells[pair[1]]
    if claim.reference is None:
        return difference
    return claim.factor * (cells[claim.reference[0]] - cells[claim.reference[1]]) - difference


def _verdict(claim: Claim, interval: tuple[float, float], p: float | None) -> stats.Verdict:
    if claim.kind == "no-gain":
        return stats.no_gain(interval, claim.sign, claim.tolerance, p=p)
    sign = 1 if claim.kind == "loss-ratio" else claim.sign
    return stats.verdict(interval, sign, claim.tolerance, p=p)


def _judge(claim: Claim, values: pd.DataFrame) -> dict[str, Any]:
    if claim.kind == "share":
        return _judge_share(claim, values)
    table = comparisons(claim, values)
    judged = zip(table["verdict"], table["negligible"], strict=True)
    combined = stats.combine([stats.Verdict(name, bool(flag)) for name, flag in judged])
    weakest = _weakest(claim, table, combined.name)
    return {
        "outcome": combined.name,
        "negligible": combined.negligible,
        **{key: weakest[key] for key in ("effect", "low", "high", "p_holm")},
        "seeds": int(table["seeds"].min()),
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


def _judge_share(claim: Claim, values: pd.DataFrame) -> dict[str, Any]:
    left, right = (values.loc[[pair[i] for pair in claim.pairs]].reset_index(drop=True) for i in (0, 1))
    found = stats.win_share(left, right, direction=claim.sign, margin=claim.tolerance)
    judged = stats.verdict(found.share.interval, 1, 0.0, against=claim.threshold)
    tested = ", ".join(f"{n} {word}" for word, n in found.tested.items())
    return {
        "outcome": judged.name,
        "negligible": False,
        **{"effect": found.share.value, "low": found.share.low, "high": found.share.high, "p_holm": math.nan},
        "seeds": found.share.n,
        "compared": f"{claim.metric}: {found.better} better, {found.tied} tied, {found.worse} worse "
        f"of {len(claim.pairs)}; by paired test {tested}",
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
