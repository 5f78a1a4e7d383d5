# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (sec-noise-floor)=
# # The noise floor
#
# Nearly every figure of the two papers is one run with one seed. A second seed gives another figure. This chapter asks how
# far apart the two are, what makes them differ, and which of the papers' margins are larger than that.
#
# **Before you read on.** You need {doc}`/book/numbers`, which says what a seed fixes.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.figures import intervals, scatter
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.claims import load_untestable
from ctrlib.lab.dual_stream import teacher_search
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records, experiment_runs, measured_on
from ctrlib.lab.headline import LOGS, headline_search
from ctrlib.lab.noise import (
    EXPERIMENT,
    MOST_SEEDS,
    SYSTEMS,
    margins,
    noise_grid,
    seeds_needed,
    spread,
    wrong_winners,
)
from ctrlib.lab.stats import noise
from ctrlib.lab.tables import by_seed, papers_table
from ctrlib.views.footer import footer

# %% [markdown]
# ## What a seed decides
#
# A seed draws four things: the initial values, the order of the batches, the dropout masks, and, where no split is
# published, which rows are tested. We let one of them vary and hold the others.
#
# | cause | what varies from run to run |
# |---|---|
# | initial values | embedding table and weights |
# | batches and dropout | order of the batches, dropout masks |
# | seed | both of them: what "another seed" means in this book |
# | split | the rows that are trained on, chosen by and tested on |
# | all | all of them |
#
# Frappe's split is published, so it cannot vary there.

# %%
CAUSES = {
    "initial": "initial values",
    "order": "batches and dropout",
    "seed": "seed",
    "split": "split",
    "all": "all",
}
PLANS = {
    "smoke": {"systems": ["MLP"], "seeds": [1, 2], "rows": 3000, "max_epochs": 2},
    "quick": {"systems": ["MLP"], "seeds": [1, 2, 3], "rows": 8000, "max_epochs": 3},
    "paper": {"systems": ["MLP"], "seeds": [1, 2, 3], "rows": 8000, "max_epochs": 3},
}
EMBEDDED, RECORDED = "ml-100k", ["ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)

# %%
if profile == "paper":
    for name in [dataset] if dataset else views.at_hand(RECORDED):
        run_grid(teacher_search(name, SYSTEMS[:2]), device=device)
        run_grid(headline_search(name), device=device)
        run_grid(noise_grid(name), device=device)

# %% tags=["hide-input"]
records = experiment_records(EXPERIMENT)
runs = {name: experiment_runs(EXPERIMENT, name, records) for name in RECORDED}
shown = measured_on(EXPERIMENT, runs)
views.waiting(RECORDED, shown)

# %% [markdown]
# ## Where the spread comes from
#
# The standard deviation of test AUC over the runs of a cell, with its 95 % interval. So few runs tell a standard
# deviation only to within a factor of two or three, hence the long lines.

# %% tags=["hide-input"]
SPREAD_COLUMNS = {
    "system": ("system", ""),
    "cause": ("what varies", ""),
    "n": ("runs", ".0f"),
    "mean": ("mean AUC %", ".2f"),
    "sd": ("sd, points", ".3f"),
    "low": ("low", ".3f"),
    "high": ("high", ".3f"),
    "least": ("lowest AUC %", ".2f"),
    "most": ("highest AUC %", ".2f"),
}


def spreads(name, metric="test_auc", scale=100):
    """Standard deviation by system and cause."""
    found = spread(scale * by_seed(runs[name], metric)).reset_index()
    parts = found["label"].str.rsplit(".", n=1)
    found = found.assign(system=parts.str[0], vary=parts.str[1], cause=parts.str[1].map(CAUSES))
    found["order"] = found["system"].map(list(SYSTEMS).index) * len(CAUSES) + found["vary"].map(
        list(CAUSES).index
    )
    return found.sort_values("order")


spread_of = {name: spreads(name) for name in shown}
for name in shown:
    rows = spread_of[name].assign(cell=lambda r: r["system"] + ", " + r["cause"])
    axes = {"x_title": "standard deviation of test AUC (points of AUC in %)", "title": name, "format": ".3f"}
    figure = intervals(rows, "sd", "cell", "low", "high", color="system", **axes)
    views.show(figure, "Compare the rows of one system: is the split louder than the seed?")
    display(views.table(spread_of[name], SPREAD_COLUMNS, f"Spread on {name}."))

# %% [markdown]
# ## How often one run names the wrong winner
#
# Take two systems and one run of each. The one with the higher test AUC wins. How often is that the one with the lower mean?
#
# We ask it of the cells of {doc}`/chapters/01_activation`, of {doc}`/chapters/14_overall` with those of DS-MLP's chapters, and of
# this chapter, with at least four seeds on a data set. Every pair within one of the three counts. The right winner and the true gap
# are those of the means over the seeds that are not looked at. *Paired*: both systems have the same seed. *Unpaired*:
# different ones, as when figures are copied from another paper.

# %% tags=["hide-input"]
GAPS = [0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]  # points of AUC
PAIRS_FROM = ["activation", "overall", EXPERIMENT]


def pair_values(data):
    """Test AUC in percent by cell and seed, of the experiments that compare whole systems."""
    parts = []
    for experiment in PAIRS_FROM:
        if experiment in EXPERIMENTS and len(part := experiment_runs(experiment, data)):
            values = 100 * by_seed(part)
            parts.append(
                values[
                    [
                        label.split(".")[-1] not in ("initial", "order", "split", "all")
                        for label in values.index
                    ]
                ]
            )
    parts = [part.rename(index=lambda label, k=k: f"{k}/{label}") for k, part in enumerate(parts)]
    return pd.concat(parts) if parts else pd.DataFrame()


def winners(data):
    """Single-run comparisons of all pairs within one experiment, with the gap's bin."""
    values = pair_values(data)
    if values.empty:
        return values
    source = values.index.str.split("/").str[0]
    found = pd.concat([wrong_winners(values[source == one]) for one in source.unique()])
    return found.assign(bin=pd.cut(found["gap"], GAPS, include_lowest=True))


PAIRS_ON = ["frappe_x1-rebuilt", "ml-100k"]
pairs = {name: found for name in PAIRS_ON if len(found := winners(name))}
BIN_COLUMNS = {
    "gap": ("true gap, points of AUC", ""),
    "count": ("comparisons", ",.0f"),
    "unpaired": ("wrong, unpaired %", ".1f"),
    "paired": ("wrong, paired %", ".1f"),
}
FEWEST_COMPARISONS = 100  # behind a share
binned = {}
for name, found in pairs.items():
    rows = 100 * found.pivot_table(index="bin", columns="paired", values="wrong", observed=True)
    rows = rows.rename(columns={False: "unpaired", True: "paired"})
    rows["count"] = found.groupby("bin", observed=True).size()
    rows["middle"] = found.groupby("bin", observed=True)["gap"].mean()
    rows["gap"] = [f"{max(b.left, 0):g} to {b.right:g}" for b in rows.index]
    rows = rows[rows["count"] >= FEWEST_COMPARISONS]
    if rows.empty:
        text = f"On {name} no gap has {FEWEST_COMPARISONS} comparisons of single runs yet."
        display(Markdown(text))
        continue
    binned[name] = rows.reset_index(drop=True)
    lines = binned[name].melt(["middle", "gap"], ["unpaired", "paired"], "kind", "wrong").round(3)
    titles = {
        "x_title": "true gap (points of AUC in %)",
        "y_title": "wrong winner (% of comparisons)",
        "title": name,
    }
    figure = scatter(lines, "middle", "wrong", "gap", color="kind", names=False, joined=True, **titles)
    views.show(
        figure,
        "At the left end a comparison of single runs is a coin. Where does it fall below one in twenty?",
        "lead-is-significant",
    )
    beyond = int((found["gap"] > GAPS[-1]).sum())
    caption = f"Single-run comparisons on {name}; {beyond:,} more have a gap above {GAPS[-1]:g} points."
    display(views.table(binned[name], BIN_COLUMNS, caption))

# %% [markdown]
# ## How many seeds a difference needs
#
# A paired $t$ test on $n$ seeds finds a true difference $\delta$ with probability 0.8 once
#
# $$
# \delta \ge s(n) \cdot \frac{\sigma_d}{\sqrt n},
# $$
#
# with $\sigma_d$ the standard deviation of the paired differences and $s(n)$ the shift that a test on $n$ seeds detects. Two
# systems that share nothing have $\sigma_d = \sqrt 2 \sigma$.
#
# For the large data sets we have no runs. The open benchmark has: five seeds of seven or eight systems on each
# {cite:p}`zhu2022bars`. We take its pooled standard deviation.

# %% tags=["hide-input"]
public = papers_table("bars_seed_spread")
pooled = public.groupby("dataset")["sd_auc"].agg(lambda s: np.sqrt((s**2).mean()))
SHOWN_PUBLIC = {
    "criteo_x1": "Criteo",
    "avazu_x1": "Avazu",
    "movielenslatest_x1": "MovieLens",
    "frappe_x1": "Frappe",
}
deviations = {f"{title}, open benchmark": np.sqrt(2) * pooled[key] for key, title in SHOWN_PUBLIC.items()}
for name in pairs:
    deviations[f"{name}, all cells with ReLU or without"] = (
        np.sqrt(2) * noise(by_seed(experiment_runs("activation", name))).sd
    )
headlines = {name: experiment_runs("qnn-alpha", name) for name in LOGS}
for name, part in headlines.items():
    if len(part) and (values := by_seed(part)).loc["QNN-alpha"].notna().sum() > 3:
        deviations[f"{name}, QNN-alpha"] = np.sqrt(2) * spread(values).loc["QNN-alpha", "sd"]


def in_words(seeds):
    """A number of seeds, or that there are too many to count."""
    return f"{int(seeds):,}" if np.isfinite(seeds) else f"over {MOST_SEEDS:,}"


DIFFERENCES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]  # points of AUC
needed = pd.DataFrame(
    [
        {"data": title, "sd": 100 * sd} | {f"{d:g}": seeds_needed(d / 100, sd) for d in DIFFERENCES}
        for title, sd in deviations.items()
    ]
)
NEEDED_COLUMNS = {"data": ("runs on", ""), "sd": ("sd of a difference, points", ".3f")} | {
    f"{d:g}": (f"{d:g} points", "") for d in DIFFERENCES
}
table = needed.assign(**{f"{d:g}": [in_words(n) for n in needed[f"{d:g}"]] for d in DIFFERENCES})
caption = "Seeds needed for a difference of so many points of AUC (power 0.8)."
display(views.table(table, NEEDED_COLUMNS, caption))

# %% tags=["hide-input"]
lines = needed.melt(["data", "sd"], [f"{d:g}" for d in DIFFERENCES], "difference", "seeds")
lines = lines.assign(difference=lines["difference"].astype(float))
titles = {"x_title": "true difference (points of AUC in %)", "y_title": "seeds"}
figure = scatter(lines, "difference", "seeds", "data", color="data", names=False, joined=True, **titles)
figure.update_xaxes(type="log", tickvals=DIFFERENCES)
figure.update_yaxes(type="log", dtick=1)
views.show(
    figure,
    "Follow 0.1 points, the difference that the field calls significant, upwards.",
    "a-thousandth-is-significant",
)

# %% [markdown]
# ## The papers' margins
#
# What each paper's own method leads the best other row of its overall table by. Beside it the spread of one run on those data
# in the open benchmark, where it has one. *In sd* divides by the standard deviation of a difference of two runs. The
# last column is the number of seeds that would show a true difference of that size. The other row is the best in AUC; the lead
# in logloss is over the lowest logloss, which can be another row's.
#
# The papers' data are split or encoded in other ways than the benchmark's (Criteo_x4 against Criteo_x1), so take the
# spread as an order of magnitude.

# %% tags=["hide-input"]
MARGIN_COLUMNS = {
    "method": ("method", ""),
    "data": ("data", ""),
    "best_other": ("best other", ""),
    "gain": ("lead, AUC %", "+.2f"),
    "logloss_told": ("lead, logloss", ""),
    "sd": ("sd, AUC %", ".3f"),
    "ratio": ("in sd", ".1f"),
    "seeds": ("seeds", ""),
}
leads = margins()
leads["ratio"] = leads["gain"] / (np.sqrt(2) * leads["sd"])
leads["seeds"] = [
    in_words(seeds_needed(gain, np.sqrt(2) * sd)) if np.isfinite(sd) else "unknown"
    for gain, sd in zip(leads["gain"], leads["sd"], strict=True)
]
leads[["gain", "sd"]] *= 100
leads["logloss_told"] = [  # with the digits of the paper
    f"{gain:+.{6 if data == 'iPinYou' else 4}f}"
    for gain, data in zip(leads["logloss_gain"], leads["data"], strict=True)
]
display(
    views.table(
        leads, MARGIN_COLUMNS, "Leads of the two methods in their papers (QNN Table 3, DS-MLP Table 4)."
    )
)

# %% [markdown]
# ## Made in this build
#
# A few runs on few rows in which one thing varies at a time. They show that the pieces are independent; their spread is not
# that of trained networks.

# %% tags=["hide-input"]
small = [
    run.smaller(plan["rows"], plan["max_epochs"])
    for run in noise_grid(EMBEDDED, plan["seeds"]).runs
    if run.label.split(".")[0] in plan["systems"]
]
made = run_anew(Grid(EXPERIMENT, small), device=device)
display(views.table(views.made(made, None), views.MADE_COLUMNS, "Runs of this build."))

# %% [markdown]
# ## Claims and verdicts
#
# What the papers say of margins cannot be decided by runs of ours, each statement for the reason beside it. What a margin
# can tell is measured above.

# %% tags=["hide-input"]
statements = [claim for claim in load_untestable() if claim.experiment == EXPERIMENT]
Markdown(
    "\n".join(
        f"- {views.claim_link(claim.id)} ({claim.paper}, {claim.section}). *Not testable:* {claim.reason}"
        for claim in statements
    )
)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def said(name):
    """What the causes bring on one data set."""
    sd = spread_of[name].set_index(["system", "vary"])["sd"]
    points = []
    for system in SYSTEMS:
        if all((system, vary) in sd.index for vary in CAUSES):
            one = sd[system]
            points.append(
                f"{system}: another seed moves AUC by {one['seed']:.2f} points (one sd), another split by {one['split']:.2f}, "
                f"both by {one['all']:.2f}."
            )
    return points


def said_of_winners(name):
    """Where single runs mislead on one data set."""
    rows = binned[name]
    worst = rows.iloc[0]
    text = [
        f"At a gap of {worst['gap']} points a single-run comparison is wrong in {worst['unpaired']:.0f} % of cases, with paired seeds "
        f"in {worst['paired']:.0f} %."
    ]
    misled = rows["unpaired"] >= 5
    safe = rows[~misled[::-1].cummax()[::-1]]  # there and at every wider gap
    text.append(
        f"It is wrong in less than one case in twenty from a gap of {safe.iloc[0]['gap']} points on."
        if len(safe)
        else "At no gap that we have is it wrong in less than one case in twenty."
    )
    return text


few = leads[leads["ratio"] < 2]
told = [views.findings(f"{name}, by cause", said(name)) for name in shown]
told += [views.findings(f"{name}, pairs of systems", said_of_winners(name)) for name in binned]
told.append(
    views.findings(
        "The papers' margins",
        [
            f"Of {int(leads['ratio'].notna().sum())} leads on data with a known spread, {len(few)} are below two standard deviations "
            f"of a difference of two runs: {', '.join(f'{r.method} on {r.data}' for r in few.itertuples()) or 'none'}."
        ],
    )
)
Markdown("\n\n".join(told))

# %% [markdown]
# **What follows.** A lead of a few hundredths of a point can be real on Criteo, where a test set of millions of rows makes runs
# agree, and is beyond one run on Frappe or MovieLens.
#
# A lead over the *best* of many rows is harder still: the best of seventeen single runs was lucky.

# %% tags=["hide-input"]
measured = sorted({system for rows in spread_of.values() for system in rows["system"]}, key=SYSTEMS.index)
Markdown(f"**How sure are we.** The spread by cause is that of {', '.join(measured)}, each at one setting.")

# %% [markdown]
# Other systems, above all unstable ones, have
# another. The open benchmark's five seeds give each standard deviation to within a factor of three, the pool of eight
# systems to within a third.
#
# A small test set adds a noise that all seeds share: our intervals over seeds on one split do not contain it. The row *split*
# does.
#
# ## Exercises
#
# **1.** A paper reports the best of five runs for its own method and one run for each of ten others. All eleven are equally
# good. How often does its method come first?
#
# ````{dropdown} A solution
# There are fifteen equally likely runs and five of them are its own, so in one third of all cases instead of one in eleven.
# ````
#
# **2.** Batches and dropout give a standard deviation $a$, initial values $b$. What do you expect for both together, and what
# would it mean if the measured value is smaller than the larger of the two?
#
# ````{dropdown} A solution
# $\sqrt{a^2 + b^2}$ if they act independently. A smaller value is noise of the estimate, or the two causes only push a run
# onto one of a few plateaus: the spread of plateaus does not add up.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
elsewhere = [record for name in PAIRS_FROM if name != EXPERIMENT for record in experiment_records(name)]
headline_runs = [record for record in experiment_records("qnn-alpha") if record["label"] == "QNN-alpha"]
footer("noise-floor", [*records, *[r for r in elsewhere if r["dataset"] in pairs], *headline_runs], made)

# %% [markdown]
# **Next.** {doc}`/chapters/16_speed` measures what all these runs cost.
