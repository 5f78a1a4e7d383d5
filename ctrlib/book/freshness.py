"""Whether an executed page is what it would be if it were executed now.

What a page shows depends on its code cells, its parameters, the package, the stored data that it reads, and the
versions of the libraries. Its text changes no output. Each of these inputs is kept as a digest beside the executed
notebook, in NAME.inputs.json, and compared when the page is built again.

Run records count for the experiments that the page read; so do what earlier pages left, the text of all pages, and the
repository's address. The page's kernel tells what it read, in a file that the environment variable of
`ctrlib.lab.records.READS` names. The other stored files are few: each page depends on all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ctrlib
from ctrlib.book.pages import INJECTED, Notebook
from ctrlib.lab.made import LEFT
from ctrlib.lab.records import TEXT
from ctrlib.paths import measured_dir, records_dir, root
from ctrlib.repository import NOTED, chapters, repository, texts

# What builds and publishes the book. No page and no other module imports it, so it changes no output.
BUILD_ONLY = ("book", "cli.py")
LIBRARIES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "numba", "polars", "plotly", "contourpy")
CODE = "the page's code"
OPTIONAL = {  # -> how what was read is noted
    "records of ": "",
    "what a page left as ": LEFT,
    "the text of ": TEXT,
    "the repository's ": NOTED,
}


def inputs(source: Notebook, parameters: Mapping[str, Any], shared: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of every input that a page may have, by what the input is called to a reader.

    shared: what `shared_inputs` gave just now, to save reading the same files for every page.
    """
    own = {CODE: code_digest(source), "its parameters": _digest(json.dumps(dict(parameters), sort_keys=True))}
    return own | dict(shared)


def shared_inputs(made: Path | None = None) -> dict[str, str]:
    """Return the digests of the inputs that are the same for all pages.

    made: the folder where earlier pages have left what later ones show.
    """
    found = {
        "ctrlib": _of_files(_package()),
        "stored figures, measurements and claims": _of_files(_stored()),
        "versions of the libraries": _digest(json.dumps(_versions())),
        "the data folder": _digest(os.environ.get("CTRLIB_DATA", "")),
    }
    found |= {f"records of {name}": digest for name, digest in record_digests().items()}
    left = sorted(made.glob("*.json")) if made else []
    found |= {f"what a page left as {path.stem}": _of_files([path]) for path in left}
    found["the repository's address"] = _digest(json.dumps(repository()))
    return found | {"the text of all pages": _of_files([*chapters(), *texts()])}


def code_digest(notebook: Notebook) -> str:
    """Return the digest of a notebook's code cells; text, tags and what papermill adds do not count."""
    return _digest(json.dumps([cell.source.strip() for cell in own_code(notebook)]))


def own_code(notebook: Notebook) -> list[Any]:
    """Return the code cells that are the page's own."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if INJECTED not in cell.metadata.get("tags", [])]


def record_digests() -> dict[str, str]:
    """Return experiment -> digest of its run records."""
    folders = sorted(path for path in records_dir().glob("*") if path.is_dir() and path != measured_dir())
    return {folder.name: _of_files(sorted(folder.rglob("seed-*.json")), folder) for folder in folders}


def keep(path: Path, found: Mapping[str, str], reads: Iterable[str]) -> None:
    """Write to `path` the inputs of a page that was executed just now; `reads` are the experiments it read."""
    names = sorted(set(reads))
    kept = {name: digest for name, digest in found.items() if _counts(name, names)}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"date": date, "reads": names, "inputs": kept}
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def changed(path: Path, now: Mapping[str, str]) -> list[str] | None:
    """Return the names of the inputs that changed since `keep` wrote `path`; None where nothing was kept."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        before, reads = dict(about["inputs"]), list(about["reads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    names = dict.fromkeys([*before, *(name for name in now if _counts(name, reads))])
    return [name for name in names if before.get(name) != now.get(name)]


def _counts(name: str, reads: list[str]) -> bool:
    """Tell whether an input is one of a page that noted `reads`."""
    for begins, note in OPTIONAL.items():
        if name.startswith(begins):
            return note + name.removeprefix(begins) in reads or (not note and "*" in reads)
    return True


def executed_on(path: Path) -> str:
    """Return the date on which a page was executed, such as 2026-11-22, or "" where nothing was kept."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["date"])[:10]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _package() -> list[Path]:
    package = Path(ctrlib.__file__).parent
    return [p for p in sorted(package.rglob("*.py")) if p.relative_to(package).parts[0] not in BUILD_ONLY]


def _stored() -> list[Path]:
    data = root() / "data"
    folders = [data / "papers", data / "measurements", measured_dir()]
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()] + [data / "claims.toml"]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _of_files(paths: Iterable[Path], folder: Path | None = None) -> str:
    """Return the digest of files: of their names, under `folder` where it is given, and their content."""
    whole = hashlib.sha256()
    for path in paths:
        name = path.relative_to(folder).as_posix() if folder else path.name
        content = path.read_bytes() if path.exists() else b""
        whole.update(f"{name}\n{len(content)}\n".encode() + content)
    return whole.hexdigest()[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
