"""What a table must be like before it is encoded, and errors that name the place where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.data.schema import Field
from ctrlib.errors import DataError, nearest


def check_frame(frame: pd.DataFrame, fields: Sequence[Field], label: str, where: str) -> None:
    """Raise DataError for an absent column, no rows, a label other than 0 or 1, or a missing number."""
    check_columns(frame, [label, *(field.name for field in fields)], where)
    check_count(len(frame), None, where)
    read_labels(frame[label], where)
    for field in fields:
        if field.kind == "numeric":
            read_numbers(frame[field.name], where)


def check_count(rows: int, expected: int | None, where: str) -> None:
    """Raise DataError for no rows, or for another number than is known."""
    if not rows:
        raise DataError(f"{where}: no rows. Training, validation and test each need at least one.")
    if expected is not None and rows != expected:
        raise DataError(
            f"{where}: {rows:,} rows, and {expected:,} are expected. The file is cut short or another version: "
            "fetch it again, or load it with load_table under a name of your own."
        )


def check_columns(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise DataError when a column is absent; the message shows the nearest name."""
    present = list(frame.columns)
    shown = [str(column) for column in present]
    for name in names:
        if name not in present:
            raise DataError(
                f"{where}: no column '{name}'.{nearest(name, shown)} Columns: {', '.join(shown)}.{_separated(shown)}"
            )
        if present.count(name) > 1:
            raise DataError(f"{where}: {present.count(name)} columns are called '{name}'. Rename all but one.")


def _separated(columns: Sequence[str]) -> str:
    """Say what a file with one column that looks like several is separated by."""
    found = {";": "semicolons", "\t": "tabs", "|": "bars"}
    if len(columns) != 1 or not (sign := next((sign for sign in found if sign in columns[0]), "")):
        return ""
    return f" The cells look separated by {found[sign]}: read the file with pandas.read_csv(..., sep={sign!r})."


def read_labels(cells: pd.Series, where: str) -> NDArray[np.float32]:
    """Return the labels (N,) as float32; DataError names the first row whose label is neither 0 nor 1."""
    values = to_numbers(cells)
    wrong = wrong_labels(values)
    if wrong.size:
        raise label_error(str(cells.name), _place(cells, wrong), where)
    return values.astype(np.float32)


def read_numbers(cells: pd.Series, where: str) -> NDArray[np.float64]:
    """Return the numbers (N,) as float64; DataError counts the cells that are missing or not numbers."""
    values = to_numbers(cells)
    wrong = wrong_numbers(values)
    if wrong.size:
        raise number_error(str(cells.name), _place(cells, wrong), where)
    return values


def wrong_labels(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which of the values (N,) are no label."""
    return np.flatnonzero((values != 0) & (values != 1))


def wrong_numbers(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which of the values (N,) are no finite number."""
    return np.flatnonzero(~np.isfinite(values))


def label_error(name: str, place: str, where: str) -> DataError:
    """Return the error for a label that is neither 0 nor 1; `place` is what `place_of` says."""
    return DataError(
        f"{where}: label '{name}' must be 0 or 1, but {place}. Map the labels to 0 and 1 first, for example by "
        f"table['{name}'] = (table['{name}'] == 'yes').astype(int). CTRClassifier takes any two values as they are."
    )


def number_error(name: str, place: str, where: str) -> DataError:
    """Return the error for a cell of a numeric field that is missing or no number."""
    return DataError(
        f"{where}: numeric field '{name}' must hold finite numbers, but "
        f"{place}. Fill these cells (with a point before decimals), drop the rows, or declare the field as "
        "categorical, where a missing cell is out-of-vocabulary."
    )


def to_numbers(cells: pd.Series) -> NDArray[np.float64]:
    """Return the cells (N,) as float64, NaN for one that is no number.

    A date is none: it would become nanoseconds or microseconds, as the column happens to be stored.
    """
    if holds_times(cells):
        return np.full(len(cells), np.nan)
    numbers: NDArray[np.float64] = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def holds_times(cells: pd.Series) -> bool:
    """Tell whether a column holds dates, periods or durations."""
    return cells.dtype.kind in "mM" or isinstance(cells.dtype, pd.PeriodDtype)


def _place(cells: pd.Series, wrong: NDArray[np.intp]) -> str:
    row = cells.index[wrong[0]]  # it counts the rows of the file from 0, unless a person's table has names there
    return place_of(cells.iloc[wrong[0]], int(row if isinstance(row, int | np.integer) else wrong[0]), wrong.size)


def place_of(cell: Any, row: int, count: int) -> str:
    """Say which row is the first wrong one, counted from 0 in the file, what it holds, and how many there are."""
    cell = cell.item() if isinstance(cell, np.generic) else cell  # inf, not np.float64(inf)
    empty = pd.api.types.is_scalar(cell) and (pd.isna(cell) or cell == "")
    shown = "an empty cell" if empty else repr(cell)
    rows = "1 such row" if count == 1 else f"{count} such rows"
    return f"data row {row + 1} has {shown} ({rows})"
