"""Run records: one JSON file for each run, written whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib.errors import RecordError
from ctrlib.paths import records_dir

Record = dict[str, Any]
READS = "CTRLIB_READS"  # environment: a file that takes down which experiments' records a page reads
TEXT = "text/"  # what begins the note of a page that reads the text of others
REQUIRED = ("experiment", "dataset", "fingerprint", "model", "label", "settings", "protocol", "seed", "status")


def digest(values: dict[str, Any]) -> str:
    """Return eight hexadecimal digits that tell one set of settings from another."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_record(path: Path, record: Record) -> bool:
    """Write `record` to `path` and return True; return False when another process was first.

    The record appears whole under its name or not at all, and an existing one is never replaced. Raises
    `RecordError` when it cannot be written, for example on a full disk.
    """
    partial = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(_text(record))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.link(partial, path)  # fails when the name is taken, unlike a rename
    except FileExistsError:
        return False
    except OSError as error:
        raise RecordError(
            f"Could not write the record {path}: {error.strerror}. No record was damaged; "
            "free some space or choose another folder with CTRLIB_RECORDS, then start again."
        ) from error
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)
    return True


def read_record(path: Path) -> Record:
    """Return the record at `path`. Raises `RecordError` for a file that is cut off or lacks a key."""
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"The record {path} cannot be read ({error}). Move it away; the next start of the grid makes it anew."
        ) from error
    missing = [key for key in REQUIRED if key not in record] if isinstance(record, dict) else list(REQUIRED)
    if missing:
        raise RecordError(f"The record {path} lacks {', '.join(missing)}. Move it away and start the grid again.")
    return dict(record)


def set_aside(path: Path) -> Path:
    """Rename a damaged record so that nothing is lost and its run is made again; return the new name."""
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    target = next(free for name in names if not (free := path.with_name(name)).exists())
    os.replace(path, target)
    return target


def load_records(experiment: str | None = None, dataset: str | None = None, root: Path | None = None) -> list[Record]:
    """Return all records of an experiment and a data set (None: of all), ordered by path.

    Raises `RecordError` for a damaged record, naming the file.
    """
    if root is None:
        note_read(experiment or "*")
    pattern = f"{experiment or '*'}/{dataset or '*'}/*/seed-*.json"
    return [read_record(path) for path in sorted((root or records_dir()).glob(pattern))]


def note_read(what: str) -> None:
    """Take down that this page reads an experiment's records ("*": all) or what else, where the build asks for it."""
    if path := os.environ.get(READS):
        with open(path, "a", encoding="utf8") as file:
            file.write(f"{what}\n")


def frame(records: list[Record]) -> pd.DataFrame:
    """Return one row for each run, with flat columns (AUC a fraction, logloss in nats, seconds)."""
    rows = []
    for record in records:
        row = {key: record.get(key) for key in ("experiment", "dataset", "fingerprint", "model", "label", "seed")}
        row |= {key: record.get(key) for key in ("status", "error", "best_epoch", "parameters", "numerics")}
        row["vary"] = record.get("vary", "seed")  # older records vary nothing else
        for split in ("train", "valid", "test"):  # older records have no training scores
            scores = record.get(split) or {}
            row |= {f"{split}_{name}": scores.get(name) for name in ("auc", "logloss")}
        epochs = record.get("epochs") or []
        train = (record.get("seconds") or {}).get("train")
        row |= {"num_epochs": len(epochs), "train_seconds": train, "date": record.get("date")}
        row["epoch_seconds"] = _epoch_seconds(epochs)
        environment = record.get("environment") or {}
        row |= {"device": environment.get("device"), "threads": environment.get("threads")}
        row |= {f"settings.{name}": _hashable(value) for name, value in record["settings"].items()}
        row |= {f"protocol.{name}": value for name, value in record["protocol"].items()}
        rows.append(row)
    columns = None if rows else ["experiment", "dataset", "model", "label", "seed", "status"]
    return pd.DataFrame(rows, columns=columns)


def _hashable(value: Any) -> Any:
    """Return lists and dicts, inner ones too, as tuples, so that pandas can group by them."""
    if isinstance(value, dict):
        value = sorted(value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _epoch_seconds(epochs: list[dict[str, float]]) -> float | None:
    if not epochs:
        return None
    return statistics.median(epoch["train_seconds"] + epoch["evaluate_seconds"] for epoch in epochs)


def _text(record: Record) -> str:
    """Return the JSON text, with one line for each epoch so that a record stays readable and short."""
    epochs = record.get("epochs")
    text = json.dumps(record | ({"epochs": "@"} if epochs else {}), indent=1)
    lines = ",\n  ".join(json.dumps(epoch) for epoch in epochs or [])
    return text.replace('"@"', f"[\n  {lines}\n ]", 1) + "\n"
