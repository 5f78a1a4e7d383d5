"""Run recorded runs again and say whether they agree."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctrlib.errors import DataError, RecordError, SettingError
from ctrlib.lab.grid import ensure_weights
from ctrlib.lab.records import Record, load_records, read_record
from ctrlib.lab.run import Run
from ctrlib.lab.runner import environment, make_record
from ctrlib.paths import records_dir
from ctrlib.train import Protocol

TOLERANCE = 1e-6  # of AUC and logloss, on the same kind of device with as many threads
DEVIATIONS = 3.0  # standard deviations over seeds, on another kind
METRICS = {"auc": "test AUC", "logloss": "test logloss"}


@dataclass(frozen=True)
class Check:
    """One repeated run.

    metric: test AUC or logloss, whichever is further out. difference: of that metric. allowed: its limit. rule: where
    the limit is from. problem: why there is nothing to compare; empty when there is. absent: because its data is not at
    hand, which says nothing about the record.
    """

    label: str
    seed: int
    metric: str = ""
    difference: float = math.nan
    allowed: float = math.nan
    rule: str = ""
    problem: str = ""
    absent: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the run was repeated and the difference is within the limit."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        if self.problem:
            return f"{self.label} seed {self.seed}: not compared. {self.problem}"
        word, limit = "agrees" if self.agrees else "DIFFERS", f"allowed {self.allowed:.2e}, {self.rule}"
        return f"{self.label} seed {self.seed}: {word}, {self.metric} by {self.difference:.2e} ({limit})"


def run_of(record: Record, root: Path | None = None) -> Run:
    """Return the run that a record was made by; those of a stage's parents are read from their records under `root`."""
    root = root or records_dir()
    parents = record.get("parent") or []
    paths = [parents] if isinstance(parents, str) else parents
    return Run(
        experiment=record["experiment"],
        dataset=record["dataset"],
        label=record["label"],
        model=record["model"],
        settings=record["settings"],
        protocol=Protocol(**record["protocol"]),
        seed=record["seed"],
        rows=record.get("rows"),
        parents=tuple(run_of(read_record(root / path), root) for path in paths),
        vary=record.get("vary", "seed"),
    )


def verify(
    count: int,
    *,
    experiment: str | None = None,
    draw: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    root: Path | None = None,
) -> list[Check]:
    """Repeat `count` completed runs drawn at random (`draw` fixes the drawing) and compare test figures.

    On another kind of device than the recorded one only runs are drawn whose cell has several seeds, since their spread
    is the limit. What cannot be repeated, such as a run on data that is not at hand, is told and holds up no other.
    Raises `RecordError` when there is no completed record that can be compared.
    """
    if count < 1:
        raise SettingError(f"The number of runs to repeat is {count}; it must be at least 1.")
    records = [r for r in load_records(experiment, root=root) if r["status"] == "completed"]
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(_cell(record, root), []).append(record)
    limited = [(r, cell) for cell in cells.values() for r in cell if _limits(r, cell, device, threads)]
    if not limited:
        raise RecordError(
            "No completed record is there to verify. Run a grid first: ctrlib run activation."
            if not records
            else "No recorded run can be compared on this kind of device: every cell has one seed, so no spread."
        )
    found = []
    for record, cell in random.Random(draw).sample(limited, min(count, len(limited))):
        try:
            found.append(check(record, cell, device, threads, root))
        except (RecordError, DataError) as error:
            nothing = Check(record["label"], record["seed"], problem=str(error), absent=isinstance(error, DataError))
            found.append(nothing)
    return found


def check(record: Record, cell: list[Record], device: str, threads: int, root: Path | None = None) -> Check:
    """Repeat one run and compare it with its record. cell: the records that differ from it in their seed alone.

    Raises `RecordError` where the data is not the recorded one, the repeated run fails, or there is nothing to measure
    a difference by; `DataError` where the data is not at hand.
    """
    limits, run = _limits(record, cell, device, threads), run_of(record, root)
    if not limits:
        raise RecordError(f"{record['label']} has one seed: no spread to compare another kind of device with.")
    ensure_weights(run.parents, device=device, root=root)
    again = make_record(run, device=device, threads=threads)
    if again["fingerprint"] != record["fingerprint"]:
        raise RecordError(
            f"{record['label']} seed {record['seed']} was recorded on data {record['fingerprint']}, but "
            f"{record['dataset']} is {again['fingerprint']} here. The record is stale."
        )
    if again["status"] != "completed":
        raise RecordError(f"{record['label']} seed {record['seed']} failed when repeated: {again['error']}")
    apart = {name: abs(again["test"][name] - record["test"][name]) for name in METRICS}
    worst = max(METRICS, key=lambda name: apart[name] / limits[name][0])
    return Check(record["label"], record["seed"], METRICS[worst], apart[worst], *limits[worst])


def _limits(record: Record, cell: list[Record], device: str, threads: int) -> dict[str, tuple[float, str]]:
    """Return for each metric how far a repeated run may be from the record, and why; nothing without a spread."""
    here, there = environment(device, threads), record["environment"]
    if all(here[key] == there[key] for key in ("device", "device_name", "threads")):
        return dict.fromkeys(METRICS, (TOLERANCE, "same kind of device and threads"))
    if len(cell) < 2:
        return {}
    rule = f"{DEVIATIONS:g} standard deviations over {len(cell)} seeds"
    spread = {name: float(np.std([r["test"][name] for r in cell], ddof=1)) for name in METRICS}
    return {name: (max(DEVIATIONS * value, TOLERANCE), rule) for name, value in spread.items()}


def _cell(record: Record, root: Path | None) -> str:
    """Return all that a run's numbers depend on except its seed, whatever settings existed when it was recorded."""
    found = run_of(record, root)
    return f"{found.experiment} {found.label} " + json.dumps(found.identity | {"seed": None}, sort_keys=True)
