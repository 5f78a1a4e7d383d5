"""Figures of the book: one look, readable in light and in dark mode and by the colour-blind.

Every figure is plotly and needs no server. Importing this module makes `ctrlib` plotly's default template, so
figures that a chapter draws itself look the same. Colours: Okabe and Ito's palette without black and yellow,
which vanish in one of the two modes; marker shapes and dashes repeat what the colours say.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.errors import CtrlibError, SettingError, unknown
from ctrlib.figures.tables import require

try:
    import plotly.graph_objects as go
    import plotly.io as pio
    from plotly.subplots import make_subplots
except ImportError as error:
    raise CtrlibError("Figures need plotly. Install the extra: pip install 'ctrlib[book]'.") from error

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
BROKEN = ("dot", "dash", "dashdot")
PATTERNS = ("", "/", "x", ".", "\\", "+", "-")
INK = "#767676"  # a grey that stands out on white and on black; the book's script sharpens it for each mode
MOST_LOGIT = 6.0  # larger ones are drawn as this
LABEL_WIDTH, LABEL_HEIGHT = 0.07, 0.05  # room for the label of a point, as parts of the range of the points
BETWEEN_BARS = 8  # pixels
FAINT = "rgba(128,128,128,0.3)"

_AXIS = {"gridcolor": FAINT, "zerolinecolor": FAINT, "linecolor": FAINT, "ticks": "", "automargin": True}
pio.templates["ctrlib"] = go.layout.Template(
    layout={
        "colorway": PALETTE,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 13},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left"},
        "margin": {"l": 60, "r": 20, "t": 64, "b": 50},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
)
pio.templates.default = "ctrlib"


def intervals(
    df: pd.DataFrame,
    x: str,
    y: str,
    low: str,
    high: str,
    *,
    color: str | None = None,
    reference: float | None = None,
    x_title: str = "",
    title: str = "",
    format: str = ".4f",
) -> go.Figure:
    """Draw one dot per row: `x` with its interval from `low` to `high`; `y` names the row.

    Rows stand in the order of `df`, the first on top. Rows with one `y` and several values of `color` stand
    under each other in a lane. `reference` is a dashed vertical line, such as no difference.
    """
    require(df, x, y, low, high, *([color] if color else []))
    lanes = list(dict.fromkeys(df[y]))
    groups = list(_groups(df, color))
    crowded = df[y].duplicated().any()  # a lane has several dots, so groups stand a little apart
    figure = go.Figure()
    for number, (name, part) in enumerate(groups):
        shift = (number - (len(groups) - 1) / 2) * 0.6 / len(groups) if crowded else 0.0
        figure.add_scatter(
            x=part[x],
            y=[lanes.index(lane) + shift for lane in part[y]],
            mode="markers",
            name=name,
            marker=_marker(number),
            customdata=part[[y, low, high]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": part[high] - part[x],
                "arrayminus": part[x] - part[low],
                "thickness": 1.5,
                "width": 3,
            },
            hovertemplate=f"<b>%{{customdata[0]}}</b> {name}<br>%{{x:{format}}}, interval "
            f"%{{customdata[1]:{format}}} to %{{customdata[2]:{format}}}<extra></extra>",
        )
    if reference is not None:
        figure.add_vline(x=reference, line={"dash": "dash", "width": 2, "color": INK})
    figure.update_yaxes(
        tickvals=list(range(len(lanes))),
        ticktext=[str(lane) for lane in lanes],
        showgrid=False,
        zeroline=False,
        range=[len(lanes) - 0.5, -0.5],
    )
    figure.update_layout(
        xaxis_title=x_title or x,
        showlegend=len(groups) > 1,
        title=title or None,
        height=130 + max(22, 16 * len(groups)) * len(lanes),
    )
    return figure


def stretches(figure: go.Figure, spans: Sequence[tuple[str, str]]) -> go.Figure:
    """Draw a bar beside the rows of `intervals` for each (first, last) of `spans`, from one row to the other.

    Bars stand side by side, right of the axes. Raises `SettingError` for a name that is no row.
    """
    lanes = list(figure.layout.yaxis.ticktext)
    for name in (end for span in spans for end in span):
        if name not in lanes:
            raise unknown("row", name, lanes)
    for number, (first, last) in enumerate(spans):
        place = 8 + BETWEEN_BARS * number
        across = {"xref": "paper", "xsizemode": "pixel", "xanchor": 1, "x0": place, "x1": place}
        along = {"yref": "y", "y0": lanes.index(first) - 0.3, "y1": lanes.index(last) + 0.3}
        figure.add_shape(type="line", line={"color": INK, "width": 3}, **across, **along)
    return figure.update_layout(margin_r=20 + BETWEEN_BARS * len(spans))


def curves(
    df: pd.DataFrame,
    x: str,
    y: str,
    line: str,
    *,
    menu: str | None = None,
    color: str | None = None,
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    height: int = 450,
) -> go.Figure:
    """Draw `y` over `x`, one line per value of `line`; with `menu` a list shows one value of it at a time.

    color: column with the groups that lines belong to. Those of a group look alike and have one entry in the legend;
    without it every line has a look of its own. Lines are drawn in the order of `df`; sort it by `x` first.
    """
    require(df, x, y, line, *([menu] if menu else []), *([color] if color else []))
    figure = go.Figure()
    owners: list[str] = []
    for owner, block in _groups(df, menu):
        looks: dict[str, int] = {}
        for name, part in _groups(block, line):
            group = str(part[color].iloc[0]) if color else name
            known = group in looks
            number = looks.setdefault(group, len(looks))
            style = {"color": PALETTE[number % len(PALETTE)], "dash": DASHES[number % len(DASHES)]}
            figure.add_scatter(
                x=part[x],
                y=part[y],
                name=group,
                meta=name,
                legendgroup=group,
                showlegend=not known,
                mode="lines+markers",
                line=style,
                marker=_marker(number) | {"size": 6},
                visible=not owners or owner == owners[0],
                hovertemplate=f"<b>{html.escape(name)}</b><br>%{{x}}, %{{y}}<extra></extra>",
            )
            owners.append(owner)
    if menu:
        buttons = [
            {"label": owner, "method": "update", "args": [{"visible": [o == owner for o in owners]}]}
            for owner in dict.fromkeys(owners)
        ]
        place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        figure.update_layout(
            updatemenus=[{"name": menu, "buttons": buttons, **place}], legend={"x": 1, "xanchor": "right"}
        )
    figure.update_layout(
        xaxis_title=x_title or x,
        yaxis_title=y_title or y,
        title=title or None,
        height=height,
        showlegend=True,
    )
    return figure


def scatter(
    df: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    *,
    color: str | None = None,
    names: bool = True,
    x_error: str | None = None,
    y_error: str | None = None,
    joined: bool = False,
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    height: int = 480,
) -> go.Figure:
    """Draw one point per row at (`x`, `y`) with its `label` beside it (`names`) and when pointed at.

    A label that would lie on another point's or its label is shown only when pointed at.

    `x_error`, `y_error`: columns with half the width of an interval. `joined`: a line through the points of each
    `color`, in the order of `df`.
    """
    require(df, x, y, label, *(c for c in (color, x_error, y_error) if c))
    df = df.reset_index(drop=True)
    named = _apart(df[x], df[y]) if names else []
    groups = list(_groups(df, color))
    figure = go.Figure()
    for number, (name, part) in enumerate(groups):
        errors = {
            axis: {"type": "data", "array": part[column], "thickness": 1, "width": 2}
            for axis, column in (("error_x", x_error), ("error_y", y_error))
            if column
        }
        figure.add_scatter(
            x=part[x],
            y=part[y],
            text=part[label].where(part.index.isin(named), "") if names else part[label],
            hovertext=part[label],
            name=name,
            marker=_marker(number),
            mode="+".join(["markers", *(["text"] if names else []), *(["lines"] if joined else [])]),
            line={"dash": DASHES[number % len(DASHES)]},
            textposition="top center",
            hovertemplate="<b>%{hovertext}</b><br>%{x}, %{y}<extra></extra>",
            **errors,
        )
    figure.update_layout(
        xaxis_title=x_title or x,
        yaxis_title=y_title or y,
        title=title or None,
        height=height,
        showlegend=len(groups) > 1,
    )
    return figure


def stacked(
    df: pd.DataFrame, y: str, parts: Sequence[str], *, names: Mapping[str, str] | None = None, x_title: str = ""
) -> go.Figure:
    """Draw one horizontal bar per row, made of the columns `parts`; `y` names the row, the first on top.

    names: column -> name in the legend. Patterns repeat what the colours say.
    """
    require(df, y, *parts)
    figure = go.Figure()
    for number, part in enumerate(parts):
        shape = PATTERNS[number % len(PATTERNS)]
        pattern = {"shape": shape, "fgcolor": "rgba(255,255,255,0.55)", "size": 6, "fillmode": "overlay"}
        figure.add_bar(
            x=df[part],
            y=df[y],
            name=(names or {}).get(part, part),
            orientation="h",
            marker={"color": PALETTE[number % len(PALETTE)], "pattern": pattern},
            hovertemplate="<b>%{y}</b> %{fullData.name}<br>%{x:.3g}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(barmode="stack", xaxis_title=x_title, height=150 + 34 * len(df), showlegend=True)
    figure.update_layout(legend_traceorder="normal")
    return figure


def boundaries(
    panels: Mapping[str, Mapping[str, NDArray[np.float64]]],
    box: float,
    *,
    points: Mapping[str, pd.DataFrame] | None = None,
    columns: int = 4,
    slider: str = "",
    menu: bool = False,
) -> go.Figure:
    """Draw what networks say about a square of the plane; the line is where both classes are equally likely.

    panels: title of a panel -> name of a frame -> logits (G, G) from -box to box, one row for each second coordinate;
    logits and not probabilities, since what lies between the points of the grid is drawn as straight. All panels have
    the same frames: a slider with the caption `slider` goes through them, or with `menu` a list picks one. points:
    title of a panel -> columns x, y, label of the points drawn on it, two labels at most: white circles for the
    smaller, black diamonds for the larger.
    Raises `SettingError` without panels, for panels of different frames, and for points of a panel that is not there.
    """
    names = list(next(iter(panels.values()), []))
    if not names or any(list(frames) != names for frames in panels.values()):
        raise SettingError("boundaries needs panels, each with the same frames in the same order.")
    for title in points or {}:
        if title not in panels:
            raise unknown("panel", title, panels)
    rows = -(-len(panels) // columns)
    columns = min(columns, len(panels))
    gap = 0.06 / rows + 0.04
    figure = make_subplots(rows, columns, subplot_titles=list(panels), horizontal_spacing=0.03, vertical_spacing=gap)
    scale = [[0.0, "#5da4cc"], [0.35, "#8fbfdb"], [0.5, "#f4f4f4"], [0.65, "#eeb083"], [1.0, "#e6914f"]]
    level = {"start": 0, "end": 0, "size": 1, "coloring": "heatmap"}
    first = names[0] if menu else names[-1]
    for number, frames in enumerate(panels.values()):
        axis = np.linspace(-box, box, len(frames[first])).round(3)
        shades = {"colorscale": scale, "zmin": -MOST_LOGIT, "zmax": MOST_LOGIT, "showscale": False, "contours": level}
        line = {"color": "#222222", "width": 2}
        hover = "%{x}, %{y}<br>logit %{z}<extra></extra>"
        drawn = go.Contour(x=axis, y=axis, z=_heights(frames[first]), line=line, hovertemplate=hover, **shades)
        figure.add_trace(drawn, number // columns + 1, number % columns + 1)
    for number, title in enumerate(panels):
        dotted = (points or {}).get(title, pd.DataFrame({"label": []}))
        for kind, (_, part) in enumerate(_groups(dotted.sort_values("label"), "label")):
            dots = {"symbol": SYMBOLS[kind], "size": 5, "color": ("#ffffff", "#222222")[kind]}
            dots["line"] = {"color": "#222222", "width": 1}
            marks = go.Scatter(x=part["x"], y=part["y"], mode="markers", marker=dots, hoverinfo="skip")
            figure.add_trace(marks, number // columns + 1, number % columns + 1)
    shown = [[_heights(frames[name]) for frames in panels.values()] for name in names]
    which = list(range(len(panels)))
    if menu:
        buttons = [
            {"label": name, "method": "restyle", "args": [{"z": z}, which]}
            for name, z in zip(names, shown, strict=True)
        ]
        place = {"x": 0, "xanchor": "left", "y": 1.25}
        figure.update_layout(updatemenus=[{"name": "network", "buttons": buttons, **place}])
    elif len(names) > 1:
        figure.frames = [
            go.Frame(name=name, data=[go.Contour(z=one) for one in z], traces=which)
            for name, z in zip(names, shown, strict=True)
        ]
        still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
        steps = [{"label": name, "method": "animate", "args": [[name], still]} for name in names]
        place = {"pad": {"t": 30}, "currentvalue": {"prefix": f"{slider} "}}
        figure.update_layout(sliders=[{"steps": steps, "active": len(names) - 1, **place}])
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "range": [-box, box]}
    figure.update_xaxes(bare | {"constrain": "domain"})
    figure.update_yaxes(bare | {"constrain": "domain"})
    for number in range(len(panels)):
        figure.layout[f"yaxis{number + 1 if number else ''}"].scaleanchor = f"x{number + 1 if number else ''}"
    figure.update_layout(height=110 + 240 * rows + (80 if len(names) > 1 else 0), showlegend=False)
    return figure


def logarithmic(figure: go.Figure, axes: str = "xy") -> go.Figure:
    """Make those axes logarithmic, with ticks at 1, 2 and 5 of each power of ten, and return the figure."""
    for axis in axes:
        figure.update_layout({f"{axis}axis": {"type": "log", "dtick": "D2", "exponentformat": "power"}})
    return figure


def stairs(figure: go.Figure, df: pd.DataFrame, x: str, y: str) -> go.Figure:
    """Draw a dotted line of steps along the rows of `df`, behind what is drawn already, and return the figure."""
    require(df, x, y)
    line = {"dash": "dot", "width": 2, "color": INK, "shape": "hv"}
    figure.add_scatter(x=df[x], y=df[y], mode="lines", line=line, hoverinfo="skip", showlegend=False)
    figure.data = (figure.data[-1], *figure.data[:-1])
    return figure


def levels(figure: go.Figure, values: Mapping[str, float]) -> go.Figure:
    """Draw a broken line across the figure for each of `values` (name -> height) and return the figure.

    Each name has a place of its own along the x axis, from left to right, so the names of close lines never overlap. A
    single one stands at the right end.
    """
    last = len(values) - 1
    for number, (name, value) in enumerate(values.items()):
        at = number / last if last else 1.0
        anchor = "left" if at == 0 else "right" if at == 1 else "center"
        line = {"dash": BROKEN[number % len(BROKEN)], "width": 1, "color": INK}
        figure.add_hline(y=value, line=line, annotation_text=name, annotation_x=at, annotation_xanchor=anchor)
    return figure


def _heights(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(logits, -MOST_LOGIT, MOST_LOGIT).round(2)


def _apart(x: pd.Series[float], y: pd.Series[float]) -> list[int]:
    """Return the rows whose labels fit: none lies on another point, nor on the label of a row before it."""
    across, up = ((values - values.min()) / ((values.max() - values.min()) or 1.0) for values in (x, y))
    fitting: list[int] = []
    for row in range(len(x)):
        near = (across - across[row]).abs() < LABEL_WIDTH
        above = up - up[row]
        on_point = near & (above > 0) & (above < LABEL_HEIGHT)
        on_label = [near[other] and abs(above[other]) < LABEL_HEIGHT for other in fitting]
        if not on_point.any() and not any(on_label):
            fitting.append(row)
    return fitting


def _marker(number: int) -> dict[str, Any]:
    """Return the look of the points of a group; colours that come again have other symbols."""
    again = number // len(PALETTE)
    return {"color": PALETTE[number % len(PALETTE)], "symbol": SYMBOLS[(number + again) % len(SYMBOLS)], "size": 9}


def _groups(df: pd.DataFrame, column: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (name, rows) for each value of `column` in order of appearance; all rows when it is None."""
    if column is None:
        yield "", df
        return
    for value in dict.fromkeys(df[column]):
        yield str(value), df[df[column] == value]
