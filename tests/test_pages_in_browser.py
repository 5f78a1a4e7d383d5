"""Pages in a browser: what a reader sees, reaches by keyboard, finds and loads, on wide and narrow screens.

The tests of the tiny book need only what `make test` installs. Those of the built book need `make book` first.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from playwright.sync_api import Browser, Page, Route
from test_book import HEADER, ROOT, checkout

from ctrlib.book import builder

BUILT = ROOT / "build" / "_build" / "html"
PAGES = sorted(path.relative_to(BUILT).as_posix() for path in BUILT.glob("[bc]*/*.html"))
HEAVIEST = 300_000  # bytes of HTML
PHONE = 390  # pixels
FAINT = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
SIDEWAYS = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
REDRAWN = "mode => [...document.querySelectorAll('.ctr-figure')].every(box => box.dataset.colours === mode)"

CHAPTER = (
    HEADER
    + r"""
# %% [markdown]
# # Tiny
# A page about zebras, see {cite:t}`li2025qnn`.

# %% tags=["parameters"]
profile = "quick"

# %%
import numpy as np
import pandas as pd
from ctrlib import views
from ctrlib.figures import boundaries, curves, figure_table, intervals
names = [f"a cell with a long name, number {i}" for i in range(9)]
df = pd.DataFrame({"cell": names, "auc": np.arange(9) * 4 % 9 / 10})
df = df.assign(low=df.auc - 0.1, high=df.auc + 0.1, half=df.index // 5)
figure_table(df, formats={"auc": ".4f"}, caption="A caption of many words, which a narrow screen must break. " * 3)

# %%
views.show(intervals(df, "auc", "cell", "low", "high", title="Nine cells"), "Which <cell> comes first?")
curves(df, "auc", "low", "cell", menu="half").show()

# %%
grid = np.linspace(-1, 1, 12)
one, other = np.add.outer(grid, grid) / 4 + 0.5, np.subtract.outer(grid, grid) / 4 + 0.5
panels = {name: {"0": one, "10": other, "20": one.T} for name in ("left", "middle", "right")}
boundaries(panels, 1.0, columns=3, slider="epoch")
"""
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The HTML of a book with one page, on it a table and three figures: plain, with a menu, with a slider."""
    folder = checkout(tmp_path_factory.mktemp("tiny"), CHAPTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRLIB_ROOT", str(folder))
        assert builder.build("smoke") == 0
        yield folder / "build" / "_build" / "html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser.find_browser() or pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    with browser.start(path) as running:
        yield running


@pytest.fixture
def page(chromium: Browser, tiny: Path) -> Iterator[Page]:
    """The tiny book's page, as a reader opens it from a disk."""
    with browser.opened(chromium, (tiny / "chapters" / "01_tiny.html").as_uri()) as (opened, seen):
        assert seen.complaints == []
        yield opened


# ---- the tiny book ---------------------------------------------------------------------------------------


def test_figures_draw_from_files_beside_the_page(page: Page, tiny: Path) -> None:
    text = (tiny / "chapters" / "01_tiny.html").read_text(encoding="utf-8")
    assert text.count('class="ctr-figure"') == page.locator(".ctr-figure[data-drawn=yes]").count() == 3
    assert "bdata" not in text and "layout" not in text.split("<article", 1)[1]
    names = [box.get_attribute("data-figure") for box in page.locator(".ctr-figure").all()]
    assert len(set(names)) == 3
    assert all((tiny / "_static" / "figures" / f"{name}.js").exists() for name in names)


def test_a_figure_says_in_words_what_it_shows(page: Page) -> None:
    words = [plot.get_attribute("aria-label") or "" for plot in page.locator(".ctr-plot[role=img]").all()]
    assert words[0].startswith("Points with intervals: Nine cells. Across: auc. Rows: 9, from a cell with a long name,")
    assert words[0].endswith("Which <cell> comes first?")
    assert "A menu offers 0, 1" in words[1]
    assert "A slider sets epoch: 0, 10, 20" in words[2] and "left, middle, right" in words[2]


def test_the_slider_is_reached_and_moved_by_keyboard(page: Page) -> None:
    slider = page.get_by_role("slider")
    reach(page, "input[type=range]")
    shown = "() => JSON.stringify(document.querySelectorAll('.ctr-plot')[2].data[0].z[0].slice(0, 3))"
    last = page.evaluate(shown)
    assert slider.get_attribute("aria-valuetext") == "20"
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "10"
    page.wait_for_function(f"before => ({shown})() !== before", arg=last)


def test_the_menu_is_reached_and_changed_by_keyboard(page: Page) -> None:
    reach(page, "select")
    shown = "() => document.querySelectorAll('.ctr-plot')[1].data.map(trace => trace.visible)"
    assert page.evaluate(shown) == [True] * 5 + [False] * 4
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"() => ({shown})()[0] === false")
    assert page.evaluate(shown) == [False] * 5 + [True] * 4


def test_a_table_is_sorted_by_keyboard(page: Page) -> None:
    reach(page, ".ctr-table th:nth-child(2) button")
    header = page.locator(".ctr-table th").nth(1)
    for key, order, first in (("Enter", "ascending", "0.0000"), ("Space", "descending", "0.8000")):
        page.keyboard.press(key)
        assert header.get_attribute("aria-sort") == order
        assert page.locator(".ctr-table tbody tr").first.locator("td").nth(1).inner_text() == first


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element that `selector` names has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_without_scripts_a_picture_stands_in(chromium: Browser, tiny: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((tiny / "chapters" / "01_tiny.html").as_uri())
    assert opened.locator(".ctr-plot[role=img]").count() == 3
    look_at_pictures(opened)
    context.close()


def look_at_pictures(opened: Page) -> None:
    pictures = opened.locator(".ctr-plot img")
    assert pictures.count() == 3
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        assert (picture.bounding_box() or {"height": 0})["height"] > 100
        opened.wait_for_function("picture => picture.naturalWidth > 100", arg=picture.element_handle())


def test_a_picture_stands_in_until_the_figure_is_drawn(chromium: Browser, tiny: Path) -> None:
    opened = chromium.new_page()
    held: list[Route] = []
    opened.route("**/plotly.min.js*", lambda route: held.append(route))  # the library arrives when we say so
    opened.goto((tiny / "chapters" / "01_tiny.html").as_uri(), wait_until="domcontentloaded")
    look_at_pictures(opened)
    for route in held:
        route.continue_()
    for place in range(3):
        opened.locator(".ctr-figure").nth(place).scroll_into_view_if_needed()
        opened.wait_for_selector(f":nth-match(.ctr-figure, {place + 1})[data-drawn=yes]")
    assert opened.locator(".ctr-plot img").count() == 0
    opened.close()


def test_the_numbers_of_a_figure_are_a_file(page: Page, tiny: Path) -> None:
    links = [link.get_attribute("href") or "" for link in page.get_by_role("link", name="Numbers of this figure").all()]
    assert len(links) == 2  # none for maps of the plane
    first = (tiny / "chapters" / links[0]).resolve().read_text(encoding="utf-8").splitlines()
    assert first[:2] == ["name,x,low,high", '"a cell with a long name, number 0",0,-0.1,0.1']


def test_a_missing_file_is_told_in_the_figures_place(chromium: Browser, tiny: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny, tmp_path / "html")
    for script in (broken / "_static" / "figures").glob("*.js"):
        script.unlink()
    with browser.opened(chromium, (broken / "chapters" / "01_tiny.html").as_uri()) as (opened, _):
        assert "could not be drawn: figures/" in opened.locator(".ctr-figure").first.inner_text()


def test_faint_text_is_found(page: Page) -> None:
    assert page.evaluate(FAINT) == []
    page.evaluate("document.querySelector('article p').innerHTML += '<i style=\"color: #aaa\">hardly seen</i>'")
    assert "hardly seen" in page.evaluate(FAINT)[0]


def test_narrow_screens_give_panels_rows_of_their_own(chromium: Browser, tiny: Path) -> None:
    address = (tiny / "chapters" / "01_tiny.html").as_uri()
    with browser.opened(chromium, address, width=PHONE) as (opened, _):
        assert opened.evaluate(SIDEWAYS) <= 0
        panels = opened.locator(".ctr-plot").nth(2).locator(".subplot").all()
        tops = {round(box["y"]) for panel in panels if (box := panel.bounding_box())}
        assert (len(panels), len(tops)) == (3, 2)  # two rows, where a wide screen has one
        caption, box = opened.locator(".ctr-table caption").bounding_box(), opened.locator(".ctr-scroll").bounding_box()
        assert caption and box and caption["width"] <= box["width"]


def test_search_finds_a_word(chromium: Browser, tiny: Path) -> None:
    with browser.serve(tiny) as address:
        search(chromium, f"{address}/chapters/01_tiny.html", "zebras")


def search(chromium: Browser, address: str, word: str) -> None:
    """Search for `word` as a reader does, and check that a result leads to a page with it."""
    with browser.opened(chromium, address) as (opened, _):
        opened.keyboard.press("Control+k")
        opened.keyboard.type(word)
        opened.keyboard.press("Enter")
        opened.locator("#search-results li a").first.click()
        opened.wait_for_load_state()
        assert word.lower() in opened.locator("article").first.inner_text().lower()


# ---- the built book --------------------------------------------------------------------------------------


@pytest.mark.skipif(not BUILT.exists(), reason="the book is not built; run make book first")
def test_built_book_is_searched(chromium: Browser) -> None:
    with browser.serve(BUILT) as address:
        search(chromium, f"{address}/book/index.html", "quadratic")


@pytest.mark.parametrize("name", PAGES)
def test_built_page_is_light(name: str) -> None:
    assert (BUILT / name).stat().st_size < HEAVIEST


@pytest.mark.parametrize("name", PAGES)
def test_built_page_draws_and_is_readable(chromium: Browser, name: str) -> None:
    with browser.opened(chromium, (BUILT / name).as_uri()) as (opened, seen):
        assert seen.complaints == []
        assert [address for address in seen.requests if not address.startswith(("file:", "data:", "blob:"))] == []
        assert opened.locator(".ctr-figure:not([data-drawn=yes])").count() == 0
        assert opened.locator(".ctr-table:not([data-ready=yes])").count() == 0
        assert opened.evaluate(SIDEWAYS) <= 0
        for mode in ("light", "dark"):
            opened.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
            opened.wait_for_function(REDRAWN, arg=mode)
            assert (mode, opened.evaluate(FAINT)) == (mode, [])


@pytest.mark.parametrize("name", PAGES)
def test_built_page_fits_a_phone(chromium: Browser, name: str) -> None:
    with browser.opened(chromium, (BUILT / name).as_uri(), width=PHONE) as (opened, seen):
        assert seen.complaints == []
        assert opened.locator(".ctr-figure:not([data-drawn=yes])").count() == 0
        assert opened.evaluate(SIDEWAYS) <= 0


@pytest.mark.parametrize("name", PAGES)
def test_built_page_has_the_files_of_its_figures(name: str) -> None:
    text = (BUILT / name).read_text(encoding="utf-8")
    for address in re.findall(r'(?:src|href)="(\.\./_static/figures/[^"]+)"', text):
        assert (BUILT / name).parent.joinpath(address).resolve().exists(), address
