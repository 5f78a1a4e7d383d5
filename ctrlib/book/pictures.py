"""Pictures of figures, drawn by plotly in the Chromium of this computer.

A page shows them until its figures are drawn, and to readers without scripts. They need Chromium and the package
playwright. Without them a place stays empty until its figure is drawn, or has the figure's description in words.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctrlib.book.embed import HEIGHT, plain
from ctrlib.paths import written_whole

NAMES = ("chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium")
WIDTH = 760  # pixels, about the width of a page's text
PATIENCE = 120_000  # ms for one figure
INK = "#222832"  # on white, whatever the theme: what shows a picture has no scripts that could change its colours
DRAW = """async ({ data, layout, width, height, ink }) => {
  const { sliders, updatemenus, ...rest } = layout;
  const still = { ...rest, width, height, paper_bgcolor: "#ffffff", font: { ...rest.font, color: ink } };
  const address = await Plotly.toImage({ data, layout: still }, { format: "svg", width, height });
  return decodeURIComponent(address.slice(address.indexOf(",") + 1));
}"""


def find_browser() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def draw(figures: Mapping[str, Any], folder: Path, plotly: Path) -> frozenset[str]:
    """Draw `figures` (name -> plotly's JSON) as NAME.svg in `folder`; return the names that have a picture.

    Those already there are not drawn again. `plotly` is plotly.min.js. A missing or failing browser is told in a line
    and costs the pictures, not the build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {name: figure for name, figure in figures.items() if not (folder / f"{name}.svg").exists()}
    if waiting:
        path = find_browser()
        if path is None or find_spec("playwright") is None:
            print("No Chromium or no playwright: pages have no pictures of their figures.", flush=True)
        else:
            with ThreadPoolExecutor(1) as own:  # playwright refuses a thread in which an event loop runs
                own.submit(_draw, waiting, folder, plotly, path).result()
    return frozenset(name for name in figures if (folder / f"{name}.svg").exists())


def _draw(figures: Mapping[str, Any], folder: Path, plotly: Path, browser: str) -> None:
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as playwright:
            arguments = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage"]
            running = playwright.chromium.launch(executable_path=browser, args=arguments, chromium_sandbox=False)
            page = running.new_page()
            page.set_default_timeout(PATIENCE)
            page.add_script_tag(path=plotly)
            for name, figure in figures.items():
                shown = plain(figure)
                layout = shown.get("layout", {})
                size = {"width": WIDTH, "height": layout.get("height", HEIGHT), "ink": INK}
                drawn = page.evaluate(DRAW, {"data": shown["data"], "layout": layout, **size})
                with written_whole(folder / f"{name}.svg") as part:
                    part.write_text(drawn, encoding="utf-8")
            running.close()
    except Error as error:
        print(f"Some figures have no picture: {error.message}", flush=True)
