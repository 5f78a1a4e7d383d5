"""`ctrlib run`: execute a chapter, tell what was run, and judge the new runs by the recorded ones."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctrlib.book.builder import PART, execute, executed_page
from ctrlib.data import DATASETS
from ctrlib.errors import SettingError, unknown
from ctrlib.lab.experiments import EXPERIMENTS, experiment_named
from ctrlib.lab.rerun import Records, stored, told_claims, verdict
from ctrlib.lab.search import SEARCH
from ctrlib.paths import records_dir, root
from ctrlib.repository import sources
from ctrlib.views.footer import networks_counted

OWN = Path("build") / "rerun"  # below the root, unless a person names another folder


def rerun(name: str, profile: str, device: str, own: Path | None = None, dataset: str = "") -> int:
    """Execute the chapter of an experiment and print a summary and a verdict; return the exit code.

    dataset: run the full grid on this data set alone.

    The profile "paper" runs the full grid. Without `own` the runs that are missing join the recorded ones. With it all
    runs are made anew in that folder, but for the searches: their records are copied, so that both sides have the same
    settings. A repeated start goes on. Raises `SettingError` for an unknown chapter or data set, for `own` where a
    chapter or a profile leaves no records, and for `dataset` where it changes nothing; `CtrlibError` when a cell fails,
    after the summary.
    """
    experiment = experiment_named(name)
    about = EXPERIMENTS[experiment]
    if dataset:
        _check_dataset(dataset, about.chapter, profile)
    if own is not None and (profile != "paper" or not about.recorded):
        what = f"The chapter of {experiment}" if not about.recorded else f"The profile {profile}"
        raise SettingError(f"{what} leaves no run records, so leave --records out.")
    recorded = _of_chapter(experiment, stored(records_dir()))
    folder = own or records_dir()
    if own is not None:
        copy_searches(records_dir(), own)
    before = _of_chapter(experiment, stored(folder)) if own is not None else recorded
    parameters = {"profile": profile, "device": device} | ({"dataset": dataset} if dataset else {})
    writes = profile == "paper" and (about.recorded or bool(about.shares))
    print(f"Executing {about.chapter} with the profile {profile}.", flush=True)
    start, page = time.monotonic(), None
    try:
        with _records_in(folder):
            page = execute(about.chapter, parameters, own)
    finally:
        after = _of_chapter(experiment, stored(folder))
        lines = _summary(before, after, recorded, folder) if writes else _without_records(profile, page)
        lines += [f"Minutes: {(time.monotonic() - start) / 60:.1f}", _told_page(page, about.chapter, profile, own)]
        print("\n".join(lines), flush=True)
    judged = after if own is not None else {path: after[path] for path in after.keys() - before.keys()}
    if profile == "paper":
        print("\n".join(_verdict(experiment, judged, recorded, own is not None)), flush=True)
    return 0


def _check_dataset(name: str, chapter: str, profile: str) -> None:
    """Raise `SettingError` for an unknown data set, and where a chapter or a profile does not ask for one."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    if profile != "paper":
        raise SettingError(f"The profile {profile} has its data set on the page, so leave --dataset out.")
    if not re.search(r"^dataset = ", sources()[chapter].read_text(encoding="utf8"), flags=re.MULTILINE):
        raise SettingError(f"The chapter {chapter} does not vary its data set, so leave --dataset out.")


def copy_searches(source: Path, target: Path) -> None:
    """Copy the records of all searches that `target` lacks. Raises `SettingError` where both are one folder."""
    if source.resolve() == target.resolve():
        raise SettingError(
            f"{target} holds the recorded runs. Name another folder, or leave --records out to join them."
        )
    for path in source.glob(f"*/*/{SEARCH.replace(':', '-')}*/seed-*.json"):
        copy = target / path.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def _of_chapter(experiment: str, records: Records) -> Records:
    """Return those records that a chapter's grid can hold: of its experiment and of those that it shares runs with."""
    names = {experiment, *EXPERIMENTS[experiment].shares}
    return {path: record for path, record in records.items() if path.split("/")[0] in names}


@contextmanager
def _records_in(folder: Path) -> Iterator[None]:
    """Have the chapter's kernel read and write its records in `folder`."""
    before = os.environ.get("CTRLIB_RECORDS")
    os.environ["CTRLIB_RECORDS"] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["CTRLIB_RECORDS"]
        else:
            os.environ["CTRLIB_RECORDS"] = before


def _summary(before: Records, after: Records, recorded: Records, folder: Path) -> list[str]:
    """Return in words what a full grid has left in `folder`; `recorded`: the runs that are stored in the repository."""
    made = [record for path, record in after.items() if path not in before]
    failed = sum(record["status"] == "failed" for record in made)
    copied = 0
    if before is not recorded:  # a folder of a person's own
        copied = sum(path in recorded and record["label"].startswith(SEARCH) for path, record in before.items())
    lines = [f"Runs made: {len(made)}, failed: {failed}, made before and not run again: {len(before) - copied}"]
    lines += [f"Recorded searches taken over: {copied}"] if copied else []
    return [*lines, f"Records: {_shown(folder)}"]


def _without_records(profile: str, page: Path | None) -> list[str]:
    """Return in words what became of the networks of a page that writes no records."""
    trained = networks_counted(page) if page else 0
    lines = [f"Networks trained in this page: {trained}"] if trained else []
    if profile == "paper":
        return [*lines, "This chapter writes no run records."]
    return [*lines, f"The profile {profile} writes no run records; the profile paper does."]


def _told_page(page: Path | None, chapter: str, profile: str, own: Path | None) -> str:
    if page:
        return f"Executed notebook: {_shown(page)}"
    part = executed_page(chapter, profile, own).with_suffix(PART)
    return f"Not executed to its end; so far: {_shown(part)}" if part.exists() else "No notebook was executed."


def _shown(path: Path) -> Path:
    """Return a path from the root of the repository, or as a whole where it lies elsewhere."""
    whole, top = path.resolve(), root().resolve()
    return whole.relative_to(top) if whole.is_relative_to(top) else whole


def _verdict(experiment: str, own: Records, recorded: Records, anew: bool) -> list[str]:
    if not EXPERIMENTS[experiment].recorded:
        return told_claims(experiment, own, recorded, joined=True)
    if not own:
        return ["No run was missing. To make all of them anew and compare: add --records."]
    lines = verdict(own, recorded)
    if anew:
        return lines + told_claims(experiment, own, recorded)
    return lines + told_claims(experiment, {**recorded, **own}, recorded, joined=True)
