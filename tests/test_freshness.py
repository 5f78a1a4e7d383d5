"""What a page depends on, when it is executed again, and what the book shows of a page that is stale."""

from __future__ import annotations

import ast
import base64
import datetime
import io
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pandas as pd
import pytest
from test_book import HEADER, checkout

from ctrlib.book import builder, freshness, pages
from ctrlib.classifier import CTRClassifier
from ctrlib.data import load_table
from ctrlib.errors import SettingError
from ctrlib.lab import provenance
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.export import exported, flat, write_csv
from ctrlib.lab.made import LEFT, left
from ctrlib.lab.records import READS, TEXT, load_records, write_record
from ctrlib.lab.runner import classifier_record, device_name
from ctrlib.paths import MADE, measured_dir
from ctrlib.repository import repository
from ctrlib.train import NUMERICS
from ctrlib.views.footer import IN_THE_BOOK, RECORDS, command, downloads, footer
from ctrlib.views.footer import _advice as footer_advice

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = (
    HEADER
    + """
# %% [markdown]
# # Tiny
# A first sentence.

# %% tags=["parameters"]
profile = "quick"

# %%
from ctrlib.views.footer import footer
from ctrlib.lab.records import load_records
records = load_records("activation")
print("shown:", len(records), "of old")

# %%
footer("activation", records)
"""
)


def record(seed: int = 1, **values: Any) -> dict[str, Any]:
    scores = {"auc": 0.8 + seed / 100, "logloss": 0.4}
    environment = {"device": "cpu", "device_name": "P", "threads": 1, "versions": {"torch": "2", "numpy": "1"}}
    return {
        "experiment": "activation",
        "dataset": "tiny",
        "fingerprint": "f",
        "model": "T9",
        "label": "T9.none",
        "settings": {"hidden_units": [8, 8]},
        "protocol": {"min_count": 2},
        "seed": seed,
        "status": "completed",
        "valid": scores,
        "test": scores,
        "epochs": [],
        "environment": environment,
        "numerics": NUMERICS,
        "date": f"2026-01-0{seed}T00:00:00+00:00",
    } | values


def put(folder: Path, one: dict[str, Any]) -> Path:
    path = folder / one["experiment"] / one["dataset"] / one["label"] / f"seed-{one['seed']}.json"
    assert write_record(path, one)
    return path


# ---- inputs ----------------------------------------------------------------------------------------------


def notebook(text: str = "# A title", code: str = "x = 1") -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records of a checkout of its own."""
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    return tmp_path / "records"


def test_text_changes_nothing_and_code_parameters_and_records_do(folder: Path, tmp_path: Path) -> None:
    put(folder, record())
    kept, parameters = tmp_path / "kept.json", {"profile": "smoke"}
    freshness.keep(kept, freshness.inputs(notebook(), parameters, freshness.shared_inputs()), ["activation"])

    def now(page: nbformat.NotebookNode, **others: str) -> list[str] | None:
        return freshness.changed(kept, freshness.inputs(page, parameters | others, freshness.shared_inputs()))

    assert now(notebook()) == []
    assert now(notebook("# Another title")) == []
    assert now(notebook(code="x = 2")) == [freshness.CODE]
    assert now(notebook(), profile="quick") == ["its parameters"]
    put(folder, record(experiment="align"))
    assert now(notebook()) == [], "the page did not read these"
    put(folder, record(seed=2))
    assert now(notebook()) == ["records of activation"]


def test_a_page_that_reads_all_records_depends_on_new_experiments(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    freshness.keep(kept, freshness.inputs(notebook(), {}, freshness.shared_inputs()), ["*"])
    put(folder, record(experiment="align"))
    assert freshness.changed(kept, freshness.inputs(notebook(), {}, freshness.shared_inputs())) == ["records of align"]


def test_what_other_pages_left_and_their_text_count_for_pages_that_read_them(folder: Path, tmp_path: Path) -> None:
    made, notes = tmp_path / "made", {"reader": [f"{LEFT}outcomes", f"{TEXT}all pages"], "other": ["left/more"]}
    made.mkdir()
    (made / "outcomes.json").write_text("1")
    for name, reads in notes.items():
        freshness.keep(tmp_path / name, freshness.inputs(notebook(), {}, freshness.shared_inputs(made)), reads)

    def changed() -> list[list[str] | None]:
        return [
            freshness.changed(tmp_path / name, freshness.inputs(notebook(), {}, freshness.shared_inputs(made)))
            for name in notes
        ]

    assert changed() == [[], []]
    (made / "outcomes.json").write_text("2")
    assert changed() == [["what a page left as outcomes"], []]
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "new.md").write_text("Some words.")
    assert changed() == [["what a page left as outcomes", "the text of all pages"], []]


def test_the_repositorys_address_counts_for_pages_that_show_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTRLIB_REPOSITORY", "")
    notes = tmp_path / "notes"
    monkeypatch.setenv(READS, str(notes))
    assert repository() == {}
    for name, reads in {"gallery": notes.read_text().split(), "other": ["left/more"]}.items():
        freshness.keep(tmp_path / name, freshness.inputs(notebook(), {}, freshness.shared_inputs()), reads)
    monkeypatch.setenv("CTRLIB_REPOSITORY", "https://github.com/someone/something")
    now = freshness.inputs(notebook(), {}, freshness.shared_inputs())
    assert freshness.changed(tmp_path / "gallery", now) == ["the repository's address"]
    assert freshness.changed(tmp_path / "other", now) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"inputs": 1, "reads": []}'])
def test_damaged_notes_count_as_never_executed(text: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(text)
    assert freshness.changed(tmp_path / "kept.json", {}) is None
    assert freshness.executed_on(tmp_path / "kept.json") == ""


def test_stored_figures_count(folder: Path, tmp_path: Path) -> None:
    before = freshness.inputs(notebook(), {}, freshness.shared_inputs())
    (tmp_path / "data" / "papers").mkdir(parents=True)
    (tmp_path / "data" / "papers" / "table.csv").write_text("a,b\n")
    after = freshness.inputs(notebook(), {}, freshness.shared_inputs())
    assert [name for name in after if after[name] != before[name]] == ["stored figures, measurements and claims"]
    measured_dir().mkdir(parents=True)
    (measured_dir() / "streams-d.json").write_text("{}")
    last = freshness.inputs(notebook(), {}, freshness.shared_inputs())
    assert [name for name in last if last[name] != after[name]] == ["stored figures, measurements and claims"]


def test_reading_is_taken_down(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READS, str(tmp_path / "reads"))
    load_records("activation")
    load_records()
    load_records("align", root=tmp_path)
    left("outcomes")
    assert (tmp_path / "reads").read_text().splitlines() == ["activation", "*", "left/outcomes"]


def test_no_page_and_no_other_module_imports_what_only_builds() -> None:
    names = {f"ctrlib.{name.removesuffix('.py')}" for name in freshness.BUILD_ONLY}
    package = ROOT / "ctrlib"
    others = [p for p in package.rglob("*.py") if p.relative_to(package).parts[0] not in freshness.BUILD_ONLY]
    assert len(others) > 100
    for path in [*others, *(ROOT / "chapters").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not [n for n in imported if n.startswith(tuple(names))], f"{path.name} imports {imported}"


# ---- pages -----------------------------------------------------------------------------------------------


def test_new_text_stands_beside_the_outputs_of_the_same_code() -> None:
    executed = notebook("# Old")
    executed.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    added = nbformat.v4.new_code_cell("profile = 1", metadata={"tags": [pages.INJECTED]})
    executed.cells.insert(1, added)
    source = notebook("# New")
    source.cells.append(nbformat.v4.new_markdown_cell("more"))
    page = pages.with_text_of(executed, source)
    assert [cell.source for cell in page.cells] == ["profile = 1", "# New", "x = 1", "more"]
    assert page.cells[2].outputs[0].text == "1" and not source.cells[1].outputs


def test_a_stale_page_says_so_below_its_title() -> None:
    page = pages.marked_stale(notebook("(label)=\n# A title\nText."), "05_qnn", ["its code", "ctrlib"], "2026-01-02")
    text = page.cells[0].source
    assert text.startswith("(label)=\n# A title\n\n:::{admonition} This page is stale") and text.endswith("Text.")
    assert "2026-01-02" in text and "its code, ctrlib" in text and "ctrlib book --only 05_qnn" in text


def test_a_page_is_executed_again_only_after_a_change_that_counts_and_is_stale_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    chapter = checkout(tmp_path, CHAPTER) / "chapters" / "01_activation.py"
    (tmp_path / "chapters" / "01_tiny.py").rename(chapter)  # the footer links to the files of this name
    for page in (tmp_path / "_toc.yml", tmp_path / "book" / "index.md"):
        page.write_text(page.read_text().replace("01_tiny", "01_activation"))
    put(tmp_path / "records", record())
    html = tmp_path / "build" / "_build" / "html" / "chapters" / "01_activation.html"

    def built(only: list[str] | None = None) -> tuple[str, str]:
        assert builder.build("smoke", only) == 0
        return capfd.readouterr().out, html.read_text()

    said, page = built()
    assert "executed 01_activation" in said and "shown: 1 of old" in page and "ctr-stale" not in page
    assert "_static/records/activation.csv" in page and "_static/sources/01_activation.py" in page

    chapter.write_text(CHAPTER.replace("A first sentence", "Another sentence"))
    said, page = built()
    assert "executed 01_activation" not in said and "1 of 1 pages are unchanged" in said
    assert "Another sentence" in page and "shown: 1 of old" in page and "ctr-stale" not in page

    put(tmp_path / "records", record(seed=2))
    said, page = built(only=[])
    assert "ctr-stale" in page and "records of activation" in page and "shown: 1 of old" in page
    assert "ctrlib book --only 01_activation" in re.sub("<[^>]+>", "", page)

    chapter.write_text(CHAPTER.replace("of old", "of new"))
    said, page = built(only=[])
    assert "ctr-stale" in page and "code" in page
    assert "of old" in page and "of new" not in page, "new code never stands over old outputs"
    said, page = built()
    assert "01_activation: the page's code, records of activation" in said
    assert "shown: 2 of new" in page and "ctr-stale" not in page


def test_a_warning_is_not_forgotten_by_the_next_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    checkout(tmp_path, HEADER + "\n# %% [markdown]\n# # Tiny\n# ### Too deep\n# {no-such-role}`x`\n")
    assert builder.build("smoke") != 0
    assert builder.build("smoke") != 0, "a page that was not read again keeps its warning"
    assert builder.build("smoke", []) == 0, "a draft passes"
    assert builder.build("smoke") != 0, "what a draft has read is not taken for clean"


def test_only_a_clean_build_is_built_upon(tmp_path: Path) -> None:
    passed = tmp_path / "passed.json"
    assert not builder.reusable(passed, "k", strict=False)
    passed.write_text(json.dumps({"key": "k", "strict": False}))
    assert builder.reusable(passed, "k", strict=False) and not builder.reusable(passed, "k", strict=True)
    passed.write_text(json.dumps({"key": "k", "strict": True}))
    assert builder.reusable(passed, "k", strict=True) and not builder.reusable(passed, "other", strict=True)


def test_a_mirror_touches_only_what_changed(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "same").write_text("1")
    (new / "a" / "more").write_text("2")
    (old / "gone").write_text("3")
    before = (old / "a" / "same").stat().st_mtime_ns
    builder.mirror(new, old)
    assert sorted(p.name for p in old.rglob("*") if p.is_file()) == ["more", "same"]
    assert (old / "a" / "same").stat().st_mtime_ns == before


# ---- the footer ------------------------------------------------------------------------------------------


def test_records_of_other_numerics_or_data_are_stale() -> None:
    records = [record(1), record(2, numerics=NUMERICS + 1), record(3, fingerprint="g"), record(4, dataset="other")]
    made = [record(9)]
    assert provenance.states(records, made) == ["fresh", "other numerics", "other data", "not compared"]
    fresh, text = provenance.told(records, made)
    assert not fresh and "2 of 4" in text and "1 made with other numerics" in text
    fresh, text = provenance.told([records[0], records[3]], made)
    assert fresh and text.endswith("where that can be told; not at hand here: other.")
    split = [record(seed, vary="split") for seed in (5, 6)]
    fresh, text = provenance.told([records[0], *split], made)
    assert fresh and text.endswith(
        "not encoded here: another split, subset or threshold for rare values of tiny (2 runs)."
    )
    assert "not at hand" not in text
    table = provenance.provenance(records, made)
    assert table["stale"].tolist() == [0, 2, 0] and table["source"].tolist()[-1] == "computed now"
    assert table.loc[1, "data"] == "f, g" and table.loc[1, "seeds"] == "1 to 3"
    assert table.loc[1, "dates"] == "2026-01-01 to 2026-01-03"


def test_a_run_whose_seed_splits_the_data_is_compared_with_its_own_split() -> None:
    drawn = [record(seed, vary="split", fingerprint=f"split {seed}") for seed in (1, 2)]
    assert provenance.states(drawn, drawn) == ["fresh", "fresh"]


def test_ranges() -> None:
    assert provenance.in_ranges([3, 1, 2, 7, 9, 10]) == "1 to 3, 7, 9, 10"


def test_every_chapter_ends_with_its_footer() -> None:
    chapters = {path.stem for path in (ROOT / "chapters").glob("*.py")}
    assert chapters == {about.chapter for about in EXPERIMENTS.values()}
    for name, about in EXPERIMENTS.items():
        code = [
            c.source for c in jupytext.read(ROOT / "chapters" / f"{about.chapter}.py").cells if c.cell_type == "code"
        ]
        assert sum(f'footer("{name}"' in cell for cell in code) == 1, about.chapter


def test_footer_names_the_experiment_that_does_not_exist() -> None:
    with pytest.raises(SettingError, match="Did you mean 'activation'"):
        footer("activatoin")
    assert command("align") == ".venv/bin/ctrlib run align"


def test_the_copied_command_runs_without_a_gpu_which_is_named_beside_it() -> None:
    for name in ("activation", "fidelity"):
        assert "--device" not in command(name)
        assert all("On a GPU, add `--device cuda`" in footer_advice(name, fresh) for fresh in (True, False))


def put_old(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.csv").write_text("old")


def test_footer_leaves_the_table_of_the_runs_that_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other experiments too, and those of data sets that the page does not show."""
    borrowed = [record(1), record(2, experiment="align", dataset="ml-1m")]
    footer("noise-floor", borrowed)
    monkeypatch.setenv(MADE, str(tmp_path))
    footer("noise-floor", borrowed, shown=["tiny"])
    table = pd.read_csv(tmp_path / RECORDS / "noise-floor.csv")
    assert table["experiment"].tolist() == ["activation", "align"] and table["seed"].tolist() == [1, 2]
    assert table.columns.tolist() == flat(borrowed).columns.tolist()
    assert freshness.shared_inputs(tmp_path).keys() == freshness.shared_inputs().keys(), "no page depends on it"
    monkeypatch.setattr(
        builder, "write_csv", lambda folder: [put_old(folder, name) for name in ("align", "noise-floor")]
    )
    builder._add_downloads(tmp_path / "assets", tmp_path)
    found = {path.stem: len(path.read_text().splitlines()) for path in (tmp_path / "assets").rglob("*.csv")}
    assert found == {"align": 1, "noise-floor": 3}, "a chapter that has left no table keeps its own records"


def test_footer_lists_the_data_sets_that_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    stored = [record(), record(dataset="ml-1m")]
    footer("activation", stored)
    assert "ml-1m" in capsys.readouterr().out
    footer("activation", stored, shown=[stored[0]["dataset"]])
    told = capsys.readouterr().out
    assert "ml-1m" not in told and stored[0]["dataset"] in told


def test_footer_tells_of_classifiers_that_the_page_has_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame({"shop": ["a", "b", "c", "d"] * 20, "hour": list(range(5)) * 16, "clicked": [0, 1, 1, 0] * 20})
    data = load_table(table, label="clicked", fields=["shop", "hour"], name="shops")
    made = []
    for seed in (1, 2, 3):
        model = CTRClassifier("LR", max_epochs=2, random_state=seed).fit(table[["shop", "hour"]], table["clicked"])
        made.append(classifier_record("your-data", "LR", model, data, {"auc": 0.75, "logloss": 0.5}))
    row = provenance.provenance([], made).iloc[0]
    assert (row["dataset"], row["runs"], row["seeds"], row["stale"]) == ("shops", 3, "1 to 3", 0)
    assert row["data"] == data.fingerprint and row["processor"] == device_name("cpu")
    assert row["torch"] == version("torch") and row["dates"] == datetime.datetime.now(datetime.UTC).date().isoformat()
    other = load_table(table.iloc[1:], label="clicked", fields=["shop", "hour"], name="shops")
    assert other.fingerprint != data.fingerprint
    monkeypatch.setenv(IN_THE_BOOK, "1")
    footer("your-data", made=made)
    told = capsys.readouterr().out
    assert data.fingerprint in told
    links = downloads("your-data", made)
    assert (
        'href="../_static/sources/17_your_data.py" download="17_your_data.py"' in links
        and "17_your_data.ipynb" in links
    )
    found = re.search(r'href="data:text/csv;base64,([^"]+)" download="your-data.csv"', links)
    assert found
    runs = pd.read_csv(io.BytesIO(base64.b64decode(found[1])))
    assert runs["test_auc (fraction)"].tolist() == [0.75] * 3 and runs["seed"].tolist() == [1, 2, 3]
    assert runs["epochs"].tolist() == [2] * 3 and runs["device"].tolist() == ["cpu"] * 3
    assert "csv" not in downloads("your-data") and "../_static/records/align.csv" in downloads("align", made)


def test_records_as_csv(folder: Path, tmp_path: Path) -> None:
    put(folder, record())
    put(folder, record(experiment="teachers", label="GDCN"))
    put(folder, record(experiment="teachers", label="search:GDCN"))
    files = write_csv(tmp_path / "out")
    assert [path.stem for path in files] == exported() and "boundaries" not in exported()
    table = pd.read_csv(tmp_path / "out" / "activation.csv")
    assert table.loc[0, "test_auc (fraction)"] == pytest.approx(0.81)
    assert json.loads(table.loc[0, "settings.hidden_units"]) == [8, 8]
    labels = {name: pd.read_csv(tmp_path / "out" / f"{name}.csv")["label"].tolist() for name in ("teachers", "distil")}
    assert labels == {"teachers": ["GDCN", "search:GDCN"], "distil": ["GDCN"]}
    assert "test_auc (fraction)" in pd.read_csv(tmp_path / "out" / "align.csv").columns
    assert flat([]).empty
