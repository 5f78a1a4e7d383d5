"""The ledger: every claim once, with the verdicts that its chapter gives; its page, its numbers, its looks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import browser
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from ctrlib import views
from ctrlib.book import builder
from ctrlib.errors import CtrlibError, SettingError
from ctrlib.lab import boundaries, passes
from ctrlib.lab.claims import Claim, evaluate_claims, load_claims, load_untestable
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.judged import judged_runs, with_every_name, with_ranks_and_widths
from ctrlib.lab.made import leave, left
from ctrlib.paths import root
from ctrlib.views import ledger_page
from ctrlib.views.ledger import OUTCOMES, Entry, chapter_of, counts, judged_frames, ledger, verdict_section

BUILT = root() / "build" / "_build" / "html"
RECORDS = root() / "data" / "records"


def made_up(experiment: str, labels: dict[str, dict[str, float]], datasets: tuple[str, ...], seeds: int = 5) -> Any:
    """Runs of networks with made-up figures, a little higher with every seed."""
    rows = []
    for dataset in datasets:
        for label, figures in labels.items():
            for seed in range(1, seeds + 1):
                row = {"experiment": experiment, "dataset": dataset, "label": label, "seed": seed}
                row |= {"status": "completed"} | {name: value + seed / 1000 for name, value in figures.items()}
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """The ledger of the project's own records; what chapters make in a build is made up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRLIB_RECORDS", str(RECORDS))
        patch.setenv("CTRLIB_MADE", str(tmp_path_factory.mktemp("made")))
        figures = {"accuracy": 0.9, "turning": 1.0, "concentration": 0.3}
        cells = boundaries.PANELS | boundaries.with_losses(["T19"])
        leave("boundaries", made_up("boundaries", dict.fromkeys(cells, figures), ("moons", "circles")))
        timed = {label: {"log2_seconds": -5.0 - place} for place, label in enumerate(passes.TIMED)}
        leave("se-cost", made_up("se-cost", timed, ("ml-100k",)))
        return ledger("smoke")


@pytest.fixture
def stored_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own records, read only."""
    monkeypatch.setenv("CTRLIB_RECORDS", str(RECORDS))


# ---- the ledger ------------------------------------------------------------------------------------------


def test_every_claim_stands_once_and_the_counts_add_up(entries: list[Entry]) -> None:
    ids = [entry.claim.id for entry in entries]
    assert sorted(ids) == sorted(one.id for one in [*load_claims(), *load_untestable()])
    assert len(ids) == len(set(ids)) > 150
    table = counts((entry.claim.paper, entry.outcome) for entry in entries)
    assert list(table.index) == list(OUTCOMES) and list(table.columns) == ["QNN-alpha", "DS-MLP"]
    assert table.to_numpy().sum() == len(entries)
    assert table.loc["not testable here"].sum() == len(load_untestable())
    assert {entry.chapter for entry in entries} <= {one.chapter for one in EXPERIMENTS.values()}


def test_a_claim_has_a_verdict_or_a_reason(entries: list[Entry]) -> None:
    for entry in entries:
        assert (len(entry.verdicts) == 0) == (entry.outcome in ("not measured", "not testable here")), entry.claim.id
        assert bool(entry.why) == (len(entry.verdicts) == 0) or "stayed at chance" in entry.why, entry.claim.id
        assert (entry.verdicts["outcome"] != "not measured").all() if len(entry.verdicts) else True


@pytest.mark.usefixtures("stored_records")
@pytest.mark.parametrize("experiment", ["activation", "distil", "self-ensemble", "case-study"])
def test_verdicts_are_those_of_the_chapters_frames(entries: list[Entry], experiment: str) -> None:
    frames = judged_runs(experiment)
    shown = {entry.claim.id: entry.verdicts for entry in entries if entry.claim.experiment == experiment}
    for name, runs in frames.items():
        for _, row in evaluate_claims(runs, experiment, name).iterrows():
            found = shown[row["id"]]
            if row["outcome"] != "not measured":
                (same,) = found[found["data"] == name].itertuples()
                assert (same.verdict, same.effect, same.seeds) == (row["verdict"], row["effect"], row["seeds"])


def claim(**values: Any) -> Claim:
    told = {"id": "a", "paper": "p", "section": "1", "sentence": "A beats B", "reading": "r", "kind": "difference"}
    known = {"experiment": "boundaries", "metric": "accuracy", "pairs": (("A", "B"),), "datasets": ("moons",)}
    return Claim(**{**told, **known, **values})


@pytest.fixture
def in_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_MADE", str(tmp_path / "made"))


@pytest.mark.usefixtures("in_a_build")
def test_a_testable_claim_without_a_verdict_is_an_error() -> None:
    runs = {"A": {"accuracy": 0.9}, "B": {"accuracy": 0.8}}
    leave("boundaries", made_up("boundaries", runs, ("moons", "circles")))
    (entry,) = ledger(claims=[claim()])
    assert entry.outcome == "reproduced" and list(entry.verdicts["data"]) == ["moons", "circles"]
    with pytest.raises(CtrlibError, match=r"'a'.*no verdict.*moons: not measured on any run: acuracy"):
        ledger(claims=[claim(metric="acuracy")])
    with pytest.raises(CtrlibError, match=r"'a'.*no verdict.*no completed run: C"):
        ledger(claims=[claim(pairs=(("A", "C"),))])  # made in each build, so nothing can be missing


@pytest.mark.usefixtures("stored_records")
def test_recorded_runs_make_a_claim_testable() -> None:
    known = {"experiment": "second-network", "pairs": (("ensemble", "no-se"),)}
    (entry,) = ledger(claims=[claim(**known, metric="test_auc")])
    assert entry.outcome != "not measured" and entry.sources
    with pytest.raises(CtrlibError, match="Correct its metric and its labels"):
        ledger(claims=[claim(**known, metric="test_acu")])
    waits = claim(experiment="second-network", metric="test_auc", pairs=(("ensemble", "not-yet"),))
    (entry,) = ledger(claims=[waits])
    assert (entry.outcome, entry.why) == ("not measured", "Not yet run: not-yet.")


def test_without_any_record_a_claim_waits() -> None:
    (entry,) = ledger(claims=[claim(experiment="qnn-alpha", metric="test_auc")])
    assert entry.outcome == "not measured" and entry.why.startswith("Not yet run: none of the runs")


@pytest.mark.usefixtures("in_a_build")
@pytest.mark.parametrize(
    ("moons", "circles", "outcome"),
    [
        (0.9, 0.9, "reproduced"),
        (0.9, 0.7, "contradicted"),
        (0.7, 0.9, "contradicted"),
        (0.9, 0.8, "undecided"),  # reproduced on one, equivalent on the other
        (0.8, 0.8, "equivalent"),
    ],
)
def test_several_data_sets_make_one_outcome(moons: float, circles: float, outcome: str) -> None:
    parts = [
        made_up("boundaries", {"A": {"accuracy": a}, "B": {"accuracy": 0.8}}, (shape,))
        for shape, a in (("moons", moons), ("circles", circles))
    ]
    runs = pd.concat(parts)
    runs["accuracy"] += 1e-4 * (runs["label"] == "A") * (-1.0) ** runs["seed"]  # without any spread nothing is decided
    leave("boundaries", runs)
    at_home = claim(datasets=("moons", "circles"), margin=0.001)
    assert ledger(claims=[at_home])[0].outcome == outcome
    elsewhere = {"reproduced": "transfers", "contradicted": "does not transfer"}.get(outcome, outcome)
    assert ledger(claims=[claim(datasets=("faces",), margin=0.001)])[0].outcome == elsewhere


@pytest.mark.usefixtures("in_a_build")
def test_an_undecided_data_set_leaves_the_verdict_to_the_others() -> None:
    runs = made_up("boundaries", {"A": {"accuracy": 0.9}, "B": {"accuracy": 0.8}}, ("moons", "circles"))
    leave("boundaries", runs[(runs["dataset"] == "moons") | (runs["seed"] == 1)])  # one seed decides nothing
    (entry,) = ledger(claims=[claim()])
    assert list(entry.verdicts["outcome"]) == ["reproduced", "undecided"] and entry.outcome == "reproduced"


def test_what_a_page_leaves_is_read_back_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = pd.DataFrame({"label": ["A.none", "B"], "seed": [1, 2], "turning": [1 / 3, float("nan")]})
    monkeypatch.delenv("CTRLIB_MADE", raising=False)
    leave("boundaries", runs)
    assert left("boundaries") is None  # outside a build
    monkeypatch.setenv("CTRLIB_MADE", str(tmp_path / "made"))
    assert left("boundaries") is None
    leave("boundaries", runs)
    found = left("boundaries")
    assert found is not None
    pd.testing.assert_frame_equal(found, runs, check_exact=True)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["boundaries.json"]


def test_runs_of_the_plane_have_what_the_claims_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_JOBS", "1")  # no processes of their own
    cells = {"T9": boundaries.PANELS["T9"], **boundaries.with_losses(["T19"])}
    runs = boundaries.boundary_runs(boundaries.trained(cells, 2, epochs=3))
    assert len(runs) == 2 * 3 * 2 and set(runs["dataset"]) == {"moons", "circles"}
    assert {"accuracy", "turning", "concentration"} <= set(runs.columns)


def test_the_default_stands_under_its_own_weight_too() -> None:
    runs = pd.DataFrame({"label": ["distilled", "other"], "settings.distill_weight": [0.5, 0.1]})
    assert sorted(with_every_name(runs)["label"]) == ["cross-entropy=0.5", "distilled", "other"]
    assert with_every_name(runs[1:]).equals(runs[1:])


def test_students_stand_under_the_name_of_their_width_too() -> None:
    rows = [("from-DCNv2", 1, 0.9), ("from-DCNv2=600", 1, 0.5), ("from-DCNv2=100", 1, 0.8), ("DCNv2", 1, 0.7)]
    runs = pd.DataFrame(rows, columns=["label", "seed", "test_auc"]).assign(status="completed", dataset="frappe_x1")
    found = with_ranks_and_widths(runs, "frappe_x1").set_index("label")["test_auc"]
    assert found["from-DCNv2=600"] == found["from-DCNv2"] == 0.9, "the default is 600 wide there"
    assert sorted(found.index) == ["DCNv2", "from-DCNv2", "from-DCNv2=100", "from-DCNv2=600"]
    assert "from-DCNv2=300" in set(with_ranks_and_widths(runs, "ml-100k")["label"])
    assert with_ranks_and_widths(pd.DataFrame(), "ml-100k").empty


def test_unknown_experiments_and_doubled_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean 'activation'"):
        chapter_of("activatoin")
    path = tmp_path / "claims.toml"
    entry = 'id = "x"\npaper = "p"\nsection = "1"\nsentence = "s"\nexperiment = "align"\n'
    path.write_text(f"[[untestable]]\n{entry}")
    with pytest.raises(SettingError, match="'x' is incomplete"):
        load_untestable(path)
    path.write_text(f'[[untestable]]\n{entry}reason = "r"\n' * 2)
    with pytest.raises(SettingError, match="more than one claim called x"):
        load_claims(path)
    path.write_text(f'[[untestabel]]\n{entry}reason = "r"\n')
    with pytest.raises(SettingError, match="Did you mean 'untestable'"):
        load_claims(path)


def test_latency_is_judged_where_it_is_measured() -> None:
    frames = judged_frames("latency")
    assert frames and all({"latency", "seed"} <= set(part.columns) for part in frames.values())


# ---- the page --------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Ids, links and the attributes of claims, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.claims: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if values.get("href") else []
        if tag == "details":
            self.claims.append(values)


def test_each_claim_has_a_place_and_a_permalink(entries: list[Entry]) -> None:
    text = ledger_page.claims_page(entries).html
    found = Elements(text)
    assert sorted(found.ids) == sorted(f"claim-{entry.claim.id}" for entry in entries)
    assert [link for link in found.links if link.startswith("#")] == [f"#{name}" for name in found.ids]
    assert {one["data-verdict"] for one in found.claims} <= set(OUTCOMES)
    assert len(text.encode()) < 200_000  # the page's frame takes some thirty thousand more


@pytest.mark.usefixtures("stored_records")
def test_links_of_the_page_lead_somewhere(entries: list[Entry]) -> None:
    for link in set(Elements(ledger_page.claims_page(entries).html).links):
        target = urlsplit(link)
        if target.path.startswith("../chapters/"):
            chapter = Path(target.path).stem
            assert (root() / "chapters" / f"{chapter}.py").exists()
            assert target.fragment in ("", verdict_section(chapter)[1])
        elif target.path:
            kind, name = Path(target.path).parts[-2:]
            assert target.path == f"../_static/{kind}/{name}" and kind in ("records", "measured")
            folders = [RECORDS / "measured", root() / "data" / "measurements"]
            assert (
                (RECORDS / Path(name).stem).is_dir() if kind == "records" else any((f / name).exists() for f in folders)
            )


@pytest.mark.usefixtures("stored_records")
def test_what_is_measured_on_networks_leads_to_its_file(entries: list[Entry]) -> None:
    links = {entry.claim.id: " ".join(ledger_page._links(entry)) for entry in entries}
    measured = {name: re.findall(r"_static/measured/([\w.-]+)", text) for name, text in links.items()}
    assert measured["agreement-grows-with-lambda"] == ["streams-ml-100k.json"]
    assert measured["ds-mlp-mends-errors"] == ["cases-ml-100k.json"]
    assert measured["heads-reduce-latency-released"] == ["latency.json"]
    assert measured["student-below-parallel"] == ["fidelity.json"]
    assert measured["qnn-alpha-leads"] == [] and "_static/records/" in links["qnn-alpha-leads"]


def test_chapters_have_a_section_for_verdicts(entries: list[Entry]) -> None:
    assert verdict_section("16_speed")[1] == "verdicts-speed"
    assert verdict_section("01_activation") == ("Are activation functions necessary?", "claims-and-verdicts")
    judged = {entry.chapter for entry in entries if entry.outcome != "not testable here"}
    assert all(verdict_section(chapter)[1] for chapter in judged)


def test_an_entry_tells_effect_interval_seeds_and_unit() -> None:
    row = {"data": "ml-100k", "verdict": "transfers to ml-100k", "outcome": "reproduced", "negligible": True}
    row |= {"effect": 0.0061, "low": 0.002, "high": 0.0102, "seeds": 5, "fewest": 5, "most": 5, "failed": 1}
    row |= {"note": "never learned: A"}
    row |= {"compared": "test_auc: A < B"}
    asked = claim(metric="test_auc", sentence='A & "B"', remark="<b>")
    entry = Entry(asked, "05_qnn_alpha", "transfers", pd.DataFrame([row]), "", ("align",))
    text = ledger_page.claims_page([entry]).html
    told = "<b>transfers to ml-100k</b>, too small to matter: +0.61 points of AUC [+0.20, +1.02] (never learned: A)"
    assert f"{told}, 5 seeds." in text
    assert "1 failed runs." in text and "In the paper" not in text
    assert "test_auc: A &lt; B" in text and "A &amp; " in text and "&lt;b&gt;" in text
    assert '<a href="../_static/records/align.csv">' in text


def test_no_end_of_an_interval_is_a_zero_with_a_sign() -> None:
    asked = claim(metric="kept")  # shown in percent with one decimal
    assert views.in_units(asked, 0.003, -0.0004, 0.0064) == "+0.30 points [-0.04, +0.64]"
    assert views.in_units(asked, 0.003, -1e-12, 0.0064) == "+0.3 points [+0.0, +0.6]"
    assert views.in_units(asked, 0.0, 0.0, -0.0) == "+0.0 points [+0.0, +0.0]"


def test_seeds_of_other_pairs_are_told_where_they_differ() -> None:
    assert views.seeds_of(pd.Series({"seeds": 1, "fewest": 1, "most": 1})) == "1 seed"
    several = pd.Series({"seeds": 3, "fewest": 1, "most": 5})
    assert views.seeds_of(several) == "3 seeds (1 to 5 over all pairs)"


@pytest.mark.usefixtures("in_a_build")
def test_networks_at_chance_wait_for_nothing() -> None:
    figures = {"accuracy": 0.9, "test_auc": 0.495}  # the fifth seed is at 0.5
    runs = made_up("boundaries", {"A": figures, "B": figures}, ("moons", "circles"))
    stuck = runs[(runs["dataset"] == "circles") | (runs["seed"] == 5)]
    leave("boundaries", stuck[stuck["seed"] == 5])
    (entry,) = ledger(claims=[claim()])
    assert entry.outcome == "not measured"
    assert entry.why == " ".join(
        f"On {name} both networks stayed at chance: A with B." for name in ("moons", "circles")
    )
    leave("boundaries", pd.concat([stuck[stuck["dataset"] == "moons"], runs[runs["dataset"] == "circles"]]))
    (entry,) = ledger(claims=[claim(margin=0.01)])
    assert list(entry.verdicts["data"]) == ["circles"]
    assert entry.why == "On moons both networks stayed at chance: A with B."


def test_an_entry_tells_what_the_paper_prints(entries: list[Entry]) -> None:
    (entry,) = [entry for entry in entries if entry.claim.id == "student-matters"]
    text = ledger_page.claims_page([entry]).html
    assert "<b>In the paper.</b> +0.18 points of AUC (Avazu), +0.15 points of AUC (Criteo), +0.83 points" in text


def test_the_numbers_lead_to_their_claims(entries: list[Entry]) -> None:
    outcomes = ledger_page.outcome_frame(entries)
    table = ledger_page.scoreboard(outcomes)
    linked = {}
    for link, number in re.findall(r'<a href="claims.html#([^"]+)">(\d+)</a>', table.html):
        (paper,), (verdict,) = parse_qs(link.replace("&amp;", "&")).values()
        linked[paper, verdict] = int(number)
    assert linked == outcomes.groupby(["paper", "outcome"]).size().to_dict()
    assert sum(linked.values()) == len(entries)


def test_answers_give_verdict_and_effect(entries: list[Entry]) -> None:
    outcomes = ledger_page.outcome_frame(entries)
    decided = next(entry for entry in entries if entry.outcome == "transfers")
    untold = next(entry for entry in entries if entry.outcome == "not measured")
    names = [untold.claim.id, decided.claim.id]
    rows = ledger_page.answers(outcomes, names).html.split("<tr>")[2:]
    assert [re.search(r'href="claims.html#claim-([^"]+)"', row)[1] for row in rows] == names  # type: ignore[index]
    assert "not measured</span></td>" in rows[0] and "transfers</span><small>" in rows[1]
    seeds = max(decided.verdicts["seeds"])
    assert f", {seeds} seed{'s' if seeds > 1 else ''}" in rows[1]
    with pytest.raises(CtrlibError, match="'no-such-claim'"):
        ledger_page.answers(outcomes, ["no-such-claim"])


def test_drawings_have_words_and_no_colour_of_their_own_for_ink() -> None:
    text = ledger_page.drawings("qnn_alpha", "ds_mlp").html
    assert text.count('role="img"') == text.count("<title") == text.count("<desc") == 2
    assert set(re.findall(r'stroke="([^"]+)"', text)) == {"currentColor", "none"}
    ids = Elements(text).ids
    assert len(ids) == len(set(ids))
    with pytest.raises(CtrlibError, match="no drawing"):
        ledger_page.drawings("qnn_beta")


def test_reading_time_counts_prose_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    prose = "\n".join(f"# word{'s' * (i % 3)}" for i in range(600))
    page.write_text(f"# %% [markdown]\n{prose}\n# ```python\n# x = 1\n# ```\n\n# %%\n" + "y = 2  # words\n" * 500)
    assert ledger_page.reading_minutes(page) == 3


def test_the_landing_page_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(builder, "execute", lambda name, parameters, out: order.append(name))
    builder.execute_all(["claims", "index", "02_boundaries", "numbers"], "paper", tmp_path)
    assert order == ["02_boundaries", "claims", "numbers", "index"]


# ---- in a browser ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser.find_browser() or pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    with browser.start(path) as running:
        yield running


@pytest.fixture(scope="module")
def address(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The real claims, with the book's script and looks, as a file on disk."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("claims.js", "ledger.css"):
        shutil.copy(root() / "book" / "assets" / name, folder / name)
    head = '<meta charset="utf-8"><link rel="stylesheet" href="ledger.css"><script defer src="claims.js"></script>'
    text = f'<!doctype html><html lang="en" data-theme="light"><head>{head}<title>claims</title></head><body>'
    (folder / "page.html").write_text(text + ledger_page.claims_page(entries).html, encoding="utf-8")
    return (folder / "page.html").as_uri()


def shown(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all("details", "all => all.filter(d => d.offsetParent).map(d => d.id)")
    return found


def expected(entries: list[Entry], **wanted: str) -> list[str]:
    def fits(entry: Entry) -> bool:
        has = {"paper": entry.claim.paper, "verdict": entry.outcome, "chapter": entry.chapter}
        return all(has[key] == value for key, value in wanted.items())

    return [f"claim-{entry.claim.id}" for entry in entries if fits(entry)]


def test_filters_filter_and_stand_in_the_address(chromium: Browser, address: str, entries: list[Entry]) -> None:
    with browser.opened(chromium, address, height=900) as (page, seen):
        assert len(shown(page)) == len(entries)
        page.select_option('select[name="paper"]', "DS-MLP")
        page.select_option('select[name="verdict"]', "undecided")
        wanted = expected(entries, paper="DS-MLP", verdict="undecided")
        assert shown(page) == wanted and 0 < len(wanted) < len(entries)
        assert page.inner_text('[role="status"]') == f"{len(wanted)} of {len(entries)} claims"
        assert page.url.endswith("#paper=DS-MLP&verdict=undecided")
        shared = page.url
        page.fill('input[name="word"]', "stage LOGLOSS")
        assert 0 < len(shown(page)) < len(wanted)
        page.fill('input[name="word"]', "no such word")
        assert shown(page) == [] and not page.query_selector("section:not([hidden])")
        page.click('button[type="reset"]')
        assert len(shown(page)) == len(entries) and "#" not in page.url
        assert seen.complaints == []
    with browser.opened(chromium, shared, height=900) as (page, _):
        assert shown(page) == wanted
        assert page.input_value('select[name="verdict"]') == "undecided"
        assert 0 <= page.eval_on_selector("form", "f => f.getBoundingClientRect().top") < 900
    with browser.opened(chromium, f"{address}#verdict=nonsense&chapter=09_align", height=900) as (page, seen):
        assert shown(page) == expected(entries, chapter="09_align") and seen.complaints == []


def test_a_permalink_opens_its_claim(chromium: Browser, address: str) -> None:
    with browser.opened(chromium, f"{address}#claim-se-helps", height=900) as (page, seen):
        assert page.eval_on_selector_all("details[open]", "all => all.map(d => d.id)") == ["claim-se-helps"]
        page.keyboard.press("Tab")  # goes on from there
        assert page.evaluate("document.activeElement.closest('details').id") == "claim-se-helps"
        top = page.eval_on_selector("#claim-se-helps", "d => d.getBoundingClientRect().top")
        assert 0 <= top < 900
        page.select_option('select[name="paper"]', "DS-MLP")
        assert "claim-se-helps" not in shown(page)
        page.evaluate("location.hash = '#claim-se-helps'")  # hidden by the filter: the filter gives way
        page.wait_for_function("document.querySelector('#claim-se-helps').offsetParent")
        assert page.input_value('select[name="paper"]') == ""
        assert seen.complaints == []


def test_the_page_works_from_the_keyboard(chromium: Browser, address: str, entries: list[Entry]) -> None:
    with browser.opened(chromium, address, height=900) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == "paper"
        page.keyboard.press("ArrowDown")
        assert shown(page) == expected(entries, paper="QNN-alpha")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.type("dropout")
        page.keyboard.press("Enter")  # does not send the form away
        assert 0 < len(shown(page)) < len(expected(entries, paper="QNN-alpha"))
        page.keyboard.press("Tab")  # the button
        page.keyboard.press("Tab")  # a chapter's link
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.eval_on_selector_all("details[open]", "all => all.map(d => d.id)") == shown(page)[:1]


def test_the_page_fits_a_phone(chromium: Browser, address: str) -> None:
    with browser.opened(chromium, address, width=390, height=800) as (page, _):
        page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.skipif(not (BUILT / "book" / "claims.html").exists(), reason="the book is not built; run make book first")
def test_built_pages_are_small_and_their_links_lead_somewhere() -> None:
    for name in ("claims", "index"):
        path = BUILT / "book" / f"{name}.html"
        assert path.stat().st_size < 300_000
        for link in set(Elements(path.read_text(encoding="utf-8")).links):
            target = urlsplit(link)
            if target.scheme or target.netloc or not target.path:
                continue
            other = (path.parent / target.path).resolve()
            assert other.exists(), f"{name} links to {link}"
            if target.fragment and "=" not in target.fragment and other.suffix == ".html":
                assert target.fragment in Elements(other.read_text(encoding="utf-8")).ids, f"{name} links to {link}"
