"""Runs that a chapter makes for its claims while the book is built, left for the pages that are executed after it.

They are no records: the next build makes them again. Outside a build nothing is left and nothing is found.
"""

from __future__ import annotations

import pandas as pd

from ctrlib.paths import made_dir


def leave(name: str, runs: pd.DataFrame) -> None:
    """Leave a frame under a name for later pages of this build; outside a build do nothing."""
    if folder := made_dir():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.csv"
        runs.to_csv(part, index=False)  # floats are written so that they are read back unchanged
        part.replace(folder / f"{name}.csv")


def left(name: str) -> pd.DataFrame | None:
    """Return the frame that an earlier page of this build has left under a name; None where there is none."""
    folder = made_dir()
    path = folder / f"{name}.csv" if folder else None
    if path is None or not path.exists():
        return None
    return pd.read_csv(path, float_precision="round_trip", keep_default_na=False, na_values=[""])
