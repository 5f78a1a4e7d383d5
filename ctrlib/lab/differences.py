"""Where papers, tables, logs and released code differ, and what each difference does to the metrics.

`data/papers/differences.toml` holds one entry for each difference and explains its keys. What an entry says was read;
what it does to a metric comes from run records: `measured` names pairs of cells of an experiment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib.errors import SettingError, unknown
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records, experiment_runs
from ctrlib.lab.records import Record
from ctrlib.lab.tables import PAIR_COLUMNS, Pair, paired_table
from ctrlib.paths import papers_dir

PAPERS = ("QNN-alpha", "DS-MLP")
SOURCES = ("text", "table", "logs", "code", "settings", "benchmark")
KINDS = ("left open", *(f"{one} vs {other}" for one in SOURCES for other in SOURCES))
TOUCHES = ("function", "weights", "cost", "training", "comparison", "data", "wording")


@dataclass(frozen=True)
class Measured:
    """Two cells of an experiment; the effect is the first less the second, paired by seed.

    primary: whether these are the settings that the paper or the released code uses.
    """

    experiment: str
    name: str
    cells: Pair
    primary: bool = False


@dataclass(frozen=True)
class Difference:
    """One difference; the keys are explained in data/papers/differences.toml."""

    id: str
    paper: str
    kind: str
    touches: str
    title: str
    place: str
    first: str
    second: str
    effect: str
    file: str = ""
    executed: bool = True
    reason: str = ""
    forms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chapter: str = ""
    heading: str = ""
    measured: tuple[Measured, ...] = ()
    covers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, choices in {"paper": PAPERS, "kind": KINDS, "touches": TOUCHES}.items():
            if getattr(self, key) not in choices:
                raise unknown(f"{key} of difference '{self.id}':", getattr(self, key), choices)
        if self.executed == bool(self.reason):
            raise SettingError(f"Difference '{self.id}' needs a reason if it is not executed, and none if it is.")
        if self.heading and not self.chapter:
            raise SettingError(f"Difference '{self.id}' names a heading without a chapter. Add the chapter's label.")
        for pair in self.measured:
            if pair.experiment not in EXPERIMENTS:
                raise unknown(f"experiment of difference '{self.id}':", pair.experiment, EXPERIMENTS)
        marked = sum(pair.primary for pair in self.measured)
        if len(self.measured) > 1 and marked != 1:
            raise SettingError(
                f"Difference '{self.id}' measures {len(self.measured)} pairs, {marked} of them primary. Write "
                "primary = true beside the one at the settings that the paper or the released code uses."
            )

    @property
    def primary(self) -> Measured | None:
        """The pair that stands for the difference; None where nothing is measured."""
        marked = [pair for pair in self.measured if pair.primary] or self.measured
        return marked[0] if marked else None

    @property
    def sides(self) -> tuple[str, str]:
        """What `first` and `second` come from, such as ("text", "code")."""
        one, _, other = self.kind.partition(" vs ")
        return (one, other) if other else ("told", "open")


def load_differences(path: Path | None = None) -> tuple[Difference, ...]:
    """Return the differences of `path` (default: data/papers/differences.toml), in its order.

    Raises `SettingError` for an unreadable file, an unknown or missing key or value, or an id used twice.
    """
    path = path or papers_dir() / "differences.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf8")).get("difference", [])
    except (OSError, ValueError) as error:
        raise SettingError(f"The differences in {path} cannot be read: {error}. Correct the file.") from error
    found = tuple(_difference(entry) for entry in entries)
    names = [difference.id for difference in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"{path} has more than one difference called {', '.join(twice)}. Rename one of each.")
    return found


def _difference(entry: dict[str, Any]) -> Difference:
    name = entry.get("id", "(without id)")
    known = [f.name for f in fields(Difference)]
    if strange := [key for key in entry if key not in known]:
        raise unknown(f"key in difference '{name}':", strange[0], known)
    try:
        pairs = tuple(_measured(**pair) for pair in entry.get("measured", ()))
        return Difference(**(entry | {"measured": pairs, "covers": tuple(entry.get("covers", ()))}))
    except TypeError as error:
        raise SettingError(f"Difference '{name}' is incomplete, or has a key too many: {error}.") from error


def _measured(experiment: str, name: str, cells: Sequence[str], primary: bool = False) -> Measured:
    if len(cells) != 2:
        raise SettingError(f"'{name}' compares two cells, not {len(cells)}: {', '.join(cells)}.")
    return Measured(experiment, name, (cells[0], cells[1]), primary)


def effects(differences: Iterable[Difference], metric: str = "test_auc") -> tuple[pd.DataFrame, list[Record]]:
    """Return one row for each measured pair and data set, and the records of the cells that are compared.

    Columns: id, data, name, and those of `paired_table`; the tests are adjusted over the pairs of one experiment on one
    data set. Pairs without a common seed are left out.
    """
    rows: list[pd.DataFrame] = []
    used: list[Record] = []
    pairs = [(difference.id, pair) for difference in differences for pair in difference.measured]
    for experiment in dict.fromkeys(pair.experiment for _, pair in pairs):
        asked = {pair.name: (name, pair.cells) for name, pair in pairs if pair.experiment == experiment}
        labels = {label for _, cells in asked.values() for label in cells}
        records = experiment_records(experiment)
        used += [record for record in records if record["label"] in labels]
        for data in sorted({record["dataset"] for record in records}):
            runs = experiment_runs(experiment, data, [r for r in records if r["dataset"] == data])
            if runs.empty:
                continue
            table = paired_table(runs, {name: cells for name, (_, cells) in asked.items()}, metric)
            table = table[table["seeds"] > 0].reset_index(names="name")
            rows.append(table.assign(id=[asked[name][0] for name in table["name"]], data=data))
    columns = ["id", "data", "name"]
    found = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*columns, *PAIR_COLUMNS])
    order = {difference.id: place for place, difference in enumerate(differences)}
    found = found.sort_values("id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
    return found[[*columns, *(c for c in found.columns if c not in columns)]], used
