"""What `ctrlib bench book` measures: builds of a copy, memory of all processes, the time of a page's first figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import browser
import pytest

from ctrlib.bench import store
from ctrlib.bench.tables import book
from ctrlib.book import measure
from ctrlib.errors import CtrlibError
from ctrlib.paths import root

DOT = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/%3E"
DELAY = 300  # milliseconds from the picture to the plot
FIGURE = f"""<!doctype html><div style="height: 4000px"></div>
<div class="ctr-figure"><div class="ctr-plot"><img src="{DOT}"></div></div>
<script>setTimeout(() => {{ document.querySelector(".ctr-figure").dataset.drawn = "yes"; }}, {DELAY});</script>"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one chapter, whose build writes two pages; measurements go beside it."""
    folder = tmp_path / "project"
    (folder / "chapters").mkdir(parents=True)
    (folder / "chapters" / "01_activation.py").write_text("# %% [markdown]\n# # Title\n", encoding="utf-8")
    (folder / "build").mkdir()
    (folder / "build" / "old").touch()
    monkeypatch.setenv("CTRLIB_ROOT", str(folder))
    return folder


def test_a_copy_is_built_and_the_project_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []

    def build(copy: Path) -> tuple[float, float]:
        assert copy != project and not (copy / "build" / "old").exists()
        texts.append((copy / measure.CHANGED).read_text(encoding="utf-8"))
        html = copy / "build" / "_build" / "html"
        (html / "chapters").mkdir(parents=True, exist_ok=True)
        (html / "plain.html").write_text("<!doctype html>no figure", encoding="utf-8")
        (html / "chapters" / "one.html").write_text(FIGURE, encoding="utf-8")
        return float(len(texts)), 10.0

    monkeypatch.setattr(measure, "_build", build)
    monkeypatch.setattr(measure, "find_browser", lambda: None)
    before = (project / measure.CHANGED).read_text(encoding="utf-8")
    found = measure.measure_book(repeats=3, threads=1)
    assert found["build"] == {"seconds": 1.0, "peak_memory_mb": 10.0, "pages": 1}
    assert found["after_a_change"] == {"median": 3.0, "min": 2.0, "max": 4.0, "repeats": 3}
    assert len(set(texts)) == 4, "each build after the first has another text"
    assert found["pages"] == {"chapters/one": {"bytes": len(FIGURE)}, "plain": {"bytes": 24}}, "no browser, no times"
    assert (project / measure.CHANGED).read_text(encoding="utf-8") == before
    assert json.loads((project / "data" / "measurements" / "book.json").read_text(encoding="utf-8")) == found


@pytest.mark.skipif(browser.find_browser() is None, reason="needs Chromium")
def test_the_first_figure_is_timed_as_picture_and_as_plot(tmp_path: Path) -> None:
    (tmp_path / "one.html").write_text(FIGURE, encoding="utf-8")
    (tmp_path / "two.html").write_text(FIGURE.replace("<img", "<b").replace(DOT, ""), encoding="utf-8")
    found = dict(measure._pages(tmp_path, 2))
    with_picture, without = found["one"], found["two"]
    assert with_picture["figure_ms"]["min"] >= DELAY and with_picture["figure_ms"]["repeats"] == 2
    assert with_picture["picture_ms"]["max"] < with_picture["figure_ms"]["min"]
    assert without["picture_ms"] == without["figure_ms"], "without a picture the plot is the first that is seen"


def test_a_failed_build_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "ctrlib.py").touch()  # a package without a command line, found first
    with pytest.raises(CtrlibError, match=r"The build failed:\n(.|\n)*ctrlib\.cli"):
        measure._build(tmp_path)


def test_memory_is_that_of_a_process_and_those_below_it() -> None:
    size = 64  # MB
    hold = f"x = bytearray({size} << 20); print(flush=True); input()"
    alone = measure._memory_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = measure._memory_mb(os.getpid())
        child.communicate(b"\n")
    assert both - alone == pytest.approx(size, abs=0.5 * size)
    assert measure._memory_mb(2**31 - 1) == 0, "a process that has ended holds nothing"


def test_the_page_that_is_changed_is_a_page() -> None:
    assert (root() / measure.CHANGED).exists()


def test_what_was_measured_stands_beside_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    assert book().empty
    drawn = {"median": 900, "min": 800, "max": 1000, "repeats": 3}
    pages = {"one": {"bytes": 10_000}, "two": {"bytes": 2_000, "figure_ms": drawn}}
    pages["three"] = {"bytes": 3_000, "figure_ms": drawn | {"median": 950}}
    again = {"median": 4.0, "min": 3.0, "max": 5.0, "repeats": 3}
    found = {"build": {"seconds": 90.0, "peak_memory_mb": 1000.0}, "after_a_change": again, "pages": pages}
    store.write_measurement("book", found)
    told = book().set_index("what")
    assert list(told["measured"]) == ["1.5", "1.0", "4.0 (3.0 to 5.0)", "10", "0.95 (0.80 to 1.00)"]
    assert list(told["page"]) == ["", "", "", "one", "three"]
    for page in pages.values():
        page.pop("figure_ms", None)
    store.write_measurement("book", found)
    assert len(book()) == 4, "without a browser no figure is timed"
