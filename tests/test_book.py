"""The book: pairs of sources and notebooks, the build, its pages, and what a browser makes of them."""

from __future__ import annotations

import ast
import builtins
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import browser
import jupytext
import nbformat
import papermill
import pytest
from playwright.sync_api import Browser

from ctrlib.book import builder, pages
from ctrlib.errors import CtrlibError, SettingError
from ctrlib.paths import JOBS, cache_dir

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("claims", "data", "differences", "differences_ds_mlp", "differences_qnn_alpha", "gallery", "index", "numbers")
SOURCES = sorted([*(ROOT / "chapters").glob("*.py"), *(ROOT / "book" / f"{name}.md" for name in PAGES)])

HEADER = """# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
"""
CHAPTER = (
    HEADER
    + r"""
# %% [markdown]
# # Tiny
# As in {cite:t}`li2025qnn`, the best is {glue:text}`best:.4f`; see {numref}`fig-tiny`.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd
from IPython.display import HTML
from ctrlib.figures import curves, figure_table, glue, intervals
df = pd.DataFrame({"cell": [f"T{i}" for i in range(12)], "auc": [(i * 7 % 12) / 12 for i in range(12)]})
glue("best", df.auc.max())

# %%
figure_table(df, formats={"auc": ".4f"})

# %% mystnb={"figure": {"caption": "Made up.", "name": "fig-tiny"}}
intervals(df.assign(low=df.auc - 0.1, high=df.auc + 0.1), "auc", "cell", "low", "high")

# %%
curves(df, "auc", "auc", "cell").show()

# %%
HTML('''<script>addEventListener("load", () => {
  document.querySelectorAll(".ctr-table th button")[1].click();
  const box = document.querySelector(".ctr-filter input");
  box.value = "t1"; box.dispatchEvent(new Event("input"));
});</script>''')
"""
)
TOC = "format: jb-book\nroot: book/index\nchapters:\n  - file: chapters/01_tiny\n  - file: book/references\n"


def checkout(folder: Path, chapter: str = CHAPTER) -> Path:
    """Make a small checkout with one chapter, and this repository's settings and assets."""
    shutil.copytree(ROOT / "book" / "assets", folder / "book" / "assets")
    for name in ("book/references.md", "book/references.bib", "_config.yml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "book" / "index.md").write_text("# A tiny book\n\nSee {doc}`/chapters/01_tiny`.\n")
    (folder / "_toc.yml").write_text(TOC)
    (folder / "chapters").mkdir()
    (folder / "chapters" / "01_tiny.py").write_text(chapter)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def tiny_book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The HTML of a tiny book, built once, with the buttons of a repository on GitHub."""
    folder = checkout(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRLIB_ROOT", str(folder))
        patch.setenv("CTRLIB_REPOSITORY", "https://github.com/someone/something")
        builder.pair()  # writes Colab's first cell; without it there is no button
        assert builder.build("smoke") == 0
        yield folder / "build" / "_build" / "html"


# ---- pairs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_source_and_notebook_are_in_step(source: Path) -> None:
    def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
        own = pages.without_colab(notebook)
        return [(c.cell_type, c.source.strip(), c.metadata.get("tags", [])) for c in own]

    notebook = nbformat.read(source.with_suffix(".ipynb"), 4)
    assert cells(notebook) == cells(jupytext.read(source)), "Run: ctrlib book --pair"
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_pairing_again_changes_nothing_and_an_edit_changes_one_cell(root: Path) -> None:
    chapter = checkout(root) / "chapters" / "01_tiny.py"
    assert builder.pair() == [chapter.with_suffix(".ipynb")]
    assert builder.pair() == []
    before = {cell.id for cell in nbformat.read(chapter.with_suffix(".ipynb"), 4).cells}
    chapter.write_text(CHAPTER.replace("# # Tiny", "# # Tinier"))
    assert len(builder.pair()) == 1
    after = {cell.id for cell in nbformat.read(chapter.with_suffix(".ipynb"), 4).cells}
    assert len(before - after) == 1 and len(before) == len(after)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has or would take, so that nothing left over in the checkout can help."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs git and a repository: {error}")
    folder = tmp_path_factory.mktemp("clone")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT).with_suffix(".ipynb")) for path in SOURCES])
def test_paired_notebook_runs_in_a_clean_clone(
    name: str, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTRLIB_CACHE", str(cache_dir()))  # the download is another test's matter
    monkeypatch.delenv("CTRLIB_RECORDS", raising=False)
    monkeypatch.setenv("CTRLIB_ROOT", str(clone))
    monkeypatch.setenv("PYTHONPATH", str(clone))
    for setting in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", JOBS):  # tests run side by side
        monkeypatch.setenv(setting, "1")
    with builder.own_sockets() as sockets:
        papermill.execute_notebook(
            clone / name,
            tmp_path / "out.ipynb",
            {"profile": "smoke"},
            kernel_name="python3",
            cwd=clone,
            progress_bar=False,
            config=sockets,
        )


def test_kernels_started_together_share_no_socket() -> None:
    with builder.own_sockets() as one, builder.own_sockets() as other:
        assert one.KernelManager.ip != other.KernelManager.ip
        folders = [Path(sockets.KernelManager.ip).parent for sockets in (one, other)]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)


def test_importing_ctrlib_needs_none_of_the_books_tools() -> None:
    tools = ("plotly", "tqdm", "pyarrow", "papermill", "jupytext", "nbformat", "yaml", "IPython")
    code = f"import sys; sys.modules.update(dict.fromkeys({tools})); import ctrlib"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


# ---- the build -------------------------------------------------------------------------------------------


def test_unknown_profile_and_page_name_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"profile 'quik'.*Did you mean 'quick'"):
        builder.build("quik")
    with pytest.raises(SettingError, match=r"page 'nubmers'.*Did you mean 'numbers'"):
        builder.build("smoke", ["nubmers"])


def test_missing_tool_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "TOOLS", ("no_such_tool",))
    with pytest.raises(CtrlibError, match=r"needs no_such_tool.*'ctrlib\[book\]'"):
        builder.build("smoke")


def test_failing_cell_is_named_and_fails_the_build(root: Path) -> None:
    checkout(root, HEADER + "\n# %%\nx = 1\n\n# %%\nnumber = x / 0\n")
    with pytest.raises(CtrlibError, match=r"(?s)01_tiny failed in cell \[3\].*number = x / 0.*ZeroDivisionError"):
        builder.build("smoke")  # papermill adds a cell
    assert not (root / "build" / "_build").exists()


def test_warning_fails_the_build(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkout(root, HEADER + "\n# %% [markdown]\n# # Tiny\n# See {numref}`no-such-figure`.\n")
    assert builder.build("smoke") != 0
    assert "no-such-figure" in capfd.readouterr().err


def test_typed_result_fails_the_build(root: Path) -> None:
    checkout(root, HEADER + "\n# %% [markdown]\n# # Tiny\n# The AUC is 0.9812.\n")
    with pytest.raises(CtrlibError, match=r"01_tiny\.py: 0\.9812"):
        builder.build("smoke")


@pytest.mark.parametrize(
    "text",
    [
        "AUC of 0.9812",
        "98.12 % AUC",
        "(97.5 to 98.12)",
        "```{note}\nlogloss 0.13641\n```",
    ],
)
def test_results_in_prose_are_found(text: str) -> None:
    assert pages.typed_numbers(text)


@pytest.mark.parametrize(
    "text",
    [
        "a margin of 0.0005",
        "Python 3.11 and torch 2.13.0",
        "arXiv 2505.17999",
        "`0.9812`",
        "64 % of 25",
        "p < 0.05",
        "```python\nx = 0.98123\n```",
        "https://x.org/10.1145/3819238",
        "rates 1e-3, 0.1 and 0.05",
        "1,000,209 rows",
        "{glue:text}`best:.4f`",
        "sections 2.2 and 10.3",
    ],
)
def test_settings_versions_and_code_are_no_results(text: str) -> None:
    assert pages.typed_numbers(text) == []


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', True),
        ('<img srcset="a.png 1x, https://cdn.example/b.png 2x">', True),
        ('<style>@import "https://cdn.example/font.css";</style>', True),
        ('<p style="background: url(http://cdn.example/x.png)">', True),
        ('<a href="https://example.org">a link</a>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
        ('<img src="../_static/logo.png"><script src="_static/x.js?v=1"></script>', False),
    ],
)
def test_loads_from_other_hosts_are_found(html: str, loads: bool) -> None:
    assert bool(pages.external_loads(html)) == loads


def test_tiny_book_is_complete_and_loads_nothing(tiny_book: Path) -> None:
    text = (tiny_book / "chapters" / "01_tiny.html").read_text()
    assert text.count('class="ctr-figure"') == 2 and "Fig. 1" in text
    assert not any(word in text for word in ("THEBE", "x-thebe-config", "binder-examples", "kernelName"))
    assert "colab.research.google.com/github/someone/something/blob/main/chapters/01_tiny.ipynb" in text
    assert "profile <span" in text and "Set when this book was built" in text
    assert (tiny_book / "_static" / "plotly.min.js").stat().st_size > 1e6
    assert pages.problems(tiny_book, str(tiny_book.parents[2])) == []
    notebook = (tiny_book / "_sources" / "chapters" / "01_tiny.ipynb").read_text()
    assert "start_time" not in notebook and str(tiny_book.parents[2]) not in notebook


def test_draft_of_one_page_reuses_the_others(tiny_book: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tiny_book.parents[1]
    before = (out / "executed" / "smoke" / "01_tiny.ipynb").stat().st_mtime_ns
    builder.stage("smoke", out)
    assert "without outputs" not in capfd.readouterr().out
    assert (out / "executed" / "smoke" / "01_tiny.ipynb").stat().st_mtime_ns == before
    assert "ctr-figure" in (out / "site" / "chapters" / "01_tiny.ipynb").read_text()


# ---- in a browser ----------------------------------------------------------------------------------------


@pytest.fixture
def chromium() -> Iterator[Browser]:
    path = browser.find_browser() or pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    with browser.start(path) as running:
        yield running


def looked_at(chromium: Browser, html: Path, page: str, dark: bool) -> browser.Visit:
    """Visit a page and check what holds for every page of the book."""
    with browser.serve(html) as address:
        seen = browser.visit(chromium, f"{address}/{page}", dark=dark)
    assert f'data-theme="{"dark" if dark else "light"}"' in seen.dom
    assert seen.outside == []
    assert seen.complaints == []
    assert seen.dom.count('class="ctr-figure"') == seen.dom.count('data-drawn="yes"')
    assert seen.dom.count('class="ctr-table"') == seen.dom.count('data-ready="yes"')
    return seen


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_figures_draw_and_tables_sort_and_filter(chromium: Browser, tiny_book: Path, dark: bool) -> None:
    seen = looked_at(chromium, tiny_book, "chapters/01_tiny.html", dark)
    assert seen.dom.count('data-drawn="yes"') == 2
    assert ("rgb(206, 214, 221)" in seen.dom) == dark  # the ink of the dark mode
    rows = re.findall(r"<tr( hidden=\"\")?><td>(T\d+)</td>", seen.dom)
    assert [name for _, name in rows[:3]] == ["T0", "T7", "T2"]  # by AUC, not by name
    assert [name for hidden, name in rows if not hidden] == ["T11", "T1", "T10"]
    assert "3 of 12 rows" in seen.dom


# ---- solutions -------------------------------------------------------------------------------------------


def names_in(code: str) -> tuple[set[str], set[str]]:
    """Names that a piece of code reads, and those that it makes."""
    read, made = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return read, made


@pytest.mark.parametrize("chapter", sorted((ROOT / "chapters").glob("*.py")), ids=lambda path: path.stem)
def test_solutions_use_names_that_they_or_the_chapter_make(chapter: Path) -> None:
    cells = jupytext.read(chapter).cells
    known = set(dir(builtins))
    for cell in cells:
        if cell.cell_type == "code":
            known |= names_in(cell.source)[1]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    solutions = re.findall(r"^````\{dropdown\} A solution$.*?^````$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(solutions) >= 2
    for solution in solutions:
        read, made = names_in(
            "\n".join(re.findall(r"^```python\n(.*?)^```$", solution, flags=re.DOTALL | re.MULTILINE))
        )
        assert not read - made - known, f"{read - made - known} in: {solution}"
