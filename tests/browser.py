"""Look at built pages in a headless browser: what they draw, ask for and complain about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

NAMES = ("chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Visit:
    """What a page looks like after its scripts ran: its elements, console lines and addresses asked for."""

    dom: str
    console: list[str]
    requests: list[str]

    @property
    def outside(self) -> list[str]:
        """Addresses on other hosts than the one that serves the book."""
        ours = re.compile(r"https?://127\.0\.0\.1[:/]|data:|blob:")
        return [address for address in self.requests if not ours.match(address)]


def find_browser() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` on the loopback address; yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def visit(browser: str, address: str, *, dark: bool = False, seconds: int = 20, height: int = 40000) -> Visit:
    """Open `address` in a window that shows the whole page; `seconds` is how long its clock runs."""
    with TemporaryDirectory(prefix="browser-") as scratch:
        log = Path(scratch) / "net.json"
        done = _run(
            browser,
            scratch,
            dark,
            height,
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--dump-dom",
            f"--virtual-time-budget={seconds * 1000}",
            address,
        )
        requests = _requested(log.read_text(encoding="utf-8", errors="replace"))
    return Visit(done.stdout, re.findall(r":CONSOLE[^\]]*\] (.*)", done.stderr), requests)


def screenshot(browser: str, address: str, target: Path, *, dark: bool = False, height: int = 3000) -> None:
    """Write a picture of the page, `height` pixels from its top, to `target`."""
    with TemporaryDirectory(prefix="browser-") as scratch:
        _run(browser, scratch, dark, height, f"--screenshot={target}", "--virtual-time-budget=20000", address)


def _run(browser: str, scratch: str, dark: bool, height: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser,
        *QUIET,
        f"--user-data-dir={scratch}/profile",
        f"--window-size=1400,{height}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


def _requested(net_log: str) -> list[str]:
    """Return the addresses that the page asked for; what the browser does itself has no initiator.

    The log has one event a line and may end in mid-sentence, so it is not parsed as a whole.
    """
    found = set()
    for line in net_log.splitlines():
        if '"initiator":"http' in line and '"url":"' in line:
            found.add(json.loads(line.rstrip(","))["params"]["url"])
    return sorted(found)
