"""Build the book: execute its pages, stage what was executed, render it, check the result.

    OUT/executed/PROFILE/*.ipynb   the pages as papermill executed them
    OUT/pictures/*.svg             figures as pictures, kept while the figure stays the same
    OUT/site/                      what the renderer reads; same paths as in the repository
    OUT/_build/html                the book

A page that is executed has a text source, the reviewed one: `chapters/*.py` (percent format) or a `book/*.md`
whose front matter names a kernel. Beside it lies the paired notebook for Binder and Colab, made by `pair`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctrlib import pictures
from ctrlib.embed import Shelf, name_of
from ctrlib.errors import CtrlibError, unknown
from ctrlib.pages import figures_of, for_the_book, paired, problems, same_source, typed_numbers, without_machine
from ctrlib.paths import JOBS, root

PROFILES = ("smoke", "quick", "paper")
MATHJAX = "sphinx-mathjax-offline"  # a package used as a store of one file
TOOLS = ("jupyter_book", "jupytext", "papermill", "plotly", "yaml", MATHJAX)


def build(profile: str = "quick", only: list[str] | None = None, out: Path | None = None) -> int:
    """Execute, render and check the book below `out` (default `build/`); return the exit code.

    `only` executes just the pages named (`01_activation`); the others are taken from the last build with the
    same profile, or shown without outputs. Such a book is a draft: its warnings are printed and do not fail.
    Raises `SettingError` for an unknown profile or page, `CtrlibError` when a cell fails, when a tool of the
    extra `book` is missing, or when prose holds a result that nobody computed.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    pages = sources()
    if wrong := [name for name in only or () if name not in pages]:
        raise unknown("page", wrong[0], pages)
    require_tools()
    refuse_typed_numbers()
    out = (out or root() / "build").resolve()
    execute_all(only or list(pages), profile, out)
    stage(profile, out)
    return render(out, strict=not only) or check(out)


def pair() -> list[Path]:
    """Write the paired notebook of every executed page, without outputs; return the files that changed.

    The text is the source: what was changed in the notebook alone is replaced.
    """
    require_tools()
    changed = []
    for source in sources().values():
        text, target = paired(source), source.with_suffix(".ipynb")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            changed.append(target)
    return changed


def sources() -> dict[str, Path]:
    """Return name -> text source of the executed pages: chapters first, since other pages tell of records."""
    texts = [p for p in _texts() if "\nkernelspec:" in p.read_text(encoding="utf-8")]
    found = {p.stem: p for p in [*_chapters(), *texts]}
    if not found:
        raise CtrlibError(f"No pages in {root()}. Run this in a checkout, or set CTRLIB_ROOT to one.")
    return found


def _texts() -> list[Path]:
    return sorted((root() / "book").glob("*.md"))


def _chapters() -> list[Path]:
    return sorted((root() / "chapters").glob("*.py"))


def require_tools() -> None:
    """Raise `CtrlibError` when a tool of the extra `book` is not installed."""
    if missing := ", ".join(name for name in TOOLS if find_spec(name) is None):
        raise CtrlibError(f"The book needs {missing}. Install the extra: pip install 'ctrlib[book]'.")


def refuse_typed_numbers() -> None:
    """Raise `CtrlibError` when prose holds a typed result: a page shows what code or a record gives."""
    import jupytext

    prose = {page: page.read_text(encoding="utf-8") for page in _texts()}
    for page in _chapters():
        prose[page] = "\n\n".join(c.source for c in jupytext.read(page).cells if c.cell_type == "markdown")
    found = [f"{page.relative_to(root())}: {n}" for page, text in prose.items() for n in typed_numbers(text)]
    if found:
        lines = "\n  ".join(found)
        raise CtrlibError(f"Typed results in prose (compute them and show them with glue):\n  {lines}")


def execute_all(names: list[str], profile: str, out: Path) -> None:
    """Execute chapters side by side, one to a core, and after them the pages that tell of records.

    In the profile "paper" a chapter takes all cores, and they take turns. Raises the first error met.
    """
    workers = 1 if profile == "paper" else os.cpu_count() or 1
    chapters = {path.stem for path in _chapters()}
    for group in ([n for n in names if n in chapters], [n for n in names if n not in chapters]):
        if min(workers, len(group)) <= 1:
            for name in group:
                execute(name, {"profile": profile}, out)
            continue
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_take_one_core) as pool:
            waiting = [pool.submit(execute, name, {"profile": profile}, out) for name in group]
            try:
                for page in as_completed(waiting):
                    page.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _take_one_core() -> None:
    """Keep the kernels of this process to one core: threads of two that wait for each other are many times slower."""
    os.environ |= {JOBS: "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def execute(name: str, parameters: dict[str, Any], out: Path | None = None) -> Path:
    """Execute one page with `parameters` (its `profile` among them); return the executed notebook.

    Raises `SettingError` for an unknown page, `CtrlibError` when a cell fails, naming page and cell.
    """
    require_tools()
    import jupytext
    import papermill
    from nbclient.exceptions import DeadKernelError

    if name not in (pages := sources()):
        raise unknown("page", name, pages)
    profile = str(parameters["profile"])
    folder = (out or root() / "build") / "executed" / profile
    folder.mkdir(parents=True, exist_ok=True)
    unrun, part, done = (folder / f"{name}{end}.ipynb" for end in (".in", ".part", ""))
    done.unlink(missing_ok=True)
    jupytext.write(jupytext.read(pages[name]), unrun)
    start = time.perf_counter()
    try:
        with _kernel_environment(), own_sockets() as sockets:
            papermill.execute_notebook(unrun, part, parameters, config=sockets, **_papermill_options(profile))
    except papermill.PapermillExecutionError as error:
        raise CtrlibError(_failure(name, error)) from None
    except DeadKernelError:
        raise CtrlibError(f"Page {name} failed: its kernel died (out of memory?). See {part}.") from None
    part.replace(done)  # a page cut off midway never looks finished
    print(f"executed {name} ({profile}) in {time.perf_counter() - start:.1f} s", flush=True)
    return done


def _papermill_options(profile: str) -> dict[str, Any]:
    """Return how papermill runs. A full grid takes hours, so its progress goes to the terminal."""
    full = profile == "paper"
    if full:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    return {"kernel_name": "python3", "cwd": root(), "progress_bar": False, "log_output": full}


def _failure(name: str, error: Any) -> str:
    """Tell where a page failed, and how. `error` is papermill's."""
    begins = error.source.strip().splitlines()[0]
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    return f"Page {name} failed in cell [{error.exec_count}], which begins\n    {begins}\n{trace}"


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """Give kernels the same root folder and figures as JSON; restore the environment afterwards."""
    before = os.environ.copy()
    os.environ.update(CTRLIB_ROOT=str(root().resolve()), PLOTLY_RENDERER="plotly_mimetype", JUPYTER_PLATFORM_DIRS="1")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning that no reader needs
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def own_sockets() -> Iterator[Any]:
    """Yield a kernel configuration that talks over files in a folder of its own: no open port, no warning about one.

    Kernels that share a folder pick their files by number and, when started together, pick the same ones.
    """
    from traitlets.config import Config

    with TemporaryDirectory(prefix="ctrlib-") as folder:
        config = Config()
        for manager in (config.KernelManager, config.AsyncKernelManager):
            manager.transport, manager.ip = "ipc", f"{folder}/kernel"
        yield config


def stage(profile: str, out: Path) -> None:
    """Fill `out/site` with executed pages, the other pages, the assets and the configuration."""
    import jupytext
    import nbformat

    site = out / "site"
    shutil.rmtree(site, ignore_errors=True)
    pages = sources()
    shutil.copytree(root() / "book", site / "book", ignore=_ignored(pages))
    assets = site / "book" / "assets"
    _add_scripts(assets)
    staged = {}
    for name, source in pages.items():
        notebook = _executed(out / "executed" / profile / f"{name}.ipynb", jupytext.read(source))
        target = site / source.relative_to(root()).with_suffix(".ipynb")
        staged[target] = without_machine(notebook, str(root().resolve()))
    shelf = _shelf(
        assets, [figure for notebook in staged.values() for figure in figures_of(notebook)], out / "pictures"
    )
    for target, notebook in staged.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(for_the_book(notebook, shelf), target)
    (out / "_config.yml").write_text(json.dumps(configuration(), indent=1), encoding="utf-8")  # JSON is YAML


def _executed(done: Path, source: Any) -> Any:
    """Return the executed notebook; the source without outputs when what was executed is not it."""
    import nbformat

    if done.exists() and same_source(notebook := nbformat.read(done, 4), source):
        return notebook
    print(f"{done.stem} was not executed since its last change; the draft shows it without outputs.")
    return source


def _shelf(assets: Path, figures: list[Any], drawn: Path) -> Shelf:
    """Return the folder for the figures of all pages, with their pictures, which `drawn` keeps from build to build."""
    named = {name_of(figure): figure for figure in figures}
    found = pictures.draw(named, drawn, assets / "plotly.min.js")
    folder = assets / "figures"
    folder.mkdir(exist_ok=True)
    for name in found:
        shutil.copy(drawn / f"{name}.svg", folder)
    return Shelf(folder, "../_static/figures", found)  # pages lie one folder deep


def _ignored(pages: dict[str, Path]) -> Any:
    """Leave out of the copy what is staged as an executed notebook."""
    names = [p.name for p in pages.values()] + [p.with_suffix(".ipynb").name for p in pages.values()]
    return shutil.ignore_patterns(".ipynb_checkpoints", *names)


def _add_scripts(assets: Path) -> None:
    """Put plotly.js and MathJax beside the book's own assets, so that no page asks the network for them."""
    from plotly.offline import get_plotlyjs

    (assets / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    package = find_spec(MATHJAX)
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise CtrlibError(f"The package {MATHJAX} holds no files; reinstall it.")
    (assets / "mathjax").mkdir(exist_ok=True)
    shutil.copy(Path(folders[0]) / "static" / "mathjax" / "tex-svg-full.js", assets / "mathjax")


def configuration() -> dict[str, Any]:
    """Return the book's configuration, without the repository's buttons where its address is unknown.

    The address is `CTRLIB_REPOSITORY`, else the git remote `origin` if that is on GitHub, so that a fork
    links to itself.
    """
    import yaml

    config: dict[str, Any] = yaml.safe_load((root() / "_config.yml").read_text(encoding="utf-8"))
    if address := os.environ.get("CTRLIB_REPOSITORY") or _origin():
        config["repository"] = {"url": address, "branch": "main"} | config.get("repository", {})
        return config
    config.pop("launch_buttons", None)
    html = config.get("html", {})
    config["html"] = {key: value for key, value in html.items() if not key.startswith("use_")}
    return config


def _origin() -> str:
    command = ["git", "-C", str(root()), "remote", "get-url", "origin"]
    try:
        address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    address = address.replace("git@github.com:", "https://github.com/").removesuffix(".git")
    return address if address.startswith("https://github.com/") else ""


def render(out: Path, strict: bool = True) -> int:
    """Run Jupyter Book on `out/site`; return its exit code. `strict` turns warnings into errors."""
    start = time.perf_counter()
    shutil.rmtree(out / "_build", ignore_errors=True)  # a page that left the book leaves its output too
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(out / "site"), "--path-output", str(out)]
    command += ["--config", str(out / "_config.yml"), "--toc", str((root() / "_toc.yml").resolve())]
    command += ["--quiet", "-n", *(["-W", "--keep-going"] if strict else [])]
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{done.stdout}\nThe book was not rendered, see above.", file=sys.stderr)
    else:
        print(f"rendered in {time.perf_counter() - start:.1f} s", flush=True)
    return done.returncode


def check(out: Path) -> int:
    """Mend and check every page below `out`: nothing may come from the network or name this machine."""
    html = out / "_build" / "html"
    if found := problems(html, str(root().resolve())):
        print("The book is not clean:\n  " + "\n  ".join(found), file=sys.stderr)
        return 1
    print(f"The book is in {html / 'index.html'}")
    return 0
