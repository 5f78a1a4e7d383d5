"""Where the project's files lie, how they are written whole, and how many cores it may take.

In a checkout everything is under its root. An installed package has no checkout: there the root is
`CTRLIB_ROOT`, or the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ctrlib.errors import SettingError

JOBS = "CTRLIB_JOBS"
MADE = "CTRLIB_MADE"


def jobs_at_once() -> int:
    """Return how many runs are made side by side: one for each core, or what `CTRLIB_JOBS` says."""
    text = os.environ.get(JOBS) or str(os.cpu_count() or 1)
    if not text.isdigit() or int(text) < 1:
        raise SettingError(f"{JOBS} is '{text}'; give a whole number of runs, for example 1.")
    return int(text)


def root() -> Path:
    """Return the folder that holds `data/`, `chapters/` and `book/`."""
    if named := os.environ.get("CTRLIB_ROOT"):
        return Path(named)
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "chapters").is_dir() else Path.cwd()


def records_dir() -> Path:
    """Return the folder of run records, `data/records` (`CTRLIB_RECORDS` overrides it)."""
    return Path(os.environ.get("CTRLIB_RECORDS") or root() / "data" / "records")


def cache_dir() -> Path:
    """Return the folder of downloads, encoded data and checkpoints (`CTRLIB_CACHE` overrides it)."""
    return Path(os.environ.get("CTRLIB_CACHE") or root() / "data" / "cache")


def papers_dir() -> Path:
    """Return the folder of published figures, `data/papers`."""
    return root() / "data" / "papers"


def measurements_dir() -> Path:
    """Return the folder of measurements that are not runs, `data/measurements`."""
    return root() / "data" / "measurements"


def measured_dir() -> Path:
    """Return the folder of what is measured on the networks of recorded runs; it lies among their records."""
    return records_dir() / "measured"


def made_dir() -> Path | None:
    """Return the folder where pages of one build leave what later pages show (`CTRLIB_MADE`); None outside a build."""
    folder = os.environ.get(MADE)
    return Path(folder) if folder else None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a file to write beside `path`; it takes the place of `path` when the block ends, or goes when it fails.

    So `path` is whole at any moment, and what was there stays until all is written. Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
