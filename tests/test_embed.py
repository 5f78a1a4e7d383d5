"""Figures on their way into a page: numbers, words, files, and the claims that captions name."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from ctrlib import views
from ctrlib.book import pages, pictures, plotly_js
from ctrlib.book.embed import Shelf, as_csv, describe, name_of, plain
from ctrlib.errors import SettingError
from ctrlib.figures import boundaries, curves, intervals, scatter, stacked
from ctrlib.views import chapter

ROWS = pd.DataFrame({"cell": ["T9", "T<10>"], "auc": [0.5, 0.25], "low": [0.4, 0.125], "high": [0.6, 0.5]})


def packed(array: Any) -> dict[str, str]:
    array = np.asarray(array)
    shape = {"shape": ", ".join(map(str, array.shape))} if array.ndim > 1 else {}
    return {"bdata": base64.b64encode(array.tobytes()).decode(), "dtype": array.dtype.str[1:], **shape}


def as_json(figure: Any) -> Any:
    return plain(json.loads(figure.to_json()))


def test_packed_arrays_become_rounded_numbers() -> None:
    found = plain(
        {"z": packed([[0.1 + 0.2, np.nan], [1e6, -2.0]]), "n": packed(np.array([1, 2], "i1")), "t": ("a", True)}
    )
    assert found == {"z": [[0.3, None], [1000000, -2]], "n": [1, 2], "t": ["a", True]}


def test_words_tell_kind_axes_rows_series_and_caption() -> None:
    figure = intervals(ROWS, "auc", "cell", "low", "high", title="ml-100k", x_title="AUC<br>(%)")
    words = describe(as_json(figure), "Is a\n  bar short?")
    assert words == "Points with intervals: ml-100k. Across: AUC (%). Rows: T9, T<10>. Is a bar short?"
    assert describe(as_json(curves(ROWS, "auc", "low", "cell"))).startswith(
        "Lines. Across: auc. Up: low. Series: T9, T"
    )
    assert describe(as_json(stacked(ROWS, "cell", ["auc", "low"]))) == "Bars. Series: auc, low."


def test_numbers_name_rows_and_give_the_ends_of_intervals() -> None:
    assert as_csv(as_json(intervals(ROWS, "auc", "cell", "low", "high"))) == (
        "name,x,low,high\nT9,0.5,0.4,0.6\nT<10>,0.25,0.125,0.5\n"
    )
    menu = as_csv(as_json(curves(ROWS, "auc", "low", "cell", menu="high")))
    assert menu.splitlines() == ["series,x,y", "0.6: T9,0.5,0.4", "0.5: T<10>,0.25,0.125"]
    upright = scatter(ROWS.assign(half=0.25), "auc", "low", "cell", y_error="half", names=False)
    assert as_csv(as_json(upright)).splitlines()[2] == "T<10>,0.25,0.125,-0.125,0.375"
    grid = np.full((3, 3), 0.5)
    assert as_csv(as_json(boundaries({"one": {"0": grid}}, 1.0))) == ""


def test_a_shelf_escapes_words_and_points_to_its_files(tmp_path: Path) -> None:
    figure = json.loads(intervals(ROWS, "auc", "cell", "low", "high", title='"A" & b').to_json())
    name = name_of(figure)
    html = Shelf(tmp_path / "figures", "../here", frozenset([name])).add(figure, "See <this>.")
    assert (
        f'data-figure="{name}"' in html and f'src="../here/{name}.svg"' in html and f'href="../here/{name}.csv"' in html
    )
    assert "&quot;A&quot; &amp; b" in html and "&lt;this&gt;" in html and "<this>" not in html
    assert (tmp_path / "figures" / f"{name}.js").read_text().startswith(f'(window.ctrFigures??={{}})["{name}"]={{')
    assert "<img" not in Shelf(tmp_path / "figures", "../here").add(figure)


def test_the_caption_of_a_figure_is_what_follows_it_in_italics(tmp_path: Path) -> None:
    figure = json.loads(intervals(ROWS, "auc", "cell", "low", "high").to_json())
    told = '*Look here.* Claim: <a href="../book/claims.md#claim-x">x</a>.'
    outputs = [
        nbformat.v4.new_output("display_data", {pages.PLOTLY: figure}),
        nbformat.v4.new_output("display_data", {"text/markdown": told}),
        nbformat.v4.new_output("display_data", {pages.PLOTLY: figure}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    pages.for_the_book(notebook, Shelf(tmp_path, "../_static/figures"))
    first, caption, second = (output["data"] for output in notebook.cells[0].outputs)
    assert "Look here." in first["text/html"] and "Claim" not in first["text/html"]
    assert "../book/claims.html#claim-x" in caption["text/markdown"]
    assert "Look here." not in second["text/html"]


def test_a_claim_is_linked_where_the_page_of_claims_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chapter, "root", lambda: tmp_path)
    assert views.claim_link("se-helps") == "The self-ensemble loss improves QNN-alpha"
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.md").touch()
    assert views.claim_link("se-helps").startswith('<a href="../book/claims.md#claim-se-helps">The self-ensemble')
    assert "A difference of 0.001 in AUC" in views.claim_link("a-thousandth-is-significant")  # not testable
    with pytest.raises(SettingError, match="Did you mean 'se-helps'"):
        views.claim_link("se-help")


def test_without_a_browser_there_are_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "find_browser", lambda: None)
    (tmp_path / "old.svg").touch()
    assert pictures.draw({"old": {}, "new": {}}, tmp_path, tmp_path / "plotly.min.js") == {"old"}
    assert "No Chromium" in capsys.readouterr().out


LIBRARY = (
    'var W=0;var bar=W((t,e)=>{"use strict";e.exports=bars()});var map=W((t,e)=>{"use strict";e.exports=maps()});'
    'var bars=W((t,e)=>{e.exports={moduleType:"trace",name:"bar"}});var maps=W((t,e)=>{e.exports={moduleType:"trace",'
    'name:"heatmap"}});var dates=W((t,e)=>{"use strict";e.exports=days()});var days=W((t,e)=>{e.exports={}});'
    "var all=W((t,e)=>{core.register([bar(),map(),dates()]);e.exports=core})"
)


@pytest.mark.parametrize(
    ("kinds", "started"),
    [
        (["bar"], "[bar()]"),
        (["heatmap", "bar", "scatter"], "[bar(),map()]"),
        (["scatter"], "[]"),
        (["pie", "bar"], "[bar(),map(),dates()]"),
    ],
)
def test_the_library_starts_the_kinds_of_traces_that_are_drawn(kinds: list[str], started: str) -> None:
    assert plotly_js.only(LIBRARY, kinds) == LIBRARY.replace("[bar(),map(),dates()]", started)


def test_a_library_of_another_form_stays_whole() -> None:
    other = LIBRARY.replace("register", "add")
    assert plotly_js.only(other, ["bar"]) == other


def test_the_installed_library_has_the_form_that_can_be_cut() -> None:
    whole = plotly_js.script(["no such kind"])
    cut = plotly_js.script(["bar", "heatmap", "contour"])
    (before,), (after,) = plotly_js.LIST.findall(whole), plotly_js.LIST.findall(cut)
    assert len(before.split(",")) > 40 and len(after.split(",")) == 3
