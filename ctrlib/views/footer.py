"""The end of a chapter: the runs behind its numbers, whether they are fresh, how to run it again, what to download."""

from __future__ import annotations

import base64
import datetime
import html
import os
from collections.abc import Sequence
from importlib.metadata import version

from ctrlib.errors import unknown
from ctrlib.figures import figure_table
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.export import exported, flat
from ctrlib.lab.provenance import provenance, told
from ctrlib.lab.records import Record

IN_THE_BOOK = "CTRLIB_IN_THE_BOOK"  # environment: set while the book is built, whose files the footer links to
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

    recorded: the stored runs that the page can show. made: those of this build. shown: the data sets whose stored runs
    the page shows; None for all. Raises `SettingError` for an unknown experiment.
    """
    from IPython.display import HTML, Markdown, display

    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    recorded = [record for record in recorded if shown is None or record["dataset"] in shown]
    fresh, text = told(recorded, made) if recorded else (True, "No stored run stands behind this page.")
    display(HTML(_state(fresh, text)))  # type: ignore[no-untyped-call]
    if recorded or made:
        table = provenance(recorded, made)
        headings = {name: heading for name, heading in HEADINGS.items() if name in table}
        display(figure_table(table, headings=headings, caption=caption))  # type: ignore[no-untyped-call]
    display(Markdown(f"{_advice(experiment, fresh)}\n\n```bash\n{command(experiment)}\n```"))  # type: ignore[no-untyped-call]
    if os.environ.get(IN_THE_BOOK):
        display(HTML(downloads(experiment, made)))  # type: ignore[no-untyped-call]


def command(experiment: str) -> str:
    """Return the command that runs an experiment's full grid again."""
    return f"ctrlib run {experiment} --profile paper --device cuda"


def _advice(experiment: str, fresh: bool) -> str:
    if not EXPERIMENTS[experiment].recorded:
        return "Run the whole page again, on a GPU or with `--device cpu`:"
    if not fresh:
        return "Move the stale records away, then make their runs again, on a GPU or with `--device cpu`:"
    return (
        "Make the runs that are missing, on a GPU or with `--device cpu`. With `--records` in addition, all runs are "
        "made anew in a folder of your own, and compared with these:"
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
