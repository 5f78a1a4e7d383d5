"""What a table must be like before it is encoded, and errors that name the place where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.data.schema import Field
from ctrlib.errors import DataError, nearest


def check_frame(frame: pd.DataFrame, fields: Sequence[Field], label: str, where: str) -> None:
    """Raise DataError for an absent column, no rows, a label other than 0 or 1, or a missing number."""
    check_columns(frame, [label, *(field.name for field in fields)], where)
    if not len(frame):
        raise DataError(f"{where}: no rows. Training, validation and test each need at least one.")
    read_labels(frame[label], where)
    for field in fields:
        if field.kind == "numeric":
            read_numbers(frame[field.name], where)


def check_columns(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise DataError when a column is absent; the message shows the nearest name."""
    present = list(frame.columns)
    shown = [str(column) for column in present]
    for name in names:
        if name not in present:
            raise DataError(f"{where}: no column '{name}'.{nearest(name, shown)} Columns: {', '.join(shown)}.")
        if present.count(name) > 1:
            raise DataError(f"{where}: {present.count(name)} columns are called '{name}'. Rename all but one.")


def read_labels(cells: pd.Series, where: str) -> NDArray[np.float32]:
    """Return the labels (N,) as float32; DataError names the first row whose label is neither 0 nor 1."""
    values = _to_numbers(cells)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise DataError(
            f"{where}: label '{cells.name}' must be 0 or 1, but {_place(cells, wrong)}. "
            "Map the labels to 0 and 1 first."
        )
    return values.astype(np.float32)


def read_numbers(cells: pd.Series, where: str) -> NDArray[np.float64]:
    """Return the numbers (N,) as float64; DataError counts the cells that are missing or not numbers."""
    values = _to_numbers(cells)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise DataError(
            f"{where}: numeric field '{cells.name}' must hold finite numbers, but "
            f"{_place(cells, wrong)}. Fill these cells, drop the rows, or declare the field as "
            "categorical, where a missing cell is out-of-vocabulary."
        )
    return values


def _to_numbers(cells: pd.Series) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _place(cells: pd.Series, wrong: NDArray[np.intp]) -> str:
    """Say which row is the first wrong one (the index counts the rows of the file) and how many there are."""
    cell = cells.iloc[wrong[0]]
    shown = "an empty cell" if pd.isna(cell) or cell == "" else repr(cell)
    rows = "1 such row" if wrong.size == 1 else f"{wrong.size} such rows"
    return f"data row {int(cells.index[wrong[0]]) + 1} has {shown} ({rows})"
