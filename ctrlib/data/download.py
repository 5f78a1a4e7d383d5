"""Downloads that resume, and checksums. A file gets its name only when it is whole and verified."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ctrlib.errors import DataError

CHUNK = 1 << 16  # bytes
TIMEOUT = 60.0  # seconds without a byte


def checksum_of(path: Path, algorithm: str) -> str:
    """Return the "sha256" or "md5" sum of a file as hex digits."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def matches(path: Path, expected: str) -> bool:
    """Say whether a file has the checksum `expected`, written as "ALGORITHM:HEX"."""
    algorithm, _, digits = expected.partition(":")
    return checksum_of(path, algorithm) == digits


def download(url: str, target: Path, expected: str | None = None, timeout: float = TIMEOUT) -> Path:
    """Download `url` to `target` through `target`.part, and go on from that part when it is there.

    A body that ends early keeps its part for the next start. A body whose checksum is not `expected`
    ("ALGORITHM:HEX") is removed. Both raise DataError, as do a refused connection and a full disk.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, timeout)
        _verify(url, part, expected)
        os.replace(part, target)
    except (OSError, http.client.HTTPException) as error:
        raise _explained(error, url, part) from error
    return target


def _verify(url: str, part: Path, expected: str | None) -> None:
    if expected and not matches(part, expected):
        part.unlink()
        raise DataError(
            f"{url}: the downloaded file does not have the checksum {expected}. It was removed. "
            "Start again; if this repeats, the source has changed."
        )


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Write the body to `part` from where it ends; DataError when the body is shorter than announced."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "ctrlib", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        if error.headers.get("Content-Range") != f"bytes */{done}":
            part.unlink()  # longer than the file at the source, so it is of no use
            _fetch(url, part, timeout)
        return
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server sends the whole file: start over
        total = _announced(response, done)
        with part.open("ab" if done else "wb") as file:
            _copy(response, file, done, total, part.stem)
    if total is not None and (size := part.stat().st_size) < total:
        raise DataError(
            f"{url}: the download ended after {size:,} of {total:,} bytes. The part is kept; "
            "start again to fetch the rest."
        )


def _announced(response: Any, done: int) -> int | None:
    length = response.headers.get("Content-Length")
    return done + int(length) if length else None


def _copy(response: Any, file: IO[bytes], done: int, total: int | None, name: str) -> None:
    with _progress(done, total, name) as bar:
        while True:
            try:
                block = response.read(CHUNK)
            except http.client.IncompleteRead as error:
                block = error.partial
            if not block:
                return
            file.write(block)
            bar.update(len(block))


def _explained(error: Exception, url: str, part: Path) -> DataError:
    if getattr(error, "errno", None) == errno.ENOSPC:
        return DataError(
            f"{part}: the disk is full. Free some space and start again; the download resumes. "
            "CTRLIB_CACHE names another folder."
        )
    if isinstance(error, urllib.error.HTTPError):
        return DataError(f"{url}: the server answered {error.code} {error.reason}.")
    if isinstance(error, (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException)):
        return DataError(
            f"{url}: the connection failed ({getattr(error, 'reason', error)}). What was fetched is "
            "kept; start again to resume."
        )
    return DataError(f"{part} could not be written: {error}. CTRLIB_CACHE names another folder.")


class _NoBar:
    def update(self, n: int) -> None:
        """Show nothing."""


@contextmanager
def _progress(done: int, total: int | None, name: str) -> Iterator[Any]:
    try:
        from tqdm import tqdm
    except ImportError:  # the bar is a comfort, not a need
        yield _NoBar()
        return
    # disable=None: no bar where the output is not a terminal, such as an executed page.
    with tqdm(initial=done, total=total, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        yield bar


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time hold the lock file `path`. Without flock (Windows) nobody waits."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
