"""How a figure gets into a page: data and a picture beside the page, words for those who do not see it.

What plotly wrote into an executed page becomes files that bear the same name, a hash of the figure:

    NAME.js    what figures.js draws; it is loaded when the figure comes near the screen. A script, because a page
               that was opened from a disk may not read other files.
    NAME.csv   the numbers drawn
    NAME.svg   the figure as it first appears: shown until it is drawn, and to readers without scripts
               (`ctrlib.book.pictures`)

Numbers are rounded to seven significant digits in these files, which no screen can show. The notebook keeps all digits.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = 7
MOST_NAMED = 8  # longer lists are told by their ends
MOST_NUMBERS = 50_000  # figures that draw more have no CSV
HEIGHT = 450  # pixels, where a figure sets none
TAG = re.compile(r"</?(?:br|b|i|em|sub|sup|span|a)\b[^>]*>")  # those that plotly understands
KINDS = {"bar": "Bars", "heatmap": "Map of coloured cells", "contour": "Maps with a contour line"}

Figure = Mapping[str, Any]  # plotly's JSON: data, layout and, with a slider, frames


@dataclass
class Shelf:
    """The folder of figures, and what its pages write before its name. `pictures`: names that have an SVG there."""

    folder: Path
    address: str
    pictures: frozenset[str] = field(default_factory=frozenset)

    def add(self, figure: Figure, caption: str = "") -> str:
        """Write the files of `figure` and return its place in a page as HTML."""
        shown = plain(figure)
        name = name_of(figure)
        self.folder.mkdir(parents=True, exist_ok=True)
        data = json.dumps(shown, separators=(",", ":"), ensure_ascii=False)
        script = f'(window.ctrFigures??={{}})["{name}"]={data};\n'
        (self.folder / f"{name}.js").write_text(script, encoding="utf-8")
        words = html.escape(describe(shown, caption), quote=True)
        height = shown.get("layout", {}).get("height", HEIGHT)
        before = picture = ""
        if name in self.pictures:
            picture = f'<img src="{self.address}/{name}.svg" alt="" loading="lazy">'
        else:
            before = f"<noscript><p>{words}</p></noscript>"
        link = ""
        if numbers := as_csv(shown):
            (self.folder / f"{name}.csv").write_text(numbers, encoding="utf-8")
            link = f'<a href="{self.address}/{name}.csv" download>Numbers of this figure (CSV)</a>'
        return (
            f'<div class="ctr-figure" data-figure="{name}">{before}'
            f'<div class="ctr-plot" role="img" aria-label="{words}" style="height:{height}px">{picture}</div>'
            f'<p class="ctr-data">{link}</p></div>'
        )


def name_of(figure: Figure) -> str:
    """Return the name of a figure's files: equal figures have equal names, whatever page they stand on."""
    return hashlib.sha256(json.dumps(figure, sort_keys=True).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return plotly's JSON with its packed arrays as lists, and floating-point numbers rounded; not a number: None."""
    if isinstance(value, Mapping):
        if "bdata" in value and "dtype" in value:
            return _unpacked(value)
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return _rounded(value) if isinstance(value, float) else value


def _unpacked(packed: Mapping[str, Any]) -> Any:
    array = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=np.dtype(packed["dtype"]).newbyteorder("<"))
    if shape := packed.get("shape"):
        array = array.reshape([int(size) for size in str(shape).split(",")])
    return plain(array.tolist())


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def describe(figure: Figure, caption: str = "") -> str:
    """Return what a figure shows in words: kind, title, axes, rows, series, controls, and its caption."""
    layout, traces = figure.get("layout", {}), figure.get("data", [])
    title = _text(layout.get("title"))
    parts = [_kind(traces) + (f": {title}" if title else "")]
    for name, word in (("xaxis", "Across"), ("yaxis", "Up")):
        if axis := _text(layout.get(name, {}).get("title")):
            parts.append(f"{word}: {axis}")
    if rows := layout.get("yaxis", {}).get("ticktext"):
        parts.append(f"Rows: {_listed(map(_words, rows))}")
    names = list(
        dict.fromkeys(_words(trace.get("name") or "") for trace in traces if trace.get("showlegend") is not False)
    )
    if len(series := [name for name in names if name]) > 1:
        parts.append(f"Series: {_listed(series)}")
    if labels := [_words(note.get("text") or "") for note in layout.get("annotations", [])]:
        parts.append(f"Labels: {_listed(labels)}")
    for menu in layout.get("updatemenus", []):
        parts.append(f"A menu offers {_listed(button.get('label', '') for button in menu.get('buttons', []))}")
    for slider in layout.get("sliders", []):
        what = slider.get("currentvalue", {}).get("prefix", "").strip()
        parts.append(
            f"A slider sets {what or 'the step'}: {_listed(step['label'] for step in slider.get('steps', []))}"
        )
    told = ". ".join(part.rstrip(". ") for part in parts if part) + "."
    return f"{told} {' '.join(caption.split())}".strip()


def _kind(traces: Iterable[Figure]) -> str:
    found = {trace.get("type", "scatter") for trace in traces}
    if named := [word for kind, word in KINDS.items() if kind in found]:
        return " and ".join(named)
    lines = any("lines" in trace.get("mode", "lines") for trace in traces)
    bars = any(trace.get(part, {}).get("array") for trace in traces for part in ("error_x", "error_y"))
    return ("Lines" if lines else "Points") + (" with intervals" if bars else "")


def _text(title: Any) -> str:
    return _words((title.get("text") or "") if isinstance(title, Mapping) else (title or ""))


def _words(text: Any) -> str:
    return " ".join(TAG.sub(" ", str(text)).replace("*", "").replace("`", "").split())


def _listed(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{len(names)}, from {names[0]} to {names[-1]}"


def as_csv(figure: Figure) -> str:
    """Return the numbers drawn, a line each: series, names, coordinates, ends of intervals.

    Empty for maps of the plane, which are a picture more than numbers, and where there are very many.
    """
    if any(trace.get("type") == "contour" for trace in figure.get("data", [])):
        return ""
    rows = list(_rows(figure))
    if not rows or sum(map(len, rows)) > MOST_NUMBERS:
        return ""
    columns = [name for name in ("series", "name", "x", "y", "z", "low", "high") if any(name in row for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(figure: Figure) -> Iterator[dict[str, Any]]:
    layout = figure.get("layout", {})
    for trace in figure.get("data", []):
        told = trace.get("meta") or trace.get("name")  # a line of a group has its own name there
        series = {"series": _words(told)} if told else {}
        if series and (menu := _chosen_by(layout, trace, figure["data"])):
            series["series"] = f"{menu}: {series['series']}"
        if "z" in trace:
            for up, line in enumerate(trace["z"]):
                for across, z in enumerate(line):
                    yield series | {"x": _at(trace.get("x"), across), "y": _at(trace.get("y"), up), "z": z}
            continue
        names = next((trace[key] for key in ("hovertext", "text") if isinstance(trace.get(key), list)), None)
        axis = layout.get("yaxis", {})
        lanes = axis.get("ticktext") if trace.get("yaxis", "y") == "y" else None
        for place, x in enumerate(trace.get("x") or []):
            y = _at(trace.get("y"), place)
            row = series | {"x": x, "y": y}
            if lanes and isinstance(y, int | float):
                row = series | {"name": _words(_lane(axis, y)), "x": x}
            elif names:
                row["name"] = _words(names[place])
            yield row | _interval(trace, row, place)


def _chosen_by(layout: Figure, trace: Figure, traces: list[Any]) -> str:
    """Return the entry of a menu that shows `trace`, where entries show some traces and hide the others."""
    place = next(i for i, other in enumerate(traces) if other is trace)
    for menu in layout.get("updatemenus", []):
        for button in menu.get("buttons", []):
            shown = button.get("args", [{}])[0]
            visible = shown.get("visible") if isinstance(shown, Mapping) else None
            if isinstance(visible, list) and len(visible) == len(traces) and visible[place] is True:
                return str(button.get("label", ""))
    return ""


def _lane(axis: Figure, y: float) -> Any:
    """Return the name of the tick nearest to `y`."""
    places = axis.get("tickvals") or range(len(axis["ticktext"]))
    return min(zip(places, axis["ticktext"], strict=False), key=lambda tick: abs(tick[0] - y))[1]


def _interval(trace: Figure, row: Figure, place: int) -> dict[str, Any]:
    """Return the ends of the interval that a trace draws, along y or else along x."""
    for coordinate in ("y", "x"):
        bars = trace.get(f"error_{coordinate}") or {}
        if "array" not in bars:
            continue
        above = _at(bars["array"], place)
        below = _at(bars.get("arrayminus"), place) if bars.get("arrayminus") else above
        at = row.get(coordinate)
        if isinstance(above, int | float) and isinstance(below, int | float) and isinstance(at, int | float):
            return {"low": _rounded(at - below), "high": _rounded(at + above)}
    return {}


def _at(values: Any, place: int) -> Any:
    return values[place] if isinstance(values, list) and place < len(values) else place if values is None else None
