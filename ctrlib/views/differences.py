"""How the book shows where papers, tables, logs and code differ: one table, and one block for each difference.

Made for pages in `book/`: addresses are relative to that folder.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from ctrlib import paths, views
from ctrlib.errors import unknown
from ctrlib.figures import Table, figure_table
from ctrlib.lab.differences import PAPERS, Difference, effects, load_differences
from ctrlib.lab.records import Record

LABEL = re.compile(r"^(?:# )?\((?P<label>[a-z0-9-]+)\)=$", re.MULTILINE)
HEADINGS = {".py": re.compile(r"^# #{1,4} (.+)$", re.MULTILINE), ".md": re.compile(r"^#{1,4} (.+)$", re.MULTILINE)}
PAGES = {"QNN-alpha": "differences_qnn_alpha", "DS-MLP": "differences_ds_mlp"}
OVERVIEW = {
    "title": "difference",
    "effect": "what follows",
    "kind": "kind",
    "paper": "paper",
    "touches": "touches",
    "measured": "measured",
    "executed": "executed",
    "where": "treated in",
}
EFFECT_COLUMNS: views.Columns = {
    "name": ("comparison", ""),
    "data": ("data", ""),
    "difference": ("difference", "+.2f"),
    "interval": ("95 % interval", ""),
    "outcome": ("the first is", ""),
    "seeds": ("seeds", ""),
}


@cache
def differences() -> dict[str, Difference]:
    """Return the differences by their ids."""
    return {difference.id: difference for difference in load_differences()}


@cache
def _effects(paper: str) -> tuple[pd.DataFrame, list[Record]]:
    found, used = effects([difference for difference in differences().values() if difference.paper == paper])
    if found.empty:
        return found, used
    return found.assign(**{column: 100 * found[column] for column in ("difference", "low", "high")}), used


def records() -> list[Record]:
    """Return the records of the runs that `measured` compares."""
    return [record for paper in PAPERS for record in _effects(paper)[1]]


def measured(*papers: str) -> pd.DataFrame:
    """Return `ctrlib.lab.differences.effects` of both papers, or of those named, on test AUC in points."""
    return pd.concat([_effects(paper)[0] for paper in papers or PAPERS], ignore_index=True)


@cache
def labels() -> dict[str, tuple[str, list[str]]]:
    """Return label -> (page without suffix, its headings, the title first), of all chapters and pages of the book."""
    root = paths.root()
    found: dict[str, tuple[str, list[str]]] = {}
    for path in [*root.glob("chapters/*.py"), *root.glob("book/*.md")]:
        text = path.read_text(encoding="utf8")
        page = (path.relative_to(root).with_suffix("").as_posix(), HEADINGS[path.suffix].findall(text))
        found |= {label["label"]: page for label in LABEL.finditer(text)}
    return found


def address(label: str, heading: str = "") -> str:
    """Return where a label, or a heading of its page, is found from a page in `book/`.

    Raises `SettingError` for a label that no page has, and for a heading that its page does not have.
    """
    if label not in labels():
        raise unknown("label of a page", label, labels())
    page, headings = labels()[label]
    if heading and heading not in headings:
        raise unknown(f"heading of {page}", heading, headings)
    return f"../{page}.html#{slug(heading) if heading else label}"


def slug(heading: str) -> str:
    """Return the id that the renderer gives a heading."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def page_title(label: str) -> str:
    """Return the title of the page that has a label. Raises `SettingError` for a label that no page has."""
    address(label)
    return labels()[label][1][0]


def overview() -> Table:
    """Return the table of all differences."""
    rows = pd.DataFrame([_row(difference) for difference in differences().values()])
    links = {"title": "own address", "where": "address"}
    caption = (
        "A name leads to the cell that executes it, the last column to the chapter. Measured: points of test AUC, the "
        "first less the second, with the 95 % interval."
    )
    return figure_table(rows, headings=OVERVIEW, links=links, caption=caption)


def _row(difference: Difference) -> dict[str, str]:
    named = {"title", "paper", "kind", "touches", "effect"}
    return {
        **{key: str(getattr(difference, key)) for key in OVERVIEW if key in named},
        "measured": _primary(difference),
        "executed": "executed" if difference.executed else "not executed",
        "where": page_title(difference.chapter) if difference.chapter else "",
        "own address": f"{PAGES[difference.paper]}.html#diff-{difference.id}",
        "address": address(difference.chapter, difference.heading) if difference.chapter else "",
    }


def _primary(difference: Difference) -> str:
    """Return the effect of a difference's primary pair on test AUC in points: the pair, the data sets, the seeds.

    Data sets with a single seed have no interval and are left out.
    """
    if difference.primary is None:
        return ""
    rows = measured(difference.paper)
    rows = rows[(rows["id"] == difference.id) & (rows["name"] == difference.primary.name) & rows["low"].notna()]
    told = [
        f"{views.estimate(row['difference'], row['low'], row['high'])} on {row['data']}, {row['seeds']} seeds"
        for row in rows.to_dict("records")
    ]
    return f"{difference.primary.name}: {'; '.join(told)}" if told else ""


def tell(*names: str) -> None:
    """Show what is known of some differences, each with its place, both sides, its effect and its forms in ctrlib.

    Raises `SettingError` for an unknown id.
    """
    from IPython.display import display

    for name in names:
        if name not in differences():
            raise unknown("difference", name, differences())
        display(Block(differences()[name]))  # type: ignore[no-untyped-call]
        rows = measured(differences()[name].paper)
        rows = rows[rows["id"] == name]
        if len(rows):
            rows = rows.assign(interval=[_interval(*ends) for ends in zip(rows["low"], rows["high"], strict=True)])
            what = "Points of test AUC, the first less the second, paired by seed."
            display(views.table(rows, EFFECT_COLUMNS, what))  # type: ignore[no-untyped-call]


def _interval(low: float, high: float) -> str:
    return f"{low:+.2f} to {high:+.2f}" if math.isfinite(low + high) else "one seed"


class Block:
    """One difference as HTML and as plain text."""

    def __init__(self, difference: Difference) -> None:
        self.difference = difference

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The terms and what is said of them, in order."""
        difference = self.difference
        first, second = (side.capitalize() for side in difference.sides)
        if first == second:
            first, second = f"One {first.lower()}", f"Another {second.lower()}"
        told = [("Paper", difference.place), ("Released", difference.file)]
        told += [(first, difference.first), (second, difference.second), ("Effect", difference.effect)]
        told += [("Not executed", difference.reason)]
        return [(term, text) for term, text in told if text]

    def _repr_html_(self) -> str:
        difference = self.difference
        rows = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in self.lines)
        if difference.forms:
            rows += f"<dt>In ctrlib</dt><dd>{'<br>'.join(_form(*item) for item in difference.forms.items())}</dd>"
        if difference.chapter:
            title = page_title(difference.chapter)
            where = f"{title}: {difference.heading}" if difference.heading else title
            link = address(difference.chapter, difference.heading)
            rows += f'<dt>More in</dt><dd><a class="reference internal" href="{link}">{html.escape(where)}</a></dd>'
        title = f"{html.escape(difference.title)} <span>{difference.kind}</span>"
        return f'<div class="ctr-difference" id="diff-{difference.id}"><p>{title}</p><dl>{rows}</dl></div>'

    def __repr__(self) -> str:
        told = [f"{self.difference.title} ({self.difference.paper}, {self.difference.kind})"]
        return "\n".join(told + [f"  {term}: {text}" for term, text in self.lines])


def _form(name: str, form: Mapping[str, Any]) -> str:
    """Return how ctrlib makes one side, as code."""
    settings = dict(form)
    first = settings.pop("model", None) or settings.pop("loss")
    call = ", ".join([repr(first), *(f"{key}={value!r}" for key, value in settings.items())])
    call = f"build_model({call})" if "model" in form else f"loss {call}"
    return f"{html.escape(name)}: <code>{html.escape(call)}</code>"
