"""What all measurements share: processes with a number of threads, medians with their range, files of results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from typing import Any

from ctrlib.errors import CtrlibError, SettingError
from ctrlib.paths import measurements_dir, written_whole


def measurement(name: str) -> dict[str, Any]:
    """Return the content of data/measurements/NAME.json, or an empty dict when nothing was measured yet."""
    path = measurements_dir() / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf8"))) if path.exists() else {}


def write_measurement(name: str, found: dict[str, Any]) -> None:
    """Write data/measurements/NAME.json, whole or not at all."""
    path = measurements_dir() / f"{name}.json"
    with written_whole(path) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


def checked_threads(repeats: int, threads: int | None) -> int:
    """Return the number of threads, by default all cores. Raises `SettingError` for fewer than one of either."""
    if repeats < 1 or (threads is not None and threads < 1):
        raise SettingError(f"repeats must be at least 1, and so must threads; they are {repeats} and {threads}.")
    return threads or os.cpu_count() or 1


def process_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, minimum, maximum and number of the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repeats": len(values)}


def last_line(command: list[str], threads: int, what: str) -> Any:
    """Run a command that prints JSON in its last line; return what it says. Raises `CtrlibError` when it fails."""
    done = subprocess.run(command, env=process_environment(threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CtrlibError(f"{what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
