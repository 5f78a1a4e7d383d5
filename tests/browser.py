"""Look at built pages in a headless browser: what they draw, ask for and complain about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from ctrlib.book.pictures import find_browser
from ctrlib.book.serve import serve

__all__ = ["Visit", "find_browser", "opened", "serve", "start", "visit"]

OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# A page is ready when each of its figures and tables is drawn or has said why it cannot be. A figure is drawn when it
# comes near the screen, so the next one is brought there. (A window as high as the page would take minutes to paint.)
READY = """() => {
  const next = document.querySelector(".ctr-figure:not([data-drawn])");
  if (next) next.scrollIntoView({ block: "center", behavior: "instant" });
  const waiting = ":is(.ctr-table, .ctr-claims):not([data-ready])";
  return document.readyState === "complete" && !next && !document.querySelector(waiting);
}"""
PATIENCE = 120  # seconds; a busy computer may need many, and a page that is ready ends the wait


@dataclass
class Visit:
    """What a page looks like after its scripts ran: its elements, complaints and addresses asked for."""

    dom: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        """Addresses on other hosts than the one that serves the book."""
        ours = re.compile(r"https?://127\.0\.0\.1[:/]|data:|blob:")
        return [address for address in self.requests if not ours.match(address)]


@contextmanager
def start(path: str) -> Iterator[Browser]:
    """Start the Chromium at `path`, without a window and with no way to the network."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, args=[OFFLINE, "--disable-dev-shm-usage"], chromium_sandbox=False
        )
        try:
            yield running
        finally:
            running.close()


@contextmanager
def opened(
    running: Browser, address: str, *, dark: bool = False, width: int = 1400, height: int = 1000
) -> Iterator[tuple[Page, Visit]]:
    """Open `address`; yield the page at its top, once all of it is ready, and the visit so far."""
    seen = Visit()
    page = running.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page.set_default_timeout(PATIENCE * 1000)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("console", lambda line: seen.complaints.append(line.text) if line.type == "error" else None)
    try:
        page.goto(address)
        try:
            page.wait_for_function(READY)
            page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
        except TimeoutError:
            seen.complaints.append(f"not drawn after {PATIENCE} s")
        yield page, seen
    finally:
        page.close()


def visit(running: Browser, address: str, *, dark: bool = False) -> Visit:
    """Open `address` and return what is there once the page is ready."""
    with opened(running, address, dark=dark) as (page, seen):
        seen.dom = page.content()
    return seen
