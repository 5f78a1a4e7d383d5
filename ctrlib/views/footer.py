"""The end of a chapter: the runs behind its numbers, whether they are fresh, how to run it again, what to download."""

from __future__ import annotations

import base64
import datetime
import html
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ctrlib.errors import unknown
from ctrlib.figures import figure_table
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.export import exported, flat
from ctrlib.lab.provenance import provenance, told
from ctrlib.lab.records import Record
from ctrlib.paths import made_dir, written_whole

IN_THE_BOOK = "CTRLIB_IN_THE_BOOK"  # environment: set while the book is built, whose files the footer links to
RECORDS = "records"  # folder of the tables that footers leave for the book, among what pages leave for later ones
NETWORKS = "ctrlib_networks"  # metadata of a footer's output: how many networks its page has trained
CAPTION = "The runs behind the numbers of this page."
HEADINGS = {"dataset": "data", "source": "from", "processor": "device", "dates": "made on", "data": "data fingerprint"}


def footer(
    experiment: str,
    recorded: Sequence[Record] = (),
    made: Sequence[Record] = (),
    *,
    shown: Sequence[str] | None = None,
    caption: str = CAPTION,
) -> None:
    """Show where a chapter's numbers come from: the runs, whether they are fresh, the command, the downloads.

    While the book is built, the table of the runs in `recorded` is left for the download.

    recorded: the stored runs that the page can show. made: those of this build. shown: the data sets whose stored runs
    the page shows; None for all. Raises `SettingError` for an unknown experiment.
    """
    from IPython.display import HTML, Markdown, display

    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    _leave_table(experiment, recorded)
    recorded = [record for record in recorded if shown is None or record["dataset"] in shown]
    fresh, text = told(recorded, made) if recorded else (True, "No stored run stands behind this page.")
    display(HTML(_state(fresh, text)), metadata={NETWORKS: len(made)})  # type: ignore[no-untyped-call]
    if recorded or made:
        table = provenance(recorded, made)
        headings = {name: heading for name, heading in HEADINGS.items() if name in table}
        display(figure_table(table, headings=headings, caption=caption))  # type: ignore[no-untyped-call]
    display(Markdown(f"{_advice(experiment, fresh)}\n\n```bash\n{command(experiment)}\n```"))  # type: ignore[no-untyped-call]
    if os.environ.get(IN_THE_BOOK):
        display(HTML(downloads(experiment, made)))  # type: ignore[no-untyped-call]


def command(experiment: str) -> str:
    """Return the command that runs an experiment's full grid again, from the root of a checkout, on any computer."""
    return f".venv/bin/ctrlib run {experiment}"


def networks_counted(page: Path) -> int:
    """Return how many networks an executed notebook says, in its footer, that it has trained; 0 if it says nothing."""
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return sum(output.get("metadata", {}).get(NETWORKS, 0) for output in outputs)


def _leave_table(experiment: str, records: Sequence[Record]) -> None:
    """Leave the table of the runs that a footer is given, where the build looks for it; outside a build do nothing."""
    if records and (folder := made_dir()):
        with written_whole(folder / RECORDS / f"{experiment}.csv") as partial:
            flat(list(records)).to_csv(partial, index=False, lineterminator="\n")


def _advice(experiment: str, fresh: bool) -> str:
    where = "in the repository's folder. On a GPU, add `--device cuda`"
    if not EXPERIMENTS[experiment].recorded:
        return f"Run the whole page again, {where}:"
    if not fresh:
        return f"Move the stale records away, then make their runs again, {where}:"
    return (
        f"Make the runs that are missing, {where}. Add `--records`, and all runs are made anew in a folder of your "
        "own, and compared with these:"
    )


def _state(fresh: bool, text: str) -> str:
    word, kind = ("Fresh", "ctr-is-fresh") if fresh else ("Stale", "ctr-is-stale")
    page = f"Executed on {datetime.date.today()} with torch {version('torch')} and numpy {version('numpy')}."
    return f'<p class="ctr-state {kind}"><strong>{word}.</strong> {html.escape(text)} {page}</p>'


def downloads(experiment: str, made: Sequence[Record] = ()) -> str:
    """Return the links to a chapter's files in the built book, as HTML; they work from a disk too.

    made: the runs of this build. Where an experiment leaves no run records, the link itself holds their table.
    """
    chapter = EXPERIMENTS[experiment].chapter
    files = {
        f"{chapter}.ipynb": ("Notebook, with what you see here (.ipynb)", f"../_sources/chapters/{chapter}.ipynb"),
        f"{chapter}.py": ("Source (.py)", f"../_static/sources/{chapter}.py"),
    }
    if experiment in exported():
        files[f"{experiment}.csv"] = ("Run records (.csv)", f"../_static/records/{experiment}.csv")
    elif made:
        text = flat(list(made)).to_csv(index=False, lineterminator="\n")
        address = f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"
        files[f"{experiment}.csv"] = ("Runs of this page (.csv)", address)
    links = "".join(
        f'<li><a href="{address}" download="{name}">{title}</a></li>' for name, (title, address) in files.items()
    )
    return f'<ul class="ctr-downloads" aria-label="Downloads">{links}</ul>'
