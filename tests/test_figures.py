"""The book's tables and figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ctrlib.errors import SettingError
from ctrlib.figures import (
    PALETTE,
    boundaries,
    curves,
    figure_table,
    intervals,
    levels,
    logarithmic,
    scatter,
    stacked,
    stairs,
    stretches,
)

CELLS = pd.DataFrame(
    {
        "cell": ["T9", "T<10>", "T9", "T<10>"],
        "act": ["none", "none", "relu", "relu"],
        "auc": [0.98, np.nan, 0.97, 0.96],
        "low": [0.97, 0.9, 0.96, 0.95],
        "high": [0.99, 1.0, 0.98, 0.97],
        "equation": ["x \\odot x"] * 4,
    }
)


def test_table_escapes_text_formats_numbers_and_keeps_what_sorting_needs() -> None:
    table = figure_table(CELLS, formats={"auc": ".1%"}, headings={"auc": "AUC & co"}, math=["equation"])
    html = table._repr_html_()
    assert "T&lt;10&gt;" in html and "T<10>" not in html
    assert "AUC &amp; co" in html
    assert '<td data-value="0.98">98.0%</td>' in html
    assert '<td data-value="">&ndash;</td>' in html
    assert r"\(x \odot x\)" in html
    assert "T9" in repr(table) and "<" not in repr(table).replace("T<10>", "")


def test_table_names_the_nearest_column_for_a_typo() -> None:
    with pytest.raises(SettingError, match=r"'acu'.*Did you mean 'auc'"):
        figure_table(CELLS, formats={"acu": ".4f"})


def test_intervals_put_groups_side_by_side_in_the_lane_of_their_row() -> None:
    figure = intervals(CELLS, "auc", "cell", "low", "high", color="act", reference=0.5)
    none, relu = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["T9", "T<10>"]
    assert none.y[0] < 0 < relu.y[0] and none.y[1] < 1 < relu.y[1]
    np.testing.assert_allclose(none.error_x.arrayminus[0], 0.01)
    assert none.marker.symbol != relu.marker.symbol  # not told by colour alone


def test_bars_beside_the_rows_go_from_the_first_of_a_stretch_to_its_last() -> None:
    rows = pd.DataFrame({"name": list("abc"), "auc": [0.9, 0.8, 0.7], "low": [0.8, 0.7, 0.6], "high": [1.0, 0.9, 0.8]})
    figure = intervals(rows, "auc", "name", "low", "high")
    bars = stretches(figure, [("a", "b"), ("b", "c"), ("c", "c")]).layout.shapes
    assert [(round(bar.y0 + 0.3), round(bar.y1 - 0.3)) for bar in bars] == [(0, 1), (1, 2), (2, 2)]
    assert len({bar.x0 for bar in bars}) == 3 and figure.layout.margin.r > 20
    with pytest.raises(SettingError, match="Unknown row 'd'"):
        stretches(figure, [("a", "d")])


def test_curves_show_one_entry_of_the_menu_at_a_time() -> None:
    figure = curves(CELLS.dropna(), "low", "auc", "act", menu="cell")
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["T9", "T<10>"]
    assert [trace.visible for trace in figure.data] == [True, True, False]
    assert [list(button.args[0]["visible"]) for button in buttons] == [
        [True, True, False],
        [False, False, True],
    ]


def test_scatter_labels_its_points_and_keeps_both_modes_readable() -> None:
    figure = scatter(CELLS.dropna(), "low", "auc", "cell", color="act", x_error="high")
    assert list(figure.data[0].text) == ["T9"]
    assert figure.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert all(contrast(color, page) > 2 for color in PALETTE for page in ("#ffffff", "#121212"))


def contrast(color: str, page: str) -> float:
    """Return the contrast ratio of two colours by the formula of the web accessibility guidelines."""
    light, dark = sorted((luminance(color), luminance(page)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_stacked_bars_tell_parts_apart_without_colour() -> None:
    df = pd.DataFrame({"step": ["a", "b"], "part one": [1.0, 2.0], "part two": [3.0, 4.0]})
    figure = stacked(df, "step", ["part one", "part two"], names={"part one": "one"}, x_title="ms")
    assert [bar.name for bar in figure.data] == ["one", "part two"]
    assert len({bar.marker.pattern.shape for bar in figure.data}) == 2 and figure.layout.barmode == "stack"
    with pytest.raises(SettingError, match="part two"):
        stacked(df, "step", ["part tw"])


def test_boundaries_have_a_frame_for_each_moment_or_an_entry_of_the_menu() -> None:
    moments = {"0": np.zeros((3, 3)), "5": 9 * np.eye(3)}
    dots = pd.DataFrame({"x": [0.0, 1.0], "y": [0.5, 0.5], "label": [0, 1]})
    drawn = boundaries({"a": moments, "b": moments}, 2.0, points={"a": dots}, slider="epoch")
    assert [frame.name for frame in drawn.frames] == ["0", "5"]
    assert [list(frame.traces) for frame in drawn.frames] == [[0, 1], [0, 1]]
    assert drawn.data[0].z.tolist() == (6 * np.eye(3)).tolist(), "the last moment is shown first, large logits cut"
    assert [trace.type for trace in drawn.data] == ["contour", "contour", "scatter", "scatter"]
    assert len(drawn.layout.sliders[0].steps) == 2 and drawn.layout.xaxis.range == (-2.0, 2.0)
    for wrong in ({}, {"a": moments, "b": {"0": np.zeros((3, 3))}}):
        with pytest.raises(SettingError, match="same frames"):
            boundaries(wrong, 2.0)
    with pytest.raises(SettingError, match="panel"):
        boundaries({"a": moments}, 2.0, points={"c": dots})
    listed = boundaries({"a": moments}, 2.0, menu=True)
    assert [button.label for button in listed.layout.updatemenus[0].buttons] == ["0", "5"]
    assert listed.data[0].z.tolist() == np.zeros((3, 3)).tolist() and not listed.frames


def test_joined_points_have_a_line_for_each_group() -> None:
    df = pd.DataFrame({"x": [1, 2, 1], "y": [3, 4, 5], "name": ["p", "q", "r"], "side": ["s", "s", "t"]})
    drawn = scatter(df, "x", "y", "name", color="side", names=False, joined=True)
    assert [trace.mode for trace in drawn.data] == ["markers+lines", "markers+lines"]
    assert drawn.data[0].line.dash != drawn.data[1].line.dash


def test_names_of_close_lines_stand_beside_each_other() -> None:
    drawn = levels(scatter(CELLS.dropna(), "low", "auc", "cell"), {"one": 0.97, "two": 0.97, "three": 0.971})
    assert [note.text for note in drawn.layout.annotations] == ["one", "two", "three"]
    assert [note.x for note in drawn.layout.annotations] == [0.0, 0.5, 1.0]
    assert [note.xanchor for note in drawn.layout.annotations] == ["left", "center", "right"]
    assert [shape.y0 for shape in drawn.layout.shapes] == [0.97, 0.97, 0.971]
    assert levels(scatter(CELLS, "low", "auc", "cell"), {"one": 0.97}).layout.annotations[0].x == 1.0
    assert not levels(scatter(CELLS, "low", "auc", "cell"), {}).layout.shapes


def test_no_two_of_many_groups_look_alike() -> None:
    df = pd.DataFrame({"x": range(14), "y": range(14), "name": list("abcdefghijklmn")})
    drawn = scatter(df, "x", "y", "name", color="name").data
    assert len({(points.marker.color, points.marker.symbol) for points in drawn}) == 14


def test_logarithmic_axes_have_ticks_that_can_be_read() -> None:
    layout = logarithmic(scatter(CELLS, "low", "auc", "cell"), "x").layout
    assert (layout.xaxis.type, layout.xaxis.dtick) == ("log", "D2") and layout.yaxis.type != "log"


def test_links_of_a_table_lead_to_the_addresses_of_another_column() -> None:
    df = pd.DataFrame({"name": ["a<b", "c"], "at": ['x.html#"1"', ""]})
    table = figure_table(df, links={"name": "at"}).html
    assert '<a class="reference internal" href="x.html#&quot;1&quot;">a&lt;b</a>' in table
    assert table.count("<a ") == 1 and table.count("<th ") == 1
    with pytest.raises(SettingError, match="column"):
        figure_table(df, links={"name": "address"})


def test_an_interval_holds_its_value() -> None:
    """A value beside the interval of another column is a mistake that a reader could not see."""
    df = pd.DataFrame({"gain": [0.5, 0.1, 0.2], "low": [0.4, 0.1, np.nan], "high": [0.6, 0.1, np.nan]})
    spans = {"gain": ("low", "high")}
    assert "[0.40, 0.60]" in figure_table(df, formats={"gain": ".2f"}, spans=spans).html
    for outside in (0.39, 0.61):
        with pytest.raises(SettingError, match=f"gain {outside} lies outside its interval, low 0.4 to high 0.6"):
            figure_table(df.assign(gain=[outside, 0.1, 0.2]), spans=spans)


def test_lines_of_a_group_look_alike_and_have_one_entry() -> None:
    df = pd.DataFrame({"x": [1, 2] * 3, "y": range(6), "run": list("aabbcc"), "side": ["s"] * 4 + ["t"] * 2})
    drawn = curves(df, "x", "y", "run", color="side").data
    assert [line.name for line in drawn] == ["s", "s", "t"] and [line.meta for line in drawn] == ["a", "b", "c"]
    assert [line.showlegend for line in drawn] == [True, False, True]
    assert drawn[0].line == drawn[1].line != drawn[2].line
    assert len({line.line.color for line in curves(df, "x", "y", "run").data}) == 3


def test_labels_that_would_overlap_show_when_pointed_at() -> None:
    df = pd.DataFrame({"x": [0.0, 0.01, 1.0, 1.0], "y": [0.0, 0.0, 0.0, 1.0], "name": list("abcd")})
    (points,) = scatter(df, "x", "y", "name").data
    assert list(points.text) == ["a", "", "c", "d"] and list(points.hovertext) == list("abcd")


def test_stairs_lie_behind_the_points_and_have_no_label() -> None:
    df = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "name": ["a", "b"]})
    figure = stairs(scatter(df, "x", "y", "name"), df, "x", "y")
    line, points = figure.data
    assert line.line.shape == "hv" and list(line.x) == [1, 2] and not line.showlegend and line.hoverinfo == "skip"
    assert points.mode == "markers+text"
    with pytest.raises(SettingError, match="Unknown column 'z'"):
        stairs(figure, df, "x", "z")
