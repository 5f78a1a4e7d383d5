"""What the verdicts of each experiment are computed from: its runs, with what is derived from them or measured on them.

Chapters and the page of all claims judge the same frames, so that they give the same verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from ctrlib.lab import case_study, dual_stream, fidelity, passes
from ctrlib.lab.claims import Claim
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records, experiment_runs
from ctrlib.lab.overall import results_of
from ctrlib.lab.records import Record
from ctrlib.lab.stats import fit_by_seed
from ctrlib.lab.tables import by_seed

Frames = dict[str, pd.DataFrame]  # data set -> runs
Derive = Callable[[pd.DataFrame, str], pd.DataFrame]  # runs, data set -> runs
HOSTS = {"latency": "khatri-rao", "se-cost": "self-ensemble"}  # judged in the chapter of another experiment
# What claims read from run records or what is derived from them; all else is measured, counted or timed on networks.
OF_RUNS = (
    *("test_auc", "test_logloss", "best_epoch", "num_epochs", "parameters"),
    *("logloss_gap", "rank_correlation", "slope"),
)
STUDENTS = {
    "DS-MLP": "GDCN",
    "from-DCNv2": "DCNv2",
    "from-xDeepFM": "xDeepFM",
    "from-AutoInt+": "AutoInt+",
    "from-FinalMLP": "FinalMLP",
    "from-QNN-alpha": "QNN-alpha",
}
WIDTHS = (100, 200, 400, 800, 1200)
TEACHER_SIZES = {f"GDCN={w}": w for w in WIDTHS}
STUDENT_SIZES = {f"DS-MLP={w}": w for w in WIDTHS}


def of_runs(claim: Claim) -> bool:
    """Tell whether run records decide a claim, without anything measured, counted or timed on networks."""
    about = EXPERIMENTS.get(claim.experiment)
    return about is not None and about.recorded and claim.metric in OF_RUNS


def judged_runs(experiment: str, records: list[Record] | None = None, *, measured: bool = True) -> Frames:
    """Return the frames that an experiment's claims are judged on, one for each data set with recorded runs.

    records: what `experiment_records` gave, to save reading it again. measured: False leaves out all that was measured
    on the recorded networks. A study on made-up data counts as a data set too. Raises `SettingError` for an unknown
    experiment.
    """
    records = experiment_records(experiment) if records is None else records
    names = sorted({record["dataset"] for record in records})
    if not (measured or EXPERIMENTS[experiment].recorded):
        return {}
    if experiment == "fidelity":
        frames = {fidelity.NAME: fidelity.judged_study()} | {name: fidelity.measured_runs(name) for name in names}
    elif experiment == "case-study":
        frames = {name: case_study.measured_runs(name) for name in names}
    else:
        derive = DERIVED.get(experiment, _as_recorded)
        recorded = names if EXPERIMENTS[experiment].recorded else []
        runs = {name: experiment_runs(experiment, name, records, measured=measured) for name in recorded}
        frames = {name: derive(part, name) for name, part in runs.items()}
    return {name: frame for name, frame in frames.items() if not frame.empty}


def with_every_name(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of stage I, with those of the default under the name of its own weight too.

    A claim about weights looks for them there. Without a default the runs stay as they are.
    """
    default = runs[runs["label"] == "distilled"] if not runs.empty else runs
    if default.empty:
        return runs
    label = f"cross-entropy={float(default['settings.distill_weight'].iloc[0]):g}"
    return pd.concat([runs[runs["label"] != label], default.assign(label=label), runs[runs["label"] == label]])


def ranks(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the rank correlation of teachers and students for each seed that has at least four teachers."""
    values = by_seed(runs)
    pairs = [(s, t) for s, t in STUDENTS.items() if s in values.index and t in values.index]
    rows = []
    for seed in values.columns:
        both = pd.DataFrame([(values.loc[s, seed], values.loc[t, seed]) for s, t in pairs]).dropna()
        if len(both) >= 4:
            found = both[0].rank().corr(both[1].rank())
            case = {"experiment": "teachers", "dataset": dataset, "label": "all teachers", "seed": seed}
            rows.append(case | {"status": "completed", "rank_correlation": found, "number of teachers": len(both)})
    return pd.DataFrame(rows)


def with_ranks_and_widths(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the runs with their `ranks`, and those of each student also under the name of the main stream's width.

    A claim about widths looks for them there; the default width is run under the student's own name alone.
    """
    if runs.empty:
        return runs
    width = dual_stream.sizes(dataset).main[0]
    students = runs[runs["label"].isin(list(STUDENTS))]
    named = students.assign(label=students["label"] + f"={width}")
    others = runs[~runs["label"].isin(named["label"])]
    return pd.concat([others, named, ranks(runs, dataset)], ignore_index=True)


def slopes(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the slope of AUC over log2 of the width for each seed with all widths: both networks, their difference.

    A row for each network and seed, as claims read it: slope, and the bend of a parabola.
    """
    found = {}
    for label, sizes in (("GDCN slope", TEACHER_SIZES), ("DS-MLP slope", STUDENT_SIZES)):
        values = _over(runs, sizes).dropna(axis=1)
        if len(values) == len(sizes) and not values.empty:
            lines, parabolas = fit_by_seed(values), fit_by_seed(values, 2)
            found[label] = pd.DataFrame({"slope": lines.loc[1], "bend": parabolas.loc[2]})
    if len(found) == 2:
        found["DS-MLP slope less GDCN slope"] = (found["DS-MLP slope"] - found["GDCN slope"]).dropna()
    case = {"experiment": "scaling", "dataset": dataset, "status": "completed"}
    rows = [part.rename_axis("seed").reset_index().assign(label=label, **case) for label, part in found.items()]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _over(runs: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Return test AUC with widths as index and seeds as columns."""
    values = by_seed(runs)
    labels = [label for label in sizes if label in values.index]
    return values.loc[labels].set_axis([float(sizes[label]) for label in labels], axis=0)


def _with(derive: Derive) -> Derive:
    def joined(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
        return pd.concat([runs, derive(runs, dataset)], ignore_index=True) if not runs.empty else runs

    return joined


def _as_recorded(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return runs


DERIVED: dict[str, Derive] = {
    "self-ensemble": lambda runs, dataset: passes.with_gap(runs),
    "distil": lambda runs, dataset: with_every_name(runs),
    "teachers": with_ranks_and_widths,
    "scaling": _with(slopes),
    "overall": lambda runs, dataset: results_of(runs),
}
