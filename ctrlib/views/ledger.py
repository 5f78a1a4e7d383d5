"""The ledger: every claim of both papers with its verdict on each data set, or the reason why it has none.

A claim is *testable* where a recorded data set holds runs with a common seed for all that it compares, or where its
chapter makes what it compares while the book is built. A testable claim without a verdict is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from ctrlib.bench import tables as bench
from ctrlib.errors import CtrlibError, unknown
from ctrlib.lab import boundaries, passes
from ctrlib.lab.claims import Claim, Untestable, evaluate_claims, load_claims, load_untestable
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records
from ctrlib.lab.judged import HOSTS, Frames, judged_runs
from ctrlib.lab.made import left
from ctrlib.lab.records import Record, frame
from ctrlib.paths import root

OUTCOMES = (
    "reproduced",
    "transfers",
    "equivalent",
    "undecided",
    "does not transfer",
    "contradicted",
    "not measured",
    "not testable here",
)
ELSEWHERE = {"reproduced": "transfers", "contradicted": "does not transfer"}
MADE = ("boundaries", "se-cost")  # made in each build by their chapters, neither recorded nor measured
BATCH = 4096  # rows; the latency that claims are judged on
MOST_NAMED = 6


@dataclass(frozen=True)
class Entry:
    """One claim as the ledger has it.

    chapter: file name without ending. outcome: one of `OUTCOMES`, over all data sets. verdicts: rows of
    `evaluate_claims` with the column `data`, one for each data set that decides something; empty where none does. why:
    the reason for that, and on which data sets both networks of a pair stayed at chance. sources: experiments whose
    records are behind the verdicts.
    """

    claim: Claim | Untestable
    chapter: str
    outcome: str
    verdicts: pd.DataFrame
    why: str = ""
    sources: tuple[str, ...] = ()


def ledger(profile: str = "quick", claims: Sequence[Claim] | None = None) -> list[Entry]:
    """Return every claim with its verdicts and every statement that is not testable, in the order of the chapters.

    profile: of the runs that are made here where no chapter has left them. claims: None for all. Raises `CtrlibError`
    for a testable claim without a verdict, `SettingError` for a claim of an experiment without a chapter.
    """
    asked = load_claims() if claims is None else claims
    found = []
    for experiment in dict.fromkeys(claim.experiment for claim in asked):
        part = [claim for claim in asked if claim.experiment == experiment]
        records = experiment_records(experiment) if experiment in EXPERIMENTS else []
        frames = judged_frames(experiment, profile, records)
        found += _judged(experiment, part, frames, _by_data(frame(records)))
    if claims is None:
        nothing = pd.DataFrame()
        told = [Entry(one, chapter_of(one.experiment), OUTCOMES[-1], nothing, one.reason) for one in load_untestable()]
        found += told
    return sorted(found, key=lambda entry: entry.chapter)


def judged_frames(experiment: str, profile: str = "quick", records: list[Record] | None = None) -> Frames:
    """Return what an experiment's claims are judged on, data set -> runs: recorded, measured, or made in this build.

    records: what `experiment_records` gave, to save reading it again.
    """
    if experiment == "boundaries":
        return _by_data(_left_or_made("boundaries", profile))
    if experiment == "se-cost":
        return _by_data(_left_or_made("se-cost", profile))
    if experiment == "latency":
        return _by_data(bench.latency_runs(BATCH, _most_threads(bench.latency())))
    frames = judged_runs(experiment, records)
    if experiment == "scaling":
        turns = _by_data(bench.system_latency_runs(BATCH, _most_threads(bench.system_latency())))
        names = [*frames, *(name for name in turns if name not in frames)]
        none = pd.DataFrame()
        return {name: pd.concat([frames.get(name, none), turns.get(name, none)], ignore_index=True) for name in names}
    return frames


def _left_or_made(experiment: str, profile: str) -> pd.DataFrame:
    """Return what the chapter has left in this build; where it did not, make it anew, with fewer seeds."""
    runs = left(experiment)
    if runs is not None:
        return runs
    short = profile == "smoke"
    if experiment == "se-cost":
        return passes.timed_passes("ml-100k", 3 if short else 15)
    seeds, epochs = (2, 12) if short else (10, None)
    cells = boundaries.PANELS | boundaries.with_losses(["T19"])
    return boundaries.boundary_runs(boundaries.trained(cells, seeds, epochs))


def _most_threads(latency: pd.DataFrame) -> int:
    return 1 if latency.empty else int(latency["threads"].max())


def _by_data(runs: pd.DataFrame) -> Frames:
    return {} if runs.empty else {str(name): part for name, part in runs.groupby("dataset", sort=False)}


def _judged(experiment: str, claims: Sequence[Claim], frames: Frames, recorded: Frames) -> list[Entry]:
    """Return the entries of one experiment. recorded: the bare records, on which testable claims show."""
    chapter = chapter_of(experiment)
    tables = [evaluate_claims(runs, experiment, name, claims).assign(data=name) for name, runs in frames.items()]
    rows = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=["id", "outcome", "missing", "at_chance"])
    )
    entries = []
    for claim in claims:
        of_claim = rows[rows["id"] == claim.id]
        decided = of_claim[of_claim["outcome"] != "not measured"]
        if decided.empty:
            learned = not of_claim["at_chance"].any()
            if learned and testable(claim, [*frames.values(), *recorded.values()]):
                told = "; ".join(f"{row.data}: {row.compared}" for row in of_claim.itertuples()) or "no data set"
                raise CtrlibError(
                    f"Runs can test the claim '{claim.id}', but it has no verdict ({told}). Correct its metric and its "
                    "labels in data/claims.toml, or measure what it needs."
                )
            entries.append(Entry(claim, chapter, "not measured", decided, _why(claim, of_claim)))
            continue
        used = [source for name in decided["data"] for source in _sources(claim, frames[name])]
        entries.append(
            Entry(claim, chapter, _overall(claim, decided), decided, _stuck(of_claim), tuple(dict.fromkeys(used)))
        )
    return entries


def testable(claim: Claim, at_hand: Iterable[pd.DataFrame]) -> bool:
    """Tell whether runs at hand can decide a claim: all that it compares has a seed in common on some data set.

    at_hand: a frame for each data set. Whether the runs have the claim's metric does not matter.
    """
    return claim.experiment in MADE or any(_comparable(claim.ours(), runs) for runs in at_hand)


def _comparable(claim: Claim, runs: pd.DataFrame) -> bool:
    completed = runs[runs["status"] == "completed"]
    seeds = completed.groupby("label")["seed"].agg(set).to_dict()
    sets = [[label for label in (*pair, *(claim.reference or ())) if label] for pair in claim.pairs]
    return all(set.intersection(*(seeds.get(label, set()) for label in cells)) for cells in sets)


def _why(claim: Claim, rows: pd.DataFrame) -> str:
    """Say what a claim without a verdict waits for, on the data set that lacks least."""
    if stuck := _stuck(rows):
        return stuck
    lacking = [str(missing).split(", ") for missing in rows["missing"]]
    if not lacking or min(map(len, lacking)) >= len(claim.ours().labels()):
        return "Not yet run: none of the runs that it compares is recorded."
    fewest = min(lacking, key=len)
    more = f" and {len(fewest) - MOST_NAMED} more" if len(fewest) > MOST_NAMED else ""
    return f"Not yet run: {', '.join(fewest[:MOST_NAMED])}{more}."


def _stuck(rows: pd.DataFrame) -> str:
    """Say on which data sets a claim has no verdict because both networks of a pair stayed at chance."""
    parts = rows[(rows["outcome"] == "not measured") & (rows["at_chance"] != "")]
    told = [f"On {row.data} both networks stayed at chance: {row.at_chance}." for row in parts.itertuples()]
    return " ".join(told)


def _overall(claim: Claim, rows: pd.DataFrame) -> str:
    """Return one outcome for all data sets: contradicted by any, else what those agree on that are not undecided.

    It is worded for the paper's own data where one of them decides.
    """
    for name in ("contradicted", "reproduced", "equivalent"):
        part = rows[rows["outcome"] == name]
        others = set(rows["outcome"]) - {name, "undecided"}
        if len(part) and (name == "contradicted" or not others):
            own = part["data"].isin(claim.datasets).any()
            return name if own else ELSEWHERE.get(name, name)
    return "undecided"


def _sources(claim: Claim, runs: pd.DataFrame) -> list[str]:
    """Return the experiments with records behind a claim's runs."""
    used = runs.loc[runs["label"].isin(claim.ours().labels()), "experiment"]
    names = dict.fromkeys(used)
    recorded = [name for name in names if name in EXPERIMENTS and EXPERIMENTS[name].recorded]
    measured = [other for name in names if name in ("fidelity", "case-study") for other in EXPERIMENTS[name].shares]
    study = set(runs["dataset"]) & {"polynomial"}
    return [*recorded, *([] if study else measured)]


def chapter_of(experiment: str) -> str:
    """Return the chapter of an experiment, its file's name without ending. Raises `SettingError` for an unknown one."""
    name = HOSTS.get(experiment, experiment)
    if name not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    return EXPERIMENTS[name].chapter


def verdict_section(chapter: str) -> tuple[str, str]:
    """Return a chapter's title and the anchor of its section with the verdicts; "" where it has none.

    The section is the one that is called so, or the one below a target `(verdicts-...)=`.
    """
    text = (root() / "chapters" / f"{chapter}.py").read_text(encoding="utf-8")
    title = re.search(r"^# # (.+)$", text, re.MULTILINE)
    section = re.search(r"^# ## (.*\bverdicts)$", text, re.MULTILINE | re.IGNORECASE)
    target = re.search(r"^# \((verdicts-[a-z-]+)\)=$", text, re.MULTILINE)
    anchor = re.sub(r"[^a-z0-9]+", "-", section[1].lower()) if section else target[1] if target else ""
    return (title[1] if title else chapter), anchor


def counts(outcomes: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return how many claims of each paper have each outcome: outcomes as rows, papers as columns.

    outcomes: paper and outcome of each claim.
    """
    found = Counter(outcomes)
    papers = list(dict.fromkeys(paper for paper, _ in sorted(found, reverse=True)))
    return pd.DataFrame({paper: [found[paper, name] for name in OUTCOMES] for paper in papers}, index=list(OUTCOMES))
