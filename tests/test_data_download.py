"""Downloads against a server on the loopback interface: resume, truncation, checksums, archives."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ctrlib.data.download import download
from ctrlib.data.origins import Archive
from ctrlib.errors import DataError

BODY = bytes(range(256)) * 1000
SUM = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `body`; `cut` bytes are withheld, `ranges` says whether part requests are honoured."""

    body = BODY
    cut = 0
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        body, start = self.server.body, 0
        if self.path.endswith("absent"):
            return self.send_error(404)
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self._head(416, 0, f"bytes */{len(body)}")
        self._head(206 if start else 200, len(body) - start, f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.wfile.write(body[start : len(body) - self.server.cut])

    def _head(self, status: int, length: int, content_range: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if status != 200:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_whole_download(server: Server, tmp_path: Path) -> None:
    target = download(server.url, tmp_path / "new" / "file.bin", SUM)
    assert target.read_bytes() == BODY and not part_of(target).exists() and server.asked == [None]


def test_truncated_body_keeps_the_part_and_resumes(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    server.cut = 1000
    with pytest.raises(DataError, match=r"ended after 255,000 of 256,000 bytes.*start again"):
        download(server.url, target, SUM)
    assert not target.exists() and part_of(target).stat().st_size == 255_000
    server.cut = 0
    assert download(server.url, target, SUM).read_bytes() == BODY
    assert server.asked == [None, "bytes=255000-"]


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part_of(tmp_path / "file.bin").write_bytes(b"old bytes")
    assert download(server.url, tmp_path / "file.bin", SUM).read_bytes() == BODY


@pytest.mark.parametrize("part", [BODY, BODY + b"more"])
def test_part_that_is_whole_or_too_long(server: Server, tmp_path: Path, part: bytes) -> None:
    part_of(tmp_path / "file.bin").write_bytes(part)
    assert download(server.url, tmp_path / "file.bin", SUM).read_bytes() == BODY
    assert len(server.asked) == (1 if part == BODY else 2)


def test_wrong_checksum_removes_the_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with pytest.raises(DataError, match="does not have the checksum md5:0123"):
        download(server.url, target, "md5:0123")
    assert not target.exists() and not part_of(target).exists()


def test_damaged_part_never_becomes_the_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    part_of(target).write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="checksum"):
        download(server.url, target, SUM)
    assert not target.exists()
    assert download(server.url, target, SUM).read_bytes() == BODY


def test_absent_file_and_absent_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="answered 404"):
        download(server.url + "-absent", tmp_path / "a")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="connection failed"):
        download(server.url, tmp_path / "b")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_full_disk(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "file.bin").symlink_to("/dev/full")
    with pytest.raises(DataError, match="disk is full"):
        download(server.url, tmp_path / "file.bin", SUM)
    assert not (tmp_path / "file.bin").exists()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"inner/{name}.csv", content)
    return buffer.getvalue()


def checksums(**members: bytes) -> dict[str, str]:
    return {f"{name}.csv": f"md5:{hashlib.md5(content).hexdigest()}" for name, content in members.items()}


def test_archive_is_unpacked_and_verified(server: Server, tmp_path: Path) -> None:
    server.body = zipped(train=b"1,a\n" * 500, valid=b"0,b\n")
    Archive(server.url).fetch(checksums(train=b"1,a\n" * 500, valid=b"0,b\n"), tmp_path)
    assert (tmp_path / "train.csv").read_bytes() == b"1,a\n" * 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.csv", "valid.csv"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (zipped(train=b"other"), "train.csv in file.bin does not have the checksum"),
        (zipped(test=b"1,a\n"), "lacks a file"),
        (b"<html>not found</html>", "damaged"),
        (zipped(train=b"1,a\n" * 500)[:-30], "damaged"),
    ],
)
def test_bad_archive_is_removed(server: Server, tmp_path: Path, body: bytes, words: str) -> None:
    server.body = body
    with pytest.raises(DataError, match=words):
        Archive(server.url).fetch(checksums(train=b"1,a\n"), tmp_path)
    assert list(tmp_path.iterdir()) == []
