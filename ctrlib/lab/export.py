"""Run records as tables for other programs: one CSV file an experiment, one row a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib.errors import RecordError, advice
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records
from ctrlib.lab.records import Record
from ctrlib.paths import written_whole

SCORES = ("train", "valid", "test")
TEXT = ("experiment", "dataset", "fingerprint", "model", "label", "status", "error", "commit", "date")
COUNTS = ("seed", "numerics", "parameters", "best_epoch")


def write_csv(folder: Path) -> list[Path]:
    """Write FOLDER/EXPERIMENT.csv with the runs behind each experiment's tables; return the files.

    An experiment that has none and shares none, because its page computes all it shows, has no file. Raises
    `RecordError` when a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in exported():
        path = folder / f"{name}.csv"
        try:
            with written_whole(path) as partial:
                flat(experiment_records(name)).to_csv(partial, index=False, lineterminator="\n")
        except OSError as error:
            raise RecordError(f"Could not write {path}: {advice(error)} Then start again.") from error
        written.append(path)
    return written


def exported() -> list[str]:
    """Return the experiments whose tables are made of run records, their own or those of others."""
    return [name for name, about in EXPERIMENTS.items() if about.recorded or about.shares]


def flat(records: list[Record]) -> pd.DataFrame:
    """Return one row for each run. A column's name ends in its unit; settings that are lists are JSON.

    Searches come with the runs: their labels begin with "search:".
    """
    rows = [_row(record) for record in records]
    first = [*_row(_EMPTY)]
    others = sorted({name for row in rows for name in row} - set(first))
    return pd.DataFrame(rows, columns=[*first, *others]).convert_dtypes()


def _row(record: Record) -> dict[str, Any]:
    row = {name: record.get(name) for name in (*TEXT, *COUNTS)}
    row |= {"vary": record.get("vary", "seed"), "training_rows (empty: all)": record.get("rows")}
    for split in SCORES:
        scores = record.get(split) or {}
        row |= {f"{split}_auc (fraction)": scores.get("auc"), f"{split}_logloss (nats)": scores.get("logloss")}
    row["epochs"] = len(record.get("epochs") or [])
    seconds = record.get("seconds") or {}
    row |= {f"{name} (seconds)": seconds.get(name) for name in ("train", "evaluate", "total")}
    row["speed (samples per second)"] = record.get("samples_per_second")
    row["peak_memory (MB)"] = record.get("peak_memory_mb")
    environment = record.get("environment") or {}
    row |= {name: environment.get(name) for name in ("device", "device_name", "precision", "threads")}
    row |= {f"version.{name}": text for name, text in sorted((environment.get("versions") or {}).items())}
    row["parent"] = _plain(record.get("parent"))
    for part in ("settings", "protocol"):
        row |= {f"{part}.{name}": _plain(value) for name, value in record[part].items()}
    return row


def _plain(value: Any) -> Any:
    """Return a value that fits into one cell."""
    return json.dumps(value) if isinstance(value, list | dict) else value


_EMPTY: Record = {"settings": {}, "protocol": {}}
