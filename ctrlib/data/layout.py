"""How the text files of a data set are laid out: which file holds which table, and which field comes of which column.

The same layout serves both ways of reading: whole tables here, and batches in `ctrlib.data.stream_encode`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib.data.checks import check_columns
from ctrlib.data.read import parse
from ctrlib.data.schema import Field
from ctrlib.errors import DataError

Rule = Callable[[str], str]  # text of a cell, "" for an empty one -> token


@dataclass(frozen=True)
class Derived:
    """A field that is made from a column of the file by `rule`, which raises ValueError for a cell it cannot use."""

    column: str
    rule: Rule

    def tokens(self, texts: Iterable[str], where: str) -> list[str]:
        """Return the tokens of some texts. Raises DataError, with the text, for one that the rule refuses."""
        try:
            return [self.rule(text) for text in texts]
        except ValueError as error:
            raise DataError(
                f"{where}: column '{self.column}' cannot be read: {error}. Correct or drop the row."
            ) from error


@dataclass(frozen=True)
class Layout:
    """Text tables of one form.

    files      table ("train", "valid", "test", or "all") -> file name
    separator  between two cells
    header     names of the columns, for files whose first line is a row already
    quoted     True when a cell that holds the separator stands in quotation marks
    derived    field -> how it is made; every other field is the column of its name
    """

    files: Mapping[str, str]
    separator: str = ","
    header: tuple[str, ...] | None = None
    quoted: bool = True
    derived: Mapping[str, Derived] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """Return the column that the field `name` is made from."""
        return self.derived[name].column if name in self.derived else name

    def check(self, columns: Sequence[str], fields: Sequence[Field], label: str, where: str) -> None:
        """Raise DataError when a column that is needed is absent or there twice."""
        check_columns(pd.DataFrame(columns=list(columns)), [label, *(self.source(one.name) for one in fields)], where)

    def read(self, files: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
        """Read the files (name -> path) whole: table -> DataFrame of text, with the derived fields."""
        return {table: self._table(files[name], table) for table, name in self.files.items()}

    def _table(self, path: Path, table: str) -> pd.DataFrame:
        options: dict[str, Any] = {"sep": self.separator, "encoding": "utf-8-sig"}
        if self.header:
            options["names"] = list(self.header)
        if not self.quoted:
            options["quoting"] = csv.QUOTE_NONE
        frame = parse(path, str(path), **options)
        check_columns(frame, [made.column for made in self.derived.values()], str(path))
        made = {}
        for name, how in self.derived.items():
            codes, texts = pd.factorize(frame[how.column].fillna(""))
            tokens = pd.Series(how.tokens(map(str, texts), str(path)), dtype=object)
            made[name] = tokens.iloc[codes].set_axis(frame.index)
        return frame.assign(**made)


def zero_if_empty(text: str) -> str:
    """Return the text, or "0" for an empty cell."""
    return text or "0"


def number_of(text: str) -> float:
    """Return the number; raises ValueError that shows the text."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def age_group(text: str) -> str:
    """Return the decade of an age in years, "1" up to ten to "7" above sixty; "" when missing, below 1 or above 95."""
    if not text or not 1 <= (age := number_of(text)) <= 95:
        return ""
    return str(next((group for group in range(1, 7) if age <= 10 * group), 7))


def country_code(text: str) -> str:
    """Return the country of an ISRC, its first two letters."""
    return text[:2]


def hour_of_day(text: str) -> str:
    """Return the hour of a time YYMMDDHH, "" when it is missing."""
    return text and f"{_day_and_hour(text)[1]:02d}"


def weekday(text: str) -> str:
    """Return the weekday of a time YYMMDDHH, "1" for Monday to "7", "" when it is missing."""
    return text and str(_day_and_hour(text)[0].isoweekday())


def weekend(text: str) -> str:
    """Return "1" for a Saturday or Sunday and "0" for another day of a time YYMMDDHH, "" when it is missing."""
    return text and str(int(_day_and_hour(text)[0].isoweekday() >= 6))


def _day_and_hour(text: str) -> tuple[date, int]:
    try:
        if len(text) != 8 or not text.isdigit() or (hour := int(text[6:])) > 23:
            raise ValueError
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:6])), hour
    except ValueError:
        raise ValueError(f"{text!r} is not a time of the form YYMMDDHH") from None
