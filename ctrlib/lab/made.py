"""Runs that a chapter makes for its claims while the book is built, left for the pages that are executed after it.

They are no records: the next build makes them again. Outside a build nothing is left and nothing is found.
"""

from __future__ import annotations

import json

import pandas as pd

from ctrlib.lab.records import note_read
from ctrlib.paths import made_dir

LEFT = "left/"  # what begins the note of a page that reads what another left


def leave(name: str, runs: pd.DataFrame) -> None:
    """Leave a frame under a name for later pages of this build; outside a build do nothing."""
    if folder := made_dir():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.json"
        part.write_text(json.dumps(runs.to_dict("list")), encoding="utf8")  # floats come back unchanged
        part.replace(folder / f"{name}.json")


def left(name: str) -> pd.DataFrame | None:
    """Return the frame that an earlier page of this build has left under a name; None where there is none."""
    note_read(f"{LEFT}{name}")
    folder = made_dir()
    path = folder / f"{name}.json" if folder else None
    if path is None or not path.exists():
        return None
    return pd.DataFrame(json.loads(path.read_text(encoding="utf8")))
