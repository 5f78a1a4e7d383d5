"""What it takes to build the book and to read it: time and memory of a build, the size of each page, its first figure.

The build is of a copy of the project, so that nothing here is executed, changed or left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctrlib.bench.store import checked_threads, spread, write_measurement
from ctrlib.book.pictures import find_browser
from ctrlib.book.serve import serve
from ctrlib.errors import CtrlibError
from ctrlib.lab.runner import commit, environment
from ctrlib.paths import cache_dir, root
from ctrlib.repository import sources

LEFT_OUT = shutil.ignore_patterns("build", "cache", ".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "tests")
CHANGED = Path("chapters/01_activation.py")  # gets a paragraph more before the book is built again
EVERY = 0.5  # seconds from one look at the memory to the next
WINDOW = {"width": 1400, "height": 1000}  # pixels
PATIENCE = 60_000  # milliseconds for a figure
# Notes when the first figure's picture is there, and when its plot is drawn, in milliseconds from the start of loading.
WATCH = """
const seen = window.ctrSeen = {};
const look = () => {
  const figure = document.querySelector(".ctr-figure");
  if (!figure) return;
  const picture = figure.querySelector("img");
  if (picture && picture.complete && picture.naturalWidth) seen.picture ??= performance.now();
  if (figure.dataset.drawn) seen.figure ??= performance.now();
  else picture?.addEventListener("load", look, { once: true });
};
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
"""
SHOW = "document.querySelector('.ctr-figure').scrollIntoView({ block: 'center', behavior: 'instant' })"


def measure_book(repeats: int, threads: int | None) -> dict[str, Any]:
    """Build the whole book once, build it again after changes of text, load its pages; return and store the figures.

    repeats: builds after a change, and loads of each page. Times are in seconds, those of figures in milliseconds,
    memory in MB (the sum over all processes, shared parts counted once), sizes in bytes. Without a Chromium the
    figures are not timed. They go to data/measurements/book.json. Raises `CtrlibError` when a build fails.
    """
    threads = checked_threads(repeats, threads)
    found: dict[str, Any] = {"environment": environment("cpu", threads), "commit": commit()}
    with tempfile.TemporaryDirectory(prefix="ctrlib-book-") as scratch:
        copy = Path(scratch) / "project"
        shutil.copytree(root(), copy, ignore=LEFT_OUT)
        seconds, memory = _build(copy)
        found["build"] = {"seconds": seconds, "peak_memory_mb": memory, "pages": len(sources())}
        found["after_a_change"] = spread([_changed_and_built(copy, number) for number in range(repeats)])
        found["pages"] = dict(_pages(copy / "build" / "_build" / "html", repeats))
    write_measurement("book", found)
    return found


def _changed_and_built(copy: Path, number: int) -> float:
    with (copy / CHANGED).open("a", encoding="utf-8") as page:
        page.write(f"\n# %% [markdown]\n# Paragraph {number + 1} more.\n")
    return _build(copy)[0]


def _build(copy: Path) -> tuple[float, float]:
    """Build the book of a project; return the seconds and the most memory that all processes held together (MB)."""
    surroundings = {**os.environ, "CTRLIB_ROOT": str(copy), "CTRLIB_CACHE": str(cache_dir())}
    command = [sys.executable, "-m", "ctrlib.cli", "book"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=copy, env=surroundings, stdout=told, stderr=subprocess.STDOUT)
        most = 0.0
        while process.poll() is None:
            most = max(most, _memory_mb(process.pid))
            time.sleep(EVERY)
        seconds = time.perf_counter() - start
        if process.returncode:
            told.seek(0)
            raise CtrlibError(f"The build failed:\n{told.read()[-2000:]}")
    return round(seconds, 1), round(most, 1)


def _memory_mb(pid: int) -> float:
    """Return what a process and all below it hold: proportional shares where the system tells them (Linux)."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in processes:
        try:
            told = process.memory_full_info()
            total += getattr(told, "pss", told.rss)
        except psutil.Error:  # has ended meanwhile
            continue
    return total / 2**20


def _pages(book: Path, repeats: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each page with its size, and with the times of its first figure where it has one."""
    from playwright.sync_api import sync_playwright

    pages = sorted(path for path in book.rglob("*.html") if not {"_static", "_sources"} & set(path.parts))
    browser = find_browser()
    with serve(book) as address, sync_playwright() as playwright:
        for path in pages:
            about: dict[str, Any] = {"bytes": path.stat().st_size}
            name = path.relative_to(book).as_posix()
            if browser and 'class="ctr-figure' in path.read_text(encoding="utf-8"):
                loads = [_load(playwright, browser, f"{address}/{name}") for _ in range(repeats)]
                for part in ("picture", "figure"):
                    about[f"{part}_ms"] = spread([round(load[part]) for load in loads])
            yield name.removesuffix(".html"), about


def _load(playwright: Any, browser: str, address: str) -> dict[str, float]:
    """Open a page in a browser that has not seen it before; return when its first figure came, in milliseconds."""
    running = playwright.chromium.launch(executable_path=browser, chromium_sandbox=False)
    try:
        page = running.new_page(viewport=WINDOW)
        page.add_init_script(WATCH)
        page.goto(address, wait_until="domcontentloaded")
        page.evaluate(SHOW)
        page.wait_for_function("ctrSeen.figure", timeout=PATIENCE)
        found: dict[str, float] = page.evaluate("({ picture: ctrSeen.figure, ...ctrSeen })")
        return found
    finally:
        running.close()
