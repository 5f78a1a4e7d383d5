"""Tables of the book, which a reader sorts and filters, and values named for its text."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ctrlib.errors import SettingError, unknown

LONG_TEXT = 50  # characters; longer cells get a column wide enough to read
ROUNDING = 1e-9  # of floats, as a part of their size


def glue(name: str, value: Any) -> None:
    """Name a value for the text of the book, which shows it by {glue:text}`name:.4f`; elsewhere a no-op."""
    try:
        from myst_nb import glue as keep
    except ImportError:  # a notebook on a machine without the book's tools
        return
    keep(name, value.item() if hasattr(value, "item") else value, display=False)


@dataclass(frozen=True)
class Table:
    """A table as HTML and as plain text; a notebook shows the one, a terminal the other."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def figure_table(
    df: pd.DataFrame,
    *,
    formats: Mapping[str, str] | None = None,
    headings: Mapping[str, str] | None = None,
    math: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    spans: Mapping[str, Sequence[str]] | None = None,
    caption: str = "",
) -> Table:
    """Return `df` as a table that the book lets a reader sort by a column and filter by a word.

    formats: column -> format of its values, such as ".4f" or "+.2%". headings: column -> text of its header.
    math: columns that hold LaTeX without dollar signs. links: column -> column with the addresses that its cells lead
    to, which is not shown itself; an empty address leads nowhere. spans: column -> the column with half the width of
    its interval, or the two with its ends; they are not shown themselves but written behind the values. Missing values
    show as a dash and sort last. The index is left out. Raises `SettingError` for a column that `df` does not have and
    for an interval that does not hold its value.
    """
    formats, headings, links = dict(formats or {}), dict(headings or {}), dict(links or {})
    parts = {name: list(columns) for name, columns in (spans or {}).items()}
    kept = {*links.values(), *(part for columns in parts.values() for part in columns)}
    require(df, *formats, *headings, *math, *links, *parts, *kept)
    for name, ends in parts.items():
        if len(ends) == 2:
            _require_inside(df, name, *ends)
    columns = [
        _Column(
            str(name),
            df[name],
            formats.get(name, ""),
            name in math,
            df[links[name]] if name in links else None,
            df[parts[name]] if name in parts else None,
        )
        for name in df.columns
        if name not in kept
    ]
    head = "".join(column.header(headings.get(column.name, column.name)) for column in columns)
    rows = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in zip(*(c.cells() for c in columns), strict=True))
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    body = f"<table>{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>"
    return Table(f'<div class="ctr-table"><div class="ctr-scroll">{body}</div></div>', df.to_string(index=False))


@dataclass(frozen=True)
class _Column:
    name: str
    values: pd.Series[Any]
    format: str
    math: bool
    addresses: pd.Series[Any] | None = None
    span: pd.DataFrame | None = None

    @property
    def numeric(self) -> bool:
        return pd.api.types.is_numeric_dtype(self.values) and not pd.api.types.is_bool_dtype(self.values)

    def header(self, text: str) -> str:
        kind = ' class="number" data-type="number"' if self.numeric else ""
        return f'<th scope="col"{kind}>{html.escape(text)}</th>'

    def cells(self) -> Iterator[str]:
        addresses = [""] * len(self.values) if self.addresses is None else self.addresses
        spans = [()] * len(self.values) if self.span is None else self.span.itertuples(index=False)
        return (self._cell(*told) for told in zip(self.values, addresses, spans, strict=True))

    def _cell(self, value: Any, address: str = "", span: Sequence[float] = ()) -> str:
        if pd.isna(value):
            return f'<td {"data-value" if self.numeric else "data-text"}="">&ndash;</td>'
        if self.math:
            formula = html.escape(str(value))
            return f'<td data-text="{formula}"><span class="math notranslate">\\({formula}\\)</span></td>'
        kind = ' class="text"' if not self.numeric and len(str(value)) > LONG_TEXT else ""
        if self.numeric:
            kind = f' data-value="{value:.9g}"'
        text = html.escape(format(value, self.format))
        if span and np.isfinite(span).all():
            ends = [format(end, self.format) for end in span]
            text += (
                f" <small>± {ends[0].lstrip('+')}</small>" if len(ends) == 1 else f" <small>[{', '.join(ends)}]</small>"
            )
        if address:
            text = f'<a class="reference internal" href="{html.escape(address)}">{text}</a>'
        return f"<td{kind}>{text}</td>"


def require(df: pd.DataFrame, *columns: str) -> None:
    """Raise `SettingError` for the first of `columns` that `df` does not have."""
    for column in columns:
        if column not in df.columns:
            raise unknown("column", column, map(str, df.columns))


def _require_inside(df: pd.DataFrame, value: str, low: str, high: str) -> None:
    slack = ROUNDING * (1 + df[value].abs())
    outside = df[(df[value] < df[low] - slack) | (df[value] > df[high] + slack)]
    if len(outside):
        found = outside.iloc[0]
        raise SettingError(
            f"{value} {found[value]:g} lies outside its interval, {low} {found[low]:g} to {high} {found[high]:g}. Give "
            "the interval of this column."
        )
