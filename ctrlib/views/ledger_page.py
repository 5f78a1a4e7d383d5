"""The ledger as the book shows it: the page of all claims, its numbers at a glance, drawings, reading times.

The HTML is short, since one page holds every claim. `book/assets/claims.js` filters it and `ledger.css` gives it its
looks; without either it is a list that opens and closes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import pandas as pd

from ctrlib import views
from ctrlib.errors import CtrlibError
from ctrlib.figures import Table
from ctrlib.lab.case_study import cases_path
from ctrlib.lab.claims import Claim, printed_effects
from ctrlib.lab.judged import of_runs
from ctrlib.lab.records import TEXT, note_read
from ctrlib.lab.streams import measurements_path
from ctrlib.paths import measurements_dir, root
from ctrlib.views.ledger import OUTCOMES, Entry, counts, verdict_section

MARKS = dict(zip(OUTCOMES, ("✓", "✓", "=", "?", "✗", "✗", "–", "·"), strict=True))  # colours repeat what they say
MEANINGS = {
    "reproduced": "holds on the paper's own data or in its own setting",
    "transfers": "holds on our data, which are not the paper's",
    "equivalent": "the difference is too small to matter",
    "undecided": "more seeds would be needed",
    "does not transfer": "the opposite holds on our data",
    "contradicted": "the opposite holds on the paper's own data or in its own setting",
    "not measured": "its runs are still to come",
    "not testable here": "it needs data, users or hardware that are not here, or has no size to measure",
}
WORDS_A_MINUTE = 200
STUDIES = {"fidelity": "fidelity", "se-cost": "steps"}  # experiments without runs -> files of data/measurements
CODE = re.compile(r"^```.*?^```|^````.*?^````|\$\$.*?\$\$|<[^>]+>|\{[\w:]+\}", re.DOTALL | re.MULTILINE)


def claims_page(entries: Sequence[Entry]) -> Table:
    """Return all claims with their filters, as HTML and as plain text."""
    chapters = list(dict.fromkeys(entry.chapter for entry in entries))
    titles = {chapter: verdict_section(chapter)[0] for chapter in chapters}
    papers = list(dict.fromkeys(sorted((entry.claim.paper for entry in entries), reverse=True)))
    held = [name for name in OUTCOMES if any(entry.outcome == name for entry in entries)]
    boxes = [
        _choice("paper", "Paper", {name: name for name in papers}),
        _choice("verdict", "Verdict", {name: name for name in held}),
        _choice("chapter", "Chapter", {chapter: _numbered(chapter, titles[chapter]) for chapter in chapters}),
        '<label>Word <input name="word" type="search" placeholder="e.g. dropout"></label>',
    ]
    form = f'<form aria-label="Filter the claims" hidden>{"".join(boxes)}<button type="reset">Show all</button></form>'
    groups = []
    for chapter in chapters:
        part = [_entry(entry) for entry in entries if entry.chapter == chapter]
        title = html.escape(_numbered(chapter, titles[chapter]))
        head = f'<h3><a href="../chapters/{chapter}.html">{title}</a></h3>'
        groups.append(f'<section data-chapter="{chapter}">{head}\n{"".join(part)}</section>\n')
    count = f'<p class="ctr-count" role="status">{len(entries)} claims</p>'
    text = "\n".join(f"{entry.outcome:18} {entry.claim.id}" for entry in entries)
    return Table(f'<div class="ctr-claims">{form}{count}\n{"".join(groups)}</div>', text)


def _choice(name: str, label: str, options: dict[str, str]) -> str:
    told = "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in options.items())
    return f'<label>{label} <select name="{name}"><option value="">all</option>{told}</select></label>'


def _numbered(chapter: str, title: str) -> str:
    return f"{int(chapter.split('_')[0])}. {title}"


def _entry(entry: Entry) -> str:
    claim = entry.claim
    lines = [f"<p>{html.escape(claim.paper)}, section {html.escape(claim.section)}</p>"]
    if isinstance(claim, Claim):
        lines.append(f"<p><b>Test.</b> {html.escape(claim.reading)}</p>")
    if isinstance(claim, Claim) and len(entry.verdicts):
        each = "".join(f"<li>{_verdict(claim, row)}</li>" for _, row in entry.verdicts.iterrows())
        lines.append(f"<ul>{each}</ul>")
    if isinstance(claim, Claim) and (told := _printed(claim)):
        lines.append(f"<p><b>In the paper.</b> {html.escape(told)}</p>")
    if entry.why:
        lines.append(f"<p>{html.escape(entry.why)}</p>")
    if isinstance(claim, Claim) and claim.remark:
        lines.append(f"<p><b>Remark.</b> {html.escape(claim.remark)}</p>")
    lines.append(f"<p>{' · '.join(_links(entry))}</p>")
    return (
        f'<details id="claim-{claim.id}" data-paper="{html.escape(claim.paper)}" data-verdict="{entry.outcome}">'
        f"<summary>{badge(entry.outcome)} {html.escape(claim.sentence)}</summary>{''.join(lines)}</details>\n"
    )


def badge(outcome: str) -> str:
    """Return an outcome as a coloured mark with its name."""
    return f'<span class="v v{OUTCOMES.index(outcome)}">{MARKS[outcome]} {outcome}</span>'


def _verdict(claim: Claim, row: pd.Series) -> str:
    told = views.in_units(claim, row["effect"], row["low"], row["high"])
    negligible = ", too small to matter" if row["negligible"] else ""
    where = "" if str(row["verdict"]).endswith(str(row["data"])) else f" on {row['data']}"
    note = f" ({row['note']})" if row["note"] else ""
    failed = f" {row['failed']} failed runs." if row["failed"] else ""
    return (
        f"<b>{html.escape(str(row['verdict']))}</b>{html.escape(where)}{negligible}: "
        f"{html.escape(told + note)}, {views.seeds_of(row)}."
        f"{failed} <i>{html.escape(str(row['compared']))}</i>"
    )


def _printed(claim: Claim) -> str:
    """Return the effect that the paper prints on each of its data sets, as a sentence; of several pairs the weakest."""
    several = " in the weakest of its pairs" if len(claim.pairs) > 1 and claim.kind != "share" else ""
    told = [f"{views.in_units(claim, effect)} ({data})" for data, effect in printed_effects(claim).items()]
    return f"{', '.join(told)}{several}." if told else ""


def _links(entry: Entry) -> list[str]:
    """Return the links of an entry: itself, its section in the chapter, the records behind it."""
    _, anchor = verdict_section(entry.chapter)
    at = f"#{anchor}" if anchor else ""
    found = [f'<a href="#claim-{entry.claim.id}">permalink</a>']
    found.append(f'<a href="../chapters/{entry.chapter}.html{at}">in the chapter</a>')
    found += [f'<a href="../_static/records/{name}.csv">records of {name}</a>' for name in entry.sources]
    measured = [path.name for path in _measured(entry) if path.exists()]
    found += [f'<a href="../_static/measured/{name}">measured in {name}</a>' for name in measured]
    if len(entry.verdicts) and not entry.sources and not measured:
        found.append("made in this build")
    return found


def _measured(entry: Entry) -> list[Path]:
    """Return the files of what was measured, counted or timed for a claim; run records do not hold it."""
    claim = entry.claim
    if not isinstance(claim, Claim) or entry.verdicts.empty:
        return []
    if "latency" in claim.metric or claim.experiment in STUDIES:
        return [measurements_dir() / f"{STUDIES.get(claim.experiment, 'latency')}.json"]
    if of_runs(claim):
        return []
    path = cases_path if claim.experiment == "case-study" else measurements_path
    return [path(str(data)) for data in entry.verdicts["data"]]


def outcome_frame(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row for each claim: id, paper, chapter, sentence, outcome, told; what the landing page needs.

    told: the effects that the outcome rests on, in words.
    """
    rows = [(e.claim.id, e.claim.paper, e.chapter, e.claim.sentence, e.outcome, _effects(e)) for e in entries]
    return pd.DataFrame(rows, columns=["id", "paper", "chapter", "sentence", "outcome", "told"])


def _effects(entry: Entry) -> str:
    """Return the effect on each data set, without those that a single seed shows where others have more."""
    rows = [row for _, row in entry.verdicts.iterrows()]
    several = [row for row in rows if row["seeds"] > 1]
    return "; ".join(
        f"{views.effect(row, entry.claim.id)}, {row['data']}, {views.seeds_of(row)}" for row in several or rows
    )


def answers(outcomes: pd.DataFrame, names: Sequence[str]) -> Table:
    """Return the claims with the ids `names`, a row each: what is claimed, its verdict, and what our runs show.

    outcomes: what `outcome_frame` gives. Raises `CtrlibError` for an id that it lacks.
    """
    by_id = outcomes.set_index("id")
    if missing := [name for name in names if name not in by_id.index]:
        raise CtrlibError(f"There is no claim '{missing[0]}' in data/claims.toml.")
    rows = []
    for name in names:
        paper, sentence, outcome, told = (str(by_id.at[name, key]) for key in ("paper", "sentence", "outcome", "told"))
        link = f'<a href="claims.html#claim-{name}">{html.escape(sentence)}</a>'
        small = f"<small>{html.escape(told)}</small>" if told else ""
        rows.append(f'<tr><th scope="row">{link}<small>{html.escape(paper)}</small></th>')
        rows.append(f"<td>{badge(outcome)}{small}</td></tr>\n")
    head = '<thead><tr><th scope="col">claim</th><th scope="col">verdict, and our runs</th></tr></thead>'
    table = f'<table class="answers">{head}<tbody>{"".join(rows)}</tbody></table>'
    return Table(f'<div class="ctr-ledger">{table}</div>', by_id.loc[list(names), ["outcome", "told"]].to_string())


def scoreboard(outcomes: pd.DataFrame) -> Table:
    """Return the ledger in numbers: outcomes as rows, papers as columns, a bar for each number.

    outcomes: what `outcome_frame` gives. Every number above zero leads to its claims.
    """
    table = counts(zip(outcomes["paper"], outcomes["outcome"], strict=True))
    most = max(1, int(table.to_numpy().max()))
    head = "".join(f'<th scope="col">{html.escape(str(paper))}</th>' for paper in table)
    rows = []
    for place, (outcome, row) in enumerate(table.iterrows()):
        cells = "".join(_bar(str(outcome), str(paper), int(number), most, place) for paper, number in row.items())
        meaning = html.escape(MEANINGS[str(outcome)])
        rows.append(f'<tr><th scope="row">{badge(str(outcome))}<small>{meaning}</small></th>{cells}</tr>\n')
    total = "".join(f"<td>{number}</td>" for number in table.sum())
    foot = f'<tfoot><tr><th scope="row">all claims</th>{total}</tr></tfoot>'
    head = f'<thead><tr><th scope="col">verdict</th>{head}</tr></thead>'
    return Table(
        f'<div class="ctr-ledger"><table>{head}<tbody>{"".join(rows)}</tbody>{foot}</table></div>', table.to_string()
    )


def _bar(outcome: str, paper: str, number: int, most: int, place: int) -> str:
    link = f"claims.html#{urlencode({'paper': paper, 'verdict': outcome})}"
    shown = f'<a href="{html.escape(link)}">{number}</a>' if number else "0"
    return f'<td>{shown}<span class="bar v{place}" style="width:{100 * number / most:.0f}%"></span></td>'


def drawings(*names: str) -> Table:
    """Return vector drawings of book/assets side by side, inside the page so that they follow its colours.

    Raises `CtrlibError` for a drawing that is not there.
    """
    found = []
    for name in names:
        path = root() / "book" / "assets" / f"{name}.svg"
        if not path.exists():
            raise CtrlibError(f"There is no drawing {path}.")
        found.append(f'<figure class="ctr-drawing">{path.read_text(encoding="utf-8").strip()}</figure>')
    return Table(f'<div class="ctr-drawings">{"".join(found)}</div>', ", ".join(names))


def reading_minutes(page: Path) -> int:
    """Return how many minutes the prose of a page takes, at `WORDS_A_MINUTE`, without code, formulas and tables."""
    import jupytext

    note_read(f"{TEXT}all pages")
    text = "\n\n".join(cell.source for cell in jupytext.read(page).cells if cell.cell_type == "markdown")
    return max(1, round(len(re.findall(r"[A-Za-z][\w'’-]*", CODE.sub(" ", text))) / WORDS_A_MINUTE))
