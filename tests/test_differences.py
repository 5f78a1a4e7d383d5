"""Where papers, tables, logs and code differ: the entries, their cells on the pages, and what ctrlib does of each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import browser
import jupytext
import pytest
from docutils.nodes import make_id
from test_pages_in_browser import BUILT

from ctrlib import build_model
from ctrlib.errors import SettingError
from ctrlib.lab.counts import counted, plain_schema, weights
from ctrlib.lab.differences import KINDS, effects, load_differences
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records
from ctrlib.losses import COMPARED, DISTILLATION, LOSSES
from ctrlib.views import differences as views
from ctrlib.views.differences import HEADINGS, PAGES, Block, address, differences, labels, overview, slug

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = load_differences(ROOT / "data" / "papers" / "differences.toml")
FORMS = [(entry.id, name, dict(form)) for entry in ENTRIES for name, form in entry.forms.items()]
built = pytest.mark.skipif(
    not (BUILT / "book" / "differences.html").exists(), reason="the book is not built; run make book"
)
LISTED = {str(number) for number in range(1, 56)}  # papers beside code, one by one
LISTED |= {
    f"{part}{k}" for part, last in {"A": 16, "L": 25, "B": 17, "C": 15, "D": 8}.items() for k in range(1, last + 1)
}
"""Ids of all that was found to differ when papers, logs, code and notes of data sets were read."""
PAIR = '{experiment = "align", name = "NAME", cells = ["a", "b"]}'
ENTRY = """
[[difference]]
id = "one"
paper = "DS-MLP"
kind = "text vs code"
touches = "function"
title = "One"
place = "3.1"
first = "This."
second = "That."
effect = "A <small> one."
"""


# ---- the entries -----------------------------------------------------------------------------------------


def test_entries_are_many_and_of_both_papers() -> None:
    assert len(ENTRIES) >= 60
    assert {entry.paper for entry in ENTRIES} == {"QNN-alpha", "DS-MLP"}
    assert {"text vs code", "text vs table", "table vs logs", "code vs code"} <= {entry.kind for entry in ENTRIES}


def test_nothing_that_was_found_is_lost() -> None:
    covered = [item for entry in ENTRIES for item in entry.covers]
    assert LISTED - set(covered) == set(), "no entry covers them"
    assert set(covered) - LISTED == set(), "no such item was listed"
    assert all(len(set(entry.covers)) == len(entry.covers) > 0 for entry in ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_leads_to_a_heading_that_is_there(entry: object) -> None:
    assert entry in ENTRIES
    found = differences()[entry.id]  # type: ignore[attr-defined]
    if found.chapter:
        page = address(found.chapter, found.heading)
        assert page.startswith(("../chapters/", "../book/")) and ".html#" in page


@pytest.mark.parametrize(("entry", "side", "form"), FORMS, ids=[f"{entry}: {side}" for entry, side, _ in FORMS])
def test_every_form_exists_in_ctrlib(entry: str, side: str, form: dict[str, object]) -> None:
    if "model" in form:
        assert build_model(str(form.pop("model")), plain_schema(4), **form).num_parameters > 0
        return
    name, compared = form.pop("loss"), form.pop("on", None)
    assert name in (LOSSES if compared is None else DISTILLATION) and compared in (None, *COMPARED) and not form


def test_measured_cells_are_recorded_or_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    for entry in ENTRIES:
        for pair in entry.measured:
            recorded = {record["label"] for record in experiment_records(pair.experiment)}
            assert set(pair.cells) <= recorded, f"{entry.id}: {pair.cells} of {EXPERIMENTS[pair.experiment].chapter}"


def test_effects_are_the_paired_differences_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    entry = next(entry for entry in ENTRIES if entry.id == "half-first-order")
    found, used = effects([entry])
    row = found[found["data"] == "ml-100k"].iloc[0]
    cells = entry.measured[0].cells
    auc = {label: {r["seed"]: r["test"]["auc"] for r in used if r["label"] == label} for label in cells}
    left, right = (auc[label] for label in cells)
    common = sorted(set(left) & set(right))
    assert row["seeds"] == len(common) >= 3
    assert row["difference"] == pytest.approx(sum(left[s] - right[s] for s in common) / len(common))


def test_without_records_nothing_is_measured() -> None:
    found, used = effects(ENTRIES)
    assert found.empty and used == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "text vs code"', 'kind = "text vs cod"', "Did you mean 'text vs code'"),
        ('paper = "DS-MLP"', 'paper = "DSMLP"', "Did you mean 'DS-MLP'"),
        ('touches = "function"', 'touches = "functions"', "Did you mean 'function'"),
        ('place = "3.1"', 'plaze = "3.1"', "Did you mean 'place'"),
        ('place = "3.1"', "", "'one' is incomplete.*place"),
        ('place = "3.1"', 'place = "3.1"\nexecuted = false', "'one' needs a reason"),
        ('place = "3.1"', 'place = "3.1"\nreason = "none"', "'one' needs a reason if it is not"),
        ('place = "3.1"', 'place = "3.1"\nheading = "None"', "without a chapter"),
        ('place = "3.1"', 'measured = [{experiment="x", name="n", cells=["a"]}]\nplace = "3.1"', "two cells, not 1"),
        ('place = "3.1"', 'measured = [{experiment="x", name="n", cells=["a", "b"]}]\nplace = "3.1"', "experiment"),
        ('place = "3.1"', f'measured = [{PAIR}, {PAIR}]\nplace = "3.1"', "'one' measures 2 pairs, 0 of them primary"),
        (
            'place = "3.1"',
            f'measured = [{PAIR}, {PAIR}]\nplace = "3.1"'.replace("]}", "], primary = true}"),
            "'one' measures 2 pairs, 2 of them primary.*primary = true",
        ),
        ('place = "3.1"', "place = 3.1.2", "cannot be read"),
        ("[[difference]]", ENTRY + "[[difference]]", "more than one difference called one"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_name(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "differences.toml"
    path.write_text(ENTRY.replace(old, new, 1), encoding="utf8")
    with pytest.raises(SettingError, match=f"(?s){message}"):
        load_differences(path)


def test_of_several_pairs_the_marked_one_stands_for_the_difference(tmp_path: Path) -> None:
    second = PAIR.replace("NAME", "second").replace("]}", "], primary = true}")
    path = tmp_path / "differences.toml"
    for pairs, expected in ({PAIR: "NAME", f"{PAIR}, {second}": "second", "": None}).items():
        path.write_text(ENTRY + f"measured = [{pairs}]\n", encoding="utf8")
        primary = load_differences(path)[0].primary
        assert (primary.name if primary else None) == expected


def test_a_kind_names_two_sources() -> None:
    assert "logs vs code" in KINDS and "left open" in KINDS
    assert ENTRIES[0].sides == ("text", "code")


# ---- the pages -------------------------------------------------------------------------------------------


def told(page: Path) -> Iterator[tuple[str, bool]]:
    """Yield each id that a page tells, and whether a cell between it and the next telling asserts something."""
    waiting: list[str] = []
    asserted = False
    for cell in jupytext.read(page).cells:
        if cell.cell_type != "code":
            continue
        nodes = list(ast.walk(ast.parse(cell.source)))
        calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "tell"]
        if calls:
            yield from ((name, asserted) for name in waiting)
            waiting, asserted = [ast.literal_eval(a) for call in calls for a in call.args], False
        asserted |= any(isinstance(node, ast.Assert) for node in nodes)
    yield from ((name, asserted) for name in waiting)


@pytest.mark.parametrize("paper", PAGES)
def test_every_entry_is_told_once_and_executed_where_it_says_so(paper: str) -> None:
    found = list(told(ROOT / "book" / f"{PAGES[paper]}.md"))
    assert sorted(name for name, _ in found) == sorted(entry.id for entry in ENTRIES if entry.paper == paper)
    assert {name for name, asserted in found if asserted} == {e.id for e in ENTRIES if e.paper == paper and e.executed}


def test_the_overview_has_a_row_and_two_links_for_each_entry() -> None:
    table = overview().html
    assert table.count("<tr>") == len(ENTRIES) + 1
    for entry in ENTRIES:
        assert f'href="{PAGES[entry.paper]}.html#diff-{entry.id}"' in table
    assert table.count("../chapters/") + table.count("../book/") == sum(bool(entry.chapter) for entry in ENTRIES)


def test_the_overview_names_the_primary_pair_its_data_and_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    views._effects.cache_clear()
    try:
        entry = differences()["squared-mean"]
        told = views._primary(entry)
        found, _ = effects([entry])
    finally:
        views._effects.cache_clear()
    assert entry.primary is not None and entry.primary.cells[0] == "squared-mean-probabilities=1"  # as released
    assert told.startswith(f"{entry.primary.name}: ")
    row = found[(found["name"] == entry.primary.name) & (found["data"] == "ml-100k")].iloc[0]
    assert f"{100 * row['difference']:+.2f} [" in told and f" on ml-100k, {row['seeds']} seeds" in told
    largest = 100 * found.loc[found["difference"].abs().idxmax(), "difference"]
    assert f"{largest:+.2f}" not in told
    assert views._primary(differences()["heads-and-latency"]) == ""


def test_a_block_escapes_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "differences.toml"
    path.write_text(ENTRY, encoding="utf8")
    block = Block(load_differences(path)[0])
    assert "A &lt;small&gt; one." in block._repr_html_() and "A <small> one." in repr(block)
    assert "More in" not in block._repr_html_()


def test_addresses_name_what_is_not_there() -> None:
    with pytest.raises(SettingError, match=r"label of a page 'sec-khatri-rau'.*Did you mean 'sec-khatri-rao'"):
        address("sec-khatri-rau")
    with pytest.raises(SettingError, match=r"heading of chapters/03_khatri_rao 'Head'.*'Heads'"):
        address("sec-khatri-rao", "Head")


def test_slugs_are_the_renderers() -> None:
    headings = {text for _, found in labels().values() for text in found}
    assert all(slug(heading) == make_id(heading) for heading in headings)
    assert HEADINGS[".py"].findall("# ---\n# # Title\n# x\n# ## Two\n") == ["Title", "Two"]


@built
def test_addresses_exist_in_the_built_book() -> None:
    for entry in ENTRIES:
        own = (BUILT / "book" / f"{PAGES[entry.paper]}.html").read_text(encoding="utf8")
        assert f'id="diff-{entry.id}"' in own
        if entry.chapter:
            page, anchor = address(entry.chapter, entry.heading).removeprefix("../").split("#")
            assert f'id="{anchor}"' in (BUILT / page).read_text(encoding="utf8"), f"{page}#{anchor}"
    for name in ("differences", *PAGES.values()):
        assert (BUILT / "book" / f"{name}.html").stat().st_size < 300_000


@built
def test_in_the_built_book_the_overview_filters_and_leads_to_the_cells() -> None:
    path = browser.find_browser() or pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    with (
        browser.start(path) as running,
        browser.serve(BUILT) as at,
        browser.opened(running, f"{at}/book/differences.html", width=390) as (page, seen),
    ):
        page.locator(".ctr-filter input").first.fill("DS-MLP training")
        table = page.locator(".ctr-table").first
        shown = table.locator("tbody tr:not([hidden])").all_inner_texts()
        assert 0 < len(shown) < len(ENTRIES)
        assert all("DS-MLP" in text and "training" in text.lower() for text in shown)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        table.locator("tbody tr:not([hidden]) a").first.click()
        page.wait_for_url("**/differences_ds_mlp.html#diff-*")
        assert page.locator(":target").count() == 1 and seen.complaints == [] == seen.outside


# ---- counting --------------------------------------------------------------------------------------------


def test_counts_leave_tables_out_and_need_no_memory_for_weights() -> None:
    network = build_model("DeepFM", plain_schema(3, ids=5), embedding_dim=4, hidden_units=[6])
    assert weights(network) == network.num_parameters - 15 * 4 - 15
    assert counted("DeepFM", 3, embedding_dim=4, hidden_units=[6]) == weights(network)
    with pytest.raises(SettingError, match="model 'DeepFN'"):
        counted("DeepFN", 3)
