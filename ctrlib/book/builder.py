"""Build the book: execute its pages, stage what was executed, render it, check the result.

    OUT/executed/PROFILE/*.ipynb   the pages as papermill executed them, each with its inputs beside it
    OUT/pictures/*.svg             figures as pictures, kept while the figure stays the same
    OUT/site/                      what the renderer reads; same paths as in the repository
    OUT/_build/html                the book

A page that is executed has a text source, the reviewed one: `chapters/*.py` (percent format) or a `book/*.md`
whose front matter names a kernel. Beside it lies the paired notebook for Binder and Colab, made by `pair`.
"""

from __future__ import annotations

import copy
import filecmp
import hashlib
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
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctrlib.book import pictures, plotly_js
from ctrlib.book.embed import Shelf, name_of
from ctrlib.book.freshness import changed, code_digest, executed_on, inputs, keep, shared_inputs
from ctrlib.book.pages import (
    figures_of,
    for_the_book,
    marked_stale,
    paired,
    problems,
    typed_numbers,
    with_text_of,
    without_machine,
)
from ctrlib.book.publish import finish, launch_buttons, site_address
from ctrlib.errors import CtrlibError, unknown
from ctrlib.lab.export import write_csv
from ctrlib.lab.records import READS
from ctrlib.paths import JOBS, MADE, measured_dir, measurements_dir, root
from ctrlib.repository import chapters, repository, settings, sources, texts
from ctrlib.views.footer import IN_THE_BOOK, RECORDS

PROFILES = ("smoke", "quick", "paper")
LANDING = "index"  # tells what other pages have found
MATHJAX = "sphinx-mathjax-offline"  # a package used as a store of one file
NEVER = "never executed"
LEAVINGS = "made"  # folder of what pages leave for later ones
PART = ".part.ipynb"  # ending of a notebook that is being executed, or was cut off
INPUTS = ".inputs.json"  # ending of the file that tells what an executed page depends on
# Jupyter Book with all pages written anew, for which its command line has no option.
PROGRAM = """
from functools import partial
from jupyter_book import sphinx
sphinx.build_sphinx = partial(sphinx.build_sphinx, force_all=True)
from jupyter_book.cli.main import main
main()
"""
TOOLS = ("jupyter_book", "jupytext", "papermill", "plotly", "yaml", MATHJAX)


def build(
    profile: str = "quick", only: list[str] | None = None, out: Path | None = None, *, fresh: bool = False
) -> int:
    """Execute, render and check the book below `out` (default `build/`); return the exit code.

    A page is executed when what its outputs depend on has changed since its last execution with the same profile
    (`ctrlib.book.freshness`); `fresh` executes all. `only` executes just the pages named (`01_activation`), none where
    it is empty; the others are shown as they were executed last, and those that have changed say so. Such a book is a
    draft: its warnings are printed and do not fail.
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
    execute_all(list(pages) if only is None else only, profile, out, fresh=fresh or only is not None)
    stage(profile, out)
    return render(out, strict=only is None) or check(out)


def pair() -> list[Path]:
    """Write the paired notebook of every executed page, without outputs; return the files that changed.

    The text is the source: what was changed in the notebook alone is replaced. Where the repository's address is
    known, each notebook begins with a cell that sets up Google Colab.
    """
    require_tools()
    changed, where = [], repository()
    for source in sources().values():
        text, target = paired(source, **where), source.with_suffix(".ipynb")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            changed.append(target)
    return changed


def require_tools() -> None:
    """Raise `CtrlibError` when a tool of the extra `book` is not installed."""
    if missing := ", ".join(name for name in TOOLS if find_spec(name) is None):
        raise CtrlibError(f"The book needs {missing}. Install the extra: pip install 'ctrlib[book]'.")


def refuse_typed_numbers() -> None:
    """Raise `CtrlibError` when prose holds a typed result: a page shows what code or a record gives."""
    prose = {page: page.read_text(encoding="utf-8") for page in texts()}
    for page in chapters():
        prose[page] = "\n\n".join(c.source for c in _notebook(page).cells if c.cell_type == "markdown")
    found = [f"{page.relative_to(root())}: {n}" for page, text in prose.items() for n in typed_numbers(text)]
    if found:
        lines = "\n  ".join(found)
        raise CtrlibError(f"Typed results in prose (compute them and show them with glue):\n  {lines}")


def execute_all(names: list[str], profile: str, out: Path, *, fresh: bool = True) -> None:
    """Execute chapters side by side, one to a core, after them the pages that tell of records, last the landing page.

    Without `fresh`, pages whose inputs are unchanged are left as they are. In the profile "paper" a chapter takes all
    cores, and they take turns. Raises the first error met.
    """
    workers = 1 if profile == "paper" else os.cpu_count() or 1
    analyses = {path.stem for path in chapters()}
    first, last = [n for n in names if n in analyses], [n for n in names if n == LANDING]
    for group in (first, [n for n in names if n not in [*first, *last]], last):
        if not fresh:
            group = _outdated(group, profile, out)
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


def _outdated(names: list[str], profile: str, out: Path) -> list[str]:
    """Return those pages that were not executed since their last change; say why each is, and count the others."""
    found, shared = [], shared_inputs(out / "executed" / profile / LEAVINGS)
    for name in names:
        if why := _changes(name, profile, out, shared):
            print(f"{name}: {', '.join(why)}", flush=True)
            found.append(name)
    if len(found) < len(names):
        print(f"{len(names) - len(found)} of {len(names)} pages are unchanged and not executed again", flush=True)
    return found


def _changes(name: str, profile: str, out: Path, shared: dict[str, str]) -> list[str]:
    """Return what has changed since the page was executed."""
    done, kept = (out / "executed" / profile / f"{name}{end}" for end in (".ipynb", INPUTS))
    now = inputs(_notebook(sources()[name]), {"profile": profile}, shared)
    found = changed(kept, now) if done.exists() else None
    return [NEVER] if found is None else found


def _notebook(source: Path) -> Any:
    """Return a page's text source as a notebook without outputs."""
    return copy.deepcopy(_parsed(source.read_text(encoding="utf-8"), source.suffix))


@lru_cache(maxsize=100)
def _parsed(text: str, suffix: str) -> Any:
    """Parse a text source; several steps of a build need the same one, and parsing is slow."""
    import jupytext

    return jupytext.reads(text, fmt=suffix)


def _take_one_core() -> None:
    """Keep the kernels of this process to one core: threads of two that wait for each other are many times slower."""
    os.environ |= {JOBS: "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def execute(name: str, parameters: dict[str, Any], out: Path | None = None) -> Path:
    """Execute one page with `parameters` (its `profile` among them); return the executed notebook.

    One that was executed before stays until this one is whole.

    Raises `SettingError` for an unknown page, `CtrlibError` when a cell fails, naming page and cell.
    """
    require_tools()
    import jupytext
    import papermill
    from nbclient.exceptions import DeadKernelError

    if name not in (pages := sources()):
        raise unknown("page", name, pages)
    profile = str(parameters["profile"])
    done = executed_page(name, profile, out)
    folder, unrun, part = done.parent, done.with_suffix(".in.ipynb"), done.with_suffix(PART)
    folder.mkdir(parents=True, exist_ok=True)
    source, kept, reads = _notebook(pages[name]), folder / f"{name}{INPUTS}", folder / f"{name}.reads"
    reads.unlink(missing_ok=True)
    jupytext.write(source, unrun)
    start, before = time.perf_counter(), inputs(source, parameters, shared_inputs(folder / LEAVINGS))
    try:
        with _kernel_environment(folder, reads), own_sockets() as sockets:
            papermill.execute_notebook(unrun, part, parameters, config=sockets, **_papermill_options(profile))
    except papermill.PapermillExecutionError as error:
        raise CtrlibError(_failure(name, error)) from None
    except DeadKernelError:
        raise CtrlibError(f"Page {name} failed: its kernel died (out of memory?). See {part}.") from None
    except KeyboardInterrupt:
        # The cell that was cut off ends with an error that nobody asks for; asyncio would print it at the very end.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    # A full grid leaves records that the page then reads; otherwise what came in meanwhile was not seen.
    found = inputs(source, parameters, shared_inputs(folder / LEAVINGS)) if profile == "paper" else before
    kept.unlink(missing_ok=True)  # cut off here, the page counts as never executed
    part.replace(done)  # a page cut off midway never looks finished
    keep(kept, found, reads.read_text(encoding="utf-8").splitlines() if reads.exists() else ())
    reads.unlink(missing_ok=True)
    print(f"executed {name} ({profile}) in {time.perf_counter() - start:.1f} s", flush=True)
    return done


def executed_page(name: str, profile: str, out: Path | None = None) -> Path:
    """Return where a page's executed notebook lies; one that was cut off ends in `PART` instead."""
    return (out or root() / "build") / "executed" / profile / f"{name}.ipynb"


def _papermill_options(profile: str) -> dict[str, Any]:
    """Return how papermill runs. A full grid takes hours, so what its page prints goes to the terminal at once."""
    options = {"kernel_name": "python3", "cwd": root(), "progress_bar": False}
    options["extra_arguments"] = [f"--IPKernelApp.log_level={logging.CRITICAL}"]  # its errors come with the cells
    return options | ({"stdout_file": sys.stdout, "stderr_file": sys.stderr} if profile == "paper" else {})


def _failure(name: str, error: Any) -> str:
    """Tell where a page failed, and how. `error` is papermill's."""
    begins = error.source.strip().splitlines()[0]
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    return f"Page {name} failed in cell [{error.exec_count}], which begins\n    {begins}\n{trace}"


@contextmanager
def _kernel_environment(folder: Path, reads: Path) -> Iterator[None]:
    """Give kernels the same root folder, a place for what later pages need, and figures as JSON.

    folder: of the executed pages. reads: a file for what the page reads. The environment is restored afterwards.
    """
    before = os.environ.copy()
    os.environ[MADE] = str(folder.resolve() / LEAVINGS)
    os.environ.update(CTRLIB_ROOT=str(root().resolve()), PLOTLY_RENDERER="plotly_mimetype", JUPYTER_PLATFORM_DIRS="1")
    os.environ |= {READS: str(reads), IN_THE_BOOK: "1"}
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
    """Fill `out/site` with executed pages, the other pages, the assets and the configuration.

    A file that is as it was keeps its time, by which the renderer knows what to read again.
    """
    import nbformat

    pages, shared = sources(), shared_inputs(out / "executed" / profile / LEAVINGS)
    with TemporaryDirectory(dir=out, prefix="site-") as folder:
        site = Path(folder)
        assets, staged = site / "book" / "assets", {}
        shutil.copytree(root() / "book", site / "book", ignore=_ignored(pages))
        _add_downloads(assets, out / "executed" / profile / LEAVINGS)
        for name, source in pages.items():
            target = site / source.relative_to(root()).with_suffix(".ipynb")
            notebook = _page(name, _notebook(source), profile, out, shared)
            staged[target] = without_machine(notebook, str(root().resolve()))
        figures = [figure for notebook in staged.values() for figure in figures_of(notebook)]
        _add_scripts(assets, figures)
        shelf = _shelf(assets, figures, out / "pictures")
        for target, notebook in staged.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(for_the_book(notebook, shelf), target)
        mirror(site, out / "site")
    (out / "_config.yml").write_text(json.dumps(configuration(), indent=1), encoding="utf-8")  # JSON is YAML


def _page(name: str, source: Any, profile: str, out: Path, shared: dict[str, str]) -> Any:
    """Return a page as it was executed, with its text as it is now.

    A page that was not executed since a change of what its outputs depend on says so at its top. Where its code
    changed, it is shown whole as it was executed: new code never stands over old outputs.
    """
    import nbformat

    done, kept = (out / "executed" / profile / f"{name}{end}" for end in (".ipynb", INPUTS))
    why = _changes(name, profile, out, shared)
    if NEVER in why:
        print(f"{name} was never executed; the draft shows it without outputs.")
        return marked_stale(source, name, [], "")
    executed = nbformat.read(done, 4)
    page = with_text_of(executed, source) if code_digest(executed) == code_digest(source) else executed
    if not why:
        return page
    print(f"{name} is stale ({', '.join(why)}); the draft says so on its page.")
    return marked_stale(page, name, why, executed_on(kept))


def mirror(new: Path, old: Path) -> None:
    """Make the folder `old` equal to `new`; files whose content is the same are not touched."""
    names = {path.relative_to(new) for path in new.rglob("*") if path.is_file()}
    for path in [path for path in old.rglob("*") if path.is_file() and path.relative_to(old) not in names]:
        path.unlink()
    for name in names:
        if not (old / name).is_file() or not filecmp.cmp(new / name, old / name, shallow=False):
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(new / name, old / name)


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


def _add_scripts(assets: Path, figures: list[Any]) -> None:
    """Put plotly.js and MathJax beside the book's own assets, so that no page asks the network for them."""
    kinds = {trace.get("type", plotly_js.CORE) for figure in figures for trace in figure["data"]}
    (assets / "plotly.min.js").write_text(plotly_js.script(kinds), encoding="utf-8")
    package = find_spec(MATHJAX)
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise CtrlibError(f"The package {MATHJAX} holds no files; reinstall it.")
    (assets / "mathjax").mkdir(exist_ok=True)
    shutil.copy(Path(folders[0]) / "static" / "mathjax" / "tex-svg-full.js", assets / "mathjax")


def _add_downloads(assets: Path, left: Path) -> None:
    """Put the run records as tables, the measurements and the chapters' sources where the pages link to.

    Where a chapter's footer has left the table of the runs that it counts (below `left`), that is taken.
    """
    write_csv(assets / "records")
    for path in (left / RECORDS).glob("*.csv"):
        shutil.copy(path, assets / "records")
    for name, paths in {
        "measured": [*measured_dir().glob("*.json"), *measurements_dir().glob("*.json")],
        "sources": chapters(),
    }.items():
        (assets / name).mkdir(exist_ok=True)
        for path in paths:
            shutil.copy(path, assets / name)


def configuration() -> dict[str, Any]:
    """Return the book's configuration, without the repository's buttons where its address is unknown."""
    config, where = settings(), repository()
    if site := site_address(where.get("address", "")):
        config["html"] = {"baseurl": f"{site}/"} | config.get("html", {})
    if where:
        config["repository"] = config.get("repository", {}) | {"url": where["address"], "branch": where["branch"]}
        config["launch_buttons"] = launch_buttons(config.get("launch_buttons", {}), where)
        return config
    config.pop("launch_buttons", None)
    html = config.get("html", {})
    config["html"] = {key: value for key, value in html.items() if not key.startswith("use_")}
    return config


def render(out: Path, strict: bool = True) -> int:
    """Run Jupyter Book on `out/site`; return its exit code. `strict` turns warnings into errors.

    Pages that did not change are not read again, but all are written anew. So no page of an earlier book stays, and
    every link and number of a figure is resolved anew. Warnings met while reading are told once; therefore what was
    read is reused only if the last build passed as strictly, with the same settings.
    """
    start, built = time.perf_counter(), out / "_build"
    shutil.rmtree(built / "html", ignore_errors=True)
    passed, key = built / "passed.json", _render_key(out)
    if not reusable(passed, key, strict):
        shutil.rmtree(built, ignore_errors=True)
    passed.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, "build", str(out / "site"), "--path-output", str(out)]
    command += ["--config", str(out / "_config.yml"), "--toc", str((root() / "_toc.yml").resolve())]
    command += ["--quiet", "-n", *(["-W", "--keep-going"] if strict else [])]
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{done.stdout}\nThe book was not rendered, see above.", file=sys.stderr)
    else:
        passed.write_text(json.dumps({"key": key, "strict": strict}), encoding="utf-8")
        print(f"rendered in {time.perf_counter() - start:.1f} s", flush=True)
    return done.returncode


def reusable(passed: Path, key: str, strict: bool) -> bool:
    """Tell whether what the last build read may be used again: it passed with this key, and as strictly."""
    try:
        last = json.loads(passed.read_text(encoding="utf-8"))
        return bool(last["key"] == key and (last["strict"] or not strict))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _render_key(out: Path) -> str:
    """Return a digest of what all pages depend on: settings, table of contents, literature, the renderer's versions."""
    files = [out / "_config.yml", root() / "_toc.yml", *sorted((root() / "book").glob("*.bib"))]
    tools = [f"{name} {version(name)}" for name in ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb")]
    return hashlib.sha256(b"\n".join([path.read_bytes() for path in files] + [str(tools).encode()])).hexdigest()


def check(out: Path) -> int:
    """Finish and check every page below `out`: no network, no name of this machine, no broken link."""
    html = out / "_build" / "html"
    address = json.loads((out / "_config.yml").read_text(encoding="utf-8")).get("html", {}).get("baseurl", "")
    wrong = finish(html, address.rstrip("/"))
    if found := wrong + problems(html, str(root().resolve())):
        print("The book is not clean:\n  " + "\n  ".join(found), file=sys.stderr)
        return 1
    print(f"The book is in {html / 'index.html'}")
    return 0
