"""Binder, Colab, and the chapter for a reader's own data.

With CTRLIB_INSTALL_TESTS=1 two bare environments are made, which takes minutes and a package index: one gets the pip
part of environment.yml, the other what Colab brings and then the first cell of a notebook. Both run that notebook.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml

from ctrlib.book import builder, colab, pages
from ctrlib.errors import DataError, SettingError
from ctrlib.lab.calibration import calibration_error, chance_error, reliability

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://github.com/someone/something"
CHAPTER = ROOT / "chapters" / "17_your_data.py"
NOTEBOOKS = sorted([*(ROOT / "chapters").glob("*.ipynb"), *(ROOT / "book").glob("*.ipynb")])


# ---- the first cell --------------------------------------------------------------------------------------


def test_a_notebook_begins_with_colabs_cell_only_where_the_address_is_known() -> None:
    plain = nbformat.reads(pages.paired(CHAPTER), 4)
    known = nbformat.reads(pages.paired(CHAPTER, ADDRESS, "next"), 4)
    assert not [cell for cell in plain.cells if colab.TAG in cell.metadata.get("tags", [])]
    first = known.cells[0]
    assert first.metadata.tags == [colab.TAG] and first.source == colab.cell(ADDRESS, "next")
    assert f'"--branch=next", "{ADDRESS}", "something"' in first.source
    assert [cell.source for cell in pages.without_colab(known)] == [cell.source for cell in plain.cells]


def test_a_cell_that_came_into_the_source_is_not_added_twice(tmp_path: Path) -> None:
    source = tmp_path / "chapter.py"
    notebook = nbformat.reads(pages.paired(CHAPTER, ADDRESS), 4)
    jupytext.write(notebook, source, fmt="py:percent")  # as an editor does that keeps both in step
    again = nbformat.reads(pages.paired(source, ADDRESS + "-fork"), 4)
    cells = [cell.source for cell in again.cells if colab.TAG in cell.metadata.get("tags", [])]
    assert cells == [colab.cell(ADDRESS + "-fork")]


def test_all_notebooks_name_one_repository_or_none() -> None:
    found = []
    for path in NOTEBOOKS:
        tagged = [cell for cell in nbformat.read(path, 4).cells if colab.TAG in cell.metadata.get("tags", [])]
        found.append(tuple(cell.source for cell in tagged))
    assert len(set(found)) == 1, "Run: ctrlib book --pair"
    told = yaml.safe_load((ROOT / "_config.yml").read_text()).get("repository", {})
    if url := told.get("url"):
        assert found[0] == (colab.cell(url, told.get("branch", "main")),), "Run: ctrlib book --pair"


def test_elsewhere_the_cell_does_nothing(tmp_path: Path) -> None:
    script = tmp_path / "cell.py"
    script.write_text(colab.cell("https://nowhere.invalid/x/y"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COLAB")}
    subprocess.run([sys.executable, script], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == [script]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("CTRLIB_REPOSITORY", raising=False)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    return tmp_path / "_config.yml"


def test_the_address_is_set_in_one_place(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = yaml.safe_load(settings.read_text())
    told["repository"] = {"branch": "main"}
    settings.write_text(yaml.safe_dump(told))
    assert builder.repository() == {}
    config = builder.configuration()
    assert "launch_buttons" not in config and not any(name.startswith("use_") for name in config["html"])
    told["repository"]["url"] = ADDRESS + "/"
    settings.write_text(yaml.safe_dump(told))
    assert builder.repository() == {"address": ADDRESS, "branch": "main"}
    config = builder.configuration()
    assert config["repository"]["url"] == ADDRESS and "binderhub_url" in config["launch_buttons"]
    monkeypatch.setenv("CTRLIB_REPOSITORY", ADDRESS + "-fork")
    assert builder.repository()["address"] == builder.configuration()["repository"]["url"] == ADDRESS + "-fork"


def test_colabs_button_stands_only_where_the_notebooks_open_there(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTRLIB_REPOSITORY", ADDRESS)
    folder = settings.parent / "chapters"
    folder.mkdir()
    for name in ("a.py", "b.py"):
        shutil.copy(CHAPTER, folder / name)
    sets = {
        "": ["", ""],
        "one": [ADDRESS, ""],
        "other": [ADDRESS + "-fork"] * 2,
        "all": [ADDRESS, ADDRESS.replace("someone", "Someone")],
    }
    for case, addresses in sets.items():
        for name, address in zip("ab", addresses, strict=True):
            (folder / f"{name}.ipynb").write_text(pages.paired(folder / f"{name}.py", address))
        buttons = builder.configuration()["launch_buttons"]
        told = capsys.readouterr().out
        assert "binderhub_url" in buttons and ("colab_url" in buttons) == (case == "all"), case
        assert ("run `ctrlib book --pair` and commit" in told) == (case != "all") and told.count("\n") <= 1


# ---- what the cell does on Colab -------------------------------------------------------------------------


def test_what_does_not_fit_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nrequires-python = '<3.5'\ndependencies = ['numpy<1', 'torch>=1', 'no-such-package>=2']\n"
        "optional-dependencies = {notebook = []}\n"
    )
    with pytest.raises(RuntimeError) as told:
        colab.set_up(tmp_path)
    text = str(told.value)
    assert f"numpy {np.__version__}; it needs <1" in text and "no-such-package is not installed" in text
    assert f"Python {sys.version.split()[0]}; it needs <3.5" in text and "torch" not in text.split("Nothing")[0]
    assert "Runtime > Change runtime type" in text


def test_only_ctrlib_and_what_is_missing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    held: list[str] = []

    def pip(*words: str) -> None:
        calls.append(words)
        if "--constraint" in words:
            held.extend(Path(words[-1]).read_text().split())

    def version(name: str) -> str:
        if name == "plotly":
            return "5.24.1"
        if name == "contourpy":
            raise importlib.metadata.PackageNotFoundError
        return "0" if name == "ctrlib" else importlib.metadata.version(name)

    monkeypatch.setattr(colab, "_pip", pip)
    monkeypatch.setattr(colab, "version", version)
    monkeypatch.setattr(sys, "path", list(sys.path))
    colab.set_up(ROOT)
    extras = colab.read_settings(ROOT)["optional-dependencies"][colab.EXTRA]
    wanted = [requirement for requirement in extras if colab.name_of(requirement) in ("plotly", "contourpy")]
    assert [words[:-2] for words in calls[:-1]] == [tuple(wanted)]
    assert calls[-1] == ("--no-deps", "--editable", str(ROOT))
    assert sorted(line.split("==")[0] for line in held) == ["numpy", "pandas", "scikit-learn", "torch"]


def test_extras_never_name_what_colab_brings() -> None:
    project = colab.read_settings(ROOT)
    core = set(map(colab.name_of, project["dependencies"]))
    assert core == {"torch", "numpy", "pandas", "scikit-learn"}
    assert not core & set(map(colab.name_of, project["optional-dependencies"][colab.EXTRA]))


def test_notebooks_import_nothing_that_binder_and_colab_lack() -> None:
    pages_of_code = [*(ROOT / "chapters").glob("*.py"), ROOT / "book" / "data.md", ROOT / "book" / "numbers.md"]
    found = set()
    for path in pages_of_code:
        for cell in jupytext.read(path).cells:
            if cell.cell_type == "code":
                nodes = [
                    node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Import | ast.ImportFrom)
                ]
                found |= {ast.unparse(node) for node in nodes}
    absent = ["polars", "pyarrow", "numba", "papermill", "jupytext", "myst_nb", "jupyter_book", "yaml"]
    code = [f"import sys; sys.modules.update(dict.fromkeys({absent}))", *sorted(found)]
    environment = outside() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


# ---- bare environments -----------------------------------------------------------------------------------

install_test = pytest.mark.skipif(
    os.environ.get("CTRLIB_INSTALL_TESTS") != "1", reason="takes minutes and a package index; CTRLIB_INSTALL_TESTS=1"
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of what this checkout holds now, its notebooks with Colab's cell for its own address."""
    folder = tmp_path_factory.mktemp("origin") / "book"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for source in [CHAPTER]:
        notebook = pages.paired(folder / source.relative_to(ROOT), folder.as_uri())
        (folder / source.relative_to(ROOT)).with_suffix(".ipynb").write_text(notebook)
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    return folder


def bare(folder: Path, *requirements: str, cwd: Path | None = None) -> Path:
    """Make a virtual environment with these requirements alone; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=outside())
    python = folder / "bin" / "python"
    if requirements:
        command = [python, "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(command, check=True, cwd=cwd, env=outside())
    return python


def outside() -> dict[str, str]:
    """The environment without what points at this checkout."""
    ours = ("PYTHONPATH", "CTRLIB_ROOT", "CTRLIB_RECORDS", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours}


def executed(python: Path, notebook: Path, cwd: Path, **environment: str) -> tuple[nbformat.NotebookNode, float]:
    """Run a notebook in smoke with a Python's own Jupyter; return it with its outputs, and the seconds taken."""
    book = nbformat.read(notebook, 4)
    parameters = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    assert 'profile = "quick"' in parameters.source
    parameters.source = parameters.source.replace('profile = "quick"', 'profile = "smoke"')
    alone = cwd / notebook.name
    nbformat.write(book, alone)
    code = (
        "import sys, nbformat; from nbclient import NotebookClient; path = sys.argv[1];"
        "book = nbformat.read(path, 4); NotebookClient(book, timeout=600, kernel_name='python3').execute();"
        "nbformat.write(book, path)"
    )
    start = time.perf_counter()
    ours = outside() | {"JUPYTER_PLATFORM_DIRS": "1", "PYTHONNOUSERSITE": "1"} | environment
    ours["PATH"] = f"{python.parent}{os.pathsep}{ours['PATH']}"
    subprocess.run([python, "-c", code, alone.name], check=True, cwd=cwd, env=ours)
    return nbformat.read(alone, 4), time.perf_counter() - start


def installed(python: Path) -> dict[str, str]:
    command = [python, "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, env=outside())
    return {one["name"].lower(): one["version"] for one in json.loads(listed.stdout)}


def told(notebook: nbformat.NotebookNode) -> str:
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


@install_test
def test_binders_environment_runs_a_notebook(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]
    (pip,) = (part["pip"] for part in listed if isinstance(part, dict))
    clone = tmp_path / "home"
    subprocess.run(["git", "clone", "-q", repository.as_uri(), clone], check=True)
    start = time.perf_counter()
    requirements = tmp_path / "pip.txt"  # conda, too, gives pip its part as a file
    requirements.write_text("\n".join(pip))
    python = bare(tmp_path / "binder", "-r", str(requirements), cwd=clone)
    taken = time.perf_counter() - start
    notebook = (clone / CHAPTER.relative_to(ROOT)).with_suffix(".ipynb")
    _, seconds = executed(python, notebook, clone, CTRLIB_CACHE=str(tmp_path / "cache"))
    size = sum(path.stat().st_size for path in (tmp_path / "binder").rglob("*") if path.is_file()) / 1e6
    with capsys.disabled():
        print(f"\nBinder: {len(pip)} requirements in {taken:.0f} s, {size:,.0f} MB; notebook in {seconds:.0f} s")
    assert "sphinx" not in installed(python) and "jupyter-book" not in installed(python)


@install_test
def test_colabs_cell_installs_ctrlib_and_runs_the_notebook(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What Colab brings: the core packages and a kernel. Neither ctrlib nor the notebook's extras.
    core = colab.read_settings(ROOT)["dependencies"]
    torch = f"torch=={importlib.metadata.version('torch')}"
    python = bare(tmp_path / "colab", torch, *core, "ipykernel", "nbclient")
    before = installed(python)
    assert "ctrlib" not in before and "plotly" not in before
    content = tmp_path / "content"
    content.mkdir()
    notebook = (repository / CHAPTER.relative_to(ROOT)).with_suffix(".ipynb")
    cache = {"CTRLIB_CACHE": str(tmp_path / "cache"), "COLAB_RELEASE_TAG": "test"}
    found, seconds = executed(python, notebook, content, **cache)
    after = installed(python)
    ready = next(line for line in told(found).splitlines() if line.startswith("ctrlib"))
    with capsys.disabled():
        print(f"\nColab: {ready} Whole notebook in {seconds:.0f} s. New: {sorted(set(after) - set(before))}")
    assert {name: after[name] for name in before} == before
    extras = {colab.name_of(one) for one in colab.read_settings(ROOT)["optional-dependencies"][colab.EXTRA]}
    assert set(after) - set(before) <= extras | {"ctrlib", "narwhals"}  # plotly needs narwhals


# ---- the chapter -----------------------------------------------------------------------------------------


def run_chapter(folder: Path, file: Path, label: str, end: str) -> str:
    """Run the chapter on a table in smoke, then the line `end`; return what it printed."""
    line = 'FILE, LABEL, FIELDS = example, "click", None'
    code = "\n\n".join(c.source for c in jupytext.read(CHAPTER).cells if c.cell_type == "code")
    assert code.count(line) == 1 and code.count('profile = "quick"') == 1
    code = code.replace(line, f"FILE, LABEL, FIELDS = {str(file)!r}, {label!r}, None")
    code = code.replace('profile = "quick"', 'profile = "smoke"')
    # The cell that writes the example can be skipped.
    cell = 'read_raw("ml-100k")["all"].to_csv(example, index=False)'
    assert code.count(cell) == 1
    script = folder / "chapter.py"
    script.write_text(code.replace(cell, "") + f"\n{end}\n")
    environment = os.environ | {"PLOTLY_RENDERER": "json", "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_chapter_reads_a_table_of_ones_own_when_one_line_is_changed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 400
    shop, hour = rng.choice(["north", "south"], rows), rng.integers(0, 24, rows)
    own = pd.DataFrame({"shop": shop, "hour": hour, "price": rng.lognormal(size=rows).round(2)})
    own["bought"] = np.where(rng.random(rows) < np.where(own["shop"] == "north", 0.7, 0.2), "yes", "no")
    # Named as the example is; it keeps its own fields all the same.
    own.to_csv(tmp_path / "films.csv", index=False, sep=";")
    end = "print([field.kind for field in again.encoder_.fields], search.best_params_)"
    printed = run_chapter(tmp_path, tmp_path / "films.csv", "bought", end)
    assert "['categorical', 'categorical', 'numeric'] {'ctrclassifier__embedding_regularizer'" in printed
    assert "A sample of" not in printed


def test_the_chapter_tells_of_its_sample_and_takes_a_single_field(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = pd.DataFrame({"shop": rng.choice(["north", "south", "east"], 2000), "bought": rng.integers(0, 2, 2000)})
    own.to_csv(tmp_path / "shop.tsv", index=False, sep="\t")
    printed = run_chapter(tmp_path, tmp_path / "shop.tsv", "bought", "print(points)")
    assert "A sample of 1,500 of 2,000 rows, as in the profile smoke" in printed
    assert "there is no pair to show" in printed and "strongest interaction" not in printed


# ---- calibration -----------------------------------------------------------------------------------------


def drawn(rows: int, seed: int = 0, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and clicks; the truth's logit is the prediction's by `factor`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=rows) * 2
    clicks = rng.random(rows) < 1 / (1 + np.exp(-factor * logit))
    return 1 / (1 + np.exp(-logit)), clicks.astype(int)


def test_reliability_by_hand() -> None:
    found = reliability([0.1, 0.9, 0.2, 0.8], [0, 1, 1, 1], bins=2)
    assert found["rows"].tolist() == [2, 2]
    assert np.allclose(found["predicted"], [0.15, 0.85]) and np.allclose(found["observed"], [0.5, 1.0])
    assert np.allclose(found.loc[0, ["low", "high"]].astype(float), [0.0945, 0.9055], atol=1e-4)  # Wilson, 1 of 2
    assert np.isclose(calibration_error([0.1, 0.9, 0.2, 0.8], [0, 1, 1, 1], bins=2).value, (0.35 + 0.15) / 2)


def test_a_calibrated_model_errs_as_chance_does_and_a_bold_one_more() -> None:
    p, clicks = drawn(4000)
    chance = chance_error(p)
    assert calibration_error(p, clicks).value < 1.6 * chance
    bold = calibration_error(*drawn(4000, factor=0.5))
    assert bold.value > 5 * chance and bold.low > 2 * chance


def test_the_interval_covers_the_error_of_all_rows() -> None:
    # Errors of a bold model on its whole population, and on samples of it.
    truth = calibration_error(*drawn(400_000, factor=0.6), draws=0).value
    samples = [calibration_error(*drawn(1500, seed=seed, factor=0.6), draws=200) for seed in range(1, 101)]
    covered = np.mean([found.low <= truth <= found.high for found in samples])
    assert covered >= 0.85, covered


def test_bins_are_equal_and_ties_share_no_secret() -> None:
    assert reliability(np.full(10, 0.5), np.arange(10) % 2, bins=4)["rows"].tolist() == [3, 2, 3, 2]
    assert len(reliability([0.5, 0.6], [0, 1], bins=15)) == 2


def test_what_is_no_probability_is_refused() -> None:
    for p, y in (([1.2], [1]), ([0.5], [2]), ([], []), ([0.5, 0.5], [1])):
        with pytest.raises(DataError):
            reliability(p, y)
    with pytest.raises(SettingError, match="bins is 0"):
        reliability([0.5], [1], bins=0)
