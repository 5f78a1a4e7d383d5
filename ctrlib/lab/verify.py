"""Run recorded runs again and say whether they agree."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctrlib.errors import RecordError, SettingError
from ctrlib.lab.grid import ensure_weights
from ctrlib.lab.records import Record, load_records, read_record
from ctrlib.lab.run import Run
from ctrlib.lab.runner import environment, make_record
from ctrlib.paths import records_dir
from ctrlib.train import Protocol

TOLERANCE = 1e-6  # of AUC and logloss, on the same kind of device with as many threads
DEVIATIONS = 3.0  # standard deviations over seeds, on another kind


@dataclass(frozen=True)
class Check:
    """One repeated run. difference: largest of test AUC and logloss. allowed: the limit and where it is from."""

    label: str
    seed: int
    difference: float
    allowed: float
    rule: str

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the limit."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        word = "agrees" if self.agrees else "DIFFERS"
        return f"{self.label} seed {self.seed}: {word}, {self.difference:.2e} (allowed {self.allowed:.2e}, {self.rule})"


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

    Raises `RecordError` when there is no completed record, or the data's fingerprint is not the recorded one.
    """
    if count < 1:
        raise SettingError(f"The number of runs to repeat is {count}; it must be at least 1.")
    records = [r for r in load_records(experiment, root=root) if r["status"] == "completed"]
    if not records:
        raise RecordError("No completed record is there to verify. Run a grid first: ctrlib run activation.")
    chosen = random.Random(draw).sample(records, min(count, len(records)))
    return [check(record, records, device, threads, root) for record in chosen]


def check(record: Record, records: list[Record], device: str, threads: int, root: Path | None = None) -> Check:
    """Repeat one run and compare it with its record."""
    run = run_of(record, root)
    ensure_weights(run.parents, device=device, root=root)
    again = make_record(run, device=device, threads=threads)
    if again["fingerprint"] != record["fingerprint"]:
        raise RecordError(
            f"{record['label']} seed {record['seed']} was recorded on data {record['fingerprint']}, but "
            f"{record['dataset']} is {again['fingerprint']} here. The record is stale."
        )
    if again["status"] != "completed":
        raise RecordError(f"{record['label']} seed {record['seed']} failed when repeated: {again['error']}")
    difference = max(abs(again["test"][name] - record["test"][name]) for name in ("auc", "logloss"))
    allowed, rule = _limit(record, records, device, threads, root)
    return Check(record["label"], record["seed"], difference, allowed, rule)


def _limit(record: Record, records: list[Record], device: str, threads: int, root: Path | None) -> tuple[float, str]:
    here, there = environment(device, threads), record["environment"]
    if all(here[key] == there[key] for key in ("device", "device_name", "threads")):
        return TOLERANCE, "same kind of device and threads"
    cell = [r for r in records if _cell_of(r, root) == _cell_of(record, root)]
    if len(cell) < 2:
        raise RecordError(f"{record['label']} has one seed: no spread to compare another kind of device with.")
    spread = max(float(np.std([r["test"][name] for r in cell], ddof=1)) for name in ("auc", "logloss"))
    return DEVIATIONS * spread, f"{DEVIATIONS:g} standard deviations over {len(cell)} seeds"


def _cell_of(record: Record, root: Path | None) -> dict[str, object]:
    """Return all that a run's numbers depend on except its seed, whatever settings existed when it was recorded."""
    return {name: value for name, value in run_of(record, root).identity.items() if name != "seed"}
