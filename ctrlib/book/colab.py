"""Google Colab: the first cell of a paired notebook, and what it does there.

The cell fetches the repository and runs this file before anything of ctrlib can be imported, so only the standard
library is used here, and packaging, which comes with Jupyter. torch, numpy and what else Colab brings are never
replaced: where they do not fit, the reader is told what to do.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TAG = "colab"  # of the cell
EXTRA = "notebook"  # of pyproject.toml: what the chapters import beside the core packages
CELL = """\
# On Google Colab: fetch the repository and install ctrlib from it. Elsewhere this cell does nothing.
import os, runpy, subprocess

if "COLAB_RELEASE_TAG" in os.environ:
    if not os.path.isdir("chapters"):
        if not os.path.isdir("{folder}"):
            clone = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}", "{address}", "{folder}"]
            subprocess.run(clone, check=True)
        os.chdir("{folder}")
    runpy.run_path("ctrlib/book/colab.py")["set_up"]()"""


def cell(address: str, branch: str = "main") -> str:
    """Return the source of the first cell for the repository at an address such as https://github.com/NAME/REPO."""
    address = address.rstrip("/")
    return CELL.format(address=address, branch=branch, folder=address.rsplit("/", 1)[-1].removesuffix(".git"))


def set_up(checkout: Path | None = None) -> None:
    """Install ctrlib and what the chapters lack, and make it importable; print what there is.

    checkout: the repository's folder, by default the working directory. Raises `RuntimeError` when Python or a package
    that Colab brings does not fit, or when pip fails.
    """
    start, root = time.perf_counter(), (checkout or Path.cwd()).resolve()
    settings = read_settings(root)
    core, extras = settings["dependencies"], settings["optional-dependencies"][EXTRA]
    if found := problems(settings["requires-python"], core):
        raise RuntimeError(
            "This runtime does not fit ctrlib:\n  " + "\n  ".join(found) + "\nNothing was installed. Choose another by "
            "Runtime > Change runtime type > Runtime version, then run this cell again."
        )
    install(root, [requirement for requirement in extras if unmet(requirement)], core)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # a kernel that runs does not look for new packages elsewhere
    importlib.invalidate_caches()
    kept = ", ".join(f"{name} {version(name)}" for name in map(name_of, core))
    print(f"ctrlib {version('ctrlib')} is ready after {time.perf_counter() - start:.0f} s, with {kept}.")


def read_settings(root: Path) -> dict[str, Any]:
    """Return the project's part of pyproject.toml. Raises `RuntimeError` for a Python too old to read it."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    try:
        import tomllib
    except ImportError:
        wanted = re.search(r'requires-python = "(.+)"', text)
        raise RuntimeError(
            f"ctrlib needs Python {wanted[1] if wanted else 'of a newer version'}; this is {sys.version.split()[0]}. "
            "Choose a newer runtime: Runtime > Change runtime type > Runtime version."
        ) from None
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def problems(python: str, requirements: list[str]) -> list[str]:
    """Return what does not fit, one line each: this Python, and packages that are absent or out of range."""
    from packaging.specifiers import SpecifierSet

    own = sys.version.split()[0]
    found = [] if SpecifierSet(python).contains(own, prereleases=True) else [f"Python {own}; it needs {python}"]
    return found + [told for requirement in requirements if (told := unmet(requirement))]


def unmet(requirement: str) -> str:
    """Return how what is installed misses a requirement such as "numpy>=1.26,<3"; "" where it does not."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed; it needs {wanted.specifier}"
    if wanted.specifier.contains(found, prereleases=True):
        return ""
    return f"{wanted.name} {found}; it needs {wanted.specifier}"


def name_of(requirement: str) -> str:
    """Return the package that a requirement is about."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def install(root: Path, missing: list[str], core: list[str]) -> None:
    """Install what is missing, with the core packages held where they are, and ctrlib without its dependencies."""
    if missing:
        with TemporaryDirectory() as folder:
            held = Path(folder, "held.txt")
            held.write_text("".join(f"{name}=={version(name)}\n" for name in map(name_of, core)), encoding="utf-8")
            _pip(*missing, "--constraint", str(held))
    _pip("--no-deps", "--editable", str(root))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not install {words[0]}:\n{done.stdout[-2000:]}")
