"""The project's repository: its address, set in one place, and the texts of the book's pages that it holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ctrlib.errors import CtrlibError
from ctrlib.lab.records import note_read
from ctrlib.paths import root

NOTED = "repository/"  # what begins the note of a page that shows where the repository is


def repository() -> dict[str, str]:
    """Return the repository's `address` and `branch`, for buttons and for Google Colab; empty where it has none.

    The address is `CTRLIB_REPOSITORY`, else `repository: url:` in `_config.yml`, else the git remote `origin` if that
    is on GitHub, so that a fork without either links to itself.
    """
    note_read(f"{NOTED}address")
    told = settings().get("repository", {})
    address = os.environ.get("CTRLIB_REPOSITORY") or told.get("url") or _origin()
    return {"address": str(address).rstrip("/"), "branch": told.get("branch", "main")} if address else {}


def settings() -> dict[str, Any]:
    """Return what `_config.yml` holds, nothing where the file is not there."""
    import yaml

    path = root() / "_config.yml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return found or {}


def _origin() -> str:
    command = ["git", "-C", str(root()), "remote", "get-url", "origin"]
    try:
        address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    address = address.replace("git@github.com:", "https://github.com/").removesuffix(".git")
    return address if address.startswith("https://github.com/") else ""


def sources() -> dict[str, Path]:
    """Return name -> text source of the executed pages: chapters first, since other pages tell of records."""
    executed = [p for p in texts() if "\nkernelspec:" in p.read_text(encoding="utf-8")]
    found = {p.stem: p for p in [*chapters(), *executed]}
    if not found:
        raise CtrlibError(f"No pages in {root()}. Run this in a checkout, or set CTRLIB_ROOT to one.")
    return found


def chapters() -> list[Path]:
    """Return the analyses, `chapters/*.py`."""
    return sorted((root() / "chapters").glob("*.py"))


def texts() -> list[Path]:
    """Return the pages that are not analyses, `book/*.md`."""
    return sorted((root() / "book").glob("*.md"))
