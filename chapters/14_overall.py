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
# (sec-overall)=
# # Overall, with error bars
#
# Both papers have one large table: eighteen systems, several data sets, one figure each, and the authors' own method in the last row
# (QNN-alpha {cite:p}`li2025qnn`, Table 3; DS-MLP {cite:p}`ou2026dsmlp`, Table 4).
#
# Here is such a table with seeds. Which systems can be told apart, and where do the two methods stand among them?
#
# **Before you read on.** You need nothing but {doc}`/book/numbers`. The systems are listed below.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]

from dataclasses import replace

import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.bench import tables as speed
from ctrlib.figures import figure_table, intervals, logarithmic, scatter, stairs, stretches
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.dual_stream import student_search, teacher_search
from ctrlib.lab.experiments import experiment_records, experiment_runs
from ctrlib.lab.leaderboard import DATASETS as LISTED
from ctrlib.lab.overall import (
    EXPERIMENT,
    SYSTEMS,
    frontier,
    groups,
    origin_of_settings,
    overall_grid,
    ranked,
    results_of,
    strength_search,
    told_apart,
)
from ctrlib.lab.published import printed
from ctrlib.lab.stats import MIN_SEEDS_FOR_TEST, summary
from ctrlib.lab.tables import papers_table
from ctrlib.views.footer import footer

# %% [markdown]
# ## The systems
#
# Every system of either table is in `ctrlib`, and a few that their texts name. `build_model` makes each from its name; its
# docstring has the equation, the number of parameters, the source, and where paper and public code part.
#
# | family | systems |
# |---|---|
# | first and second order | LR, FM, FwFM, FmFM, AFM |
# | an MLP and little else | DNN, MLP, PNN, Wide & Deep, DLRM |
# | an MLP beside explicit interactions | DeepFM, DCN, DCNv2, GDCN, EDCN, xDeepFM, AutoInt+, AFN+, FiBiNET, MaskNet |
# | layers of interactions | AutoInt, AFN, FiGNN, EulerNet, RFM, ECN, WuKong, SFG |
# | two networks or more | DualMLP, FinalMLP, FINAL, FCN, DS-MLP, ECKD |
# | one network and a loss of its own | CL4CTR, QNN-alpha |
#
# *DNN* and *MLP* are one system in two sizes: DNN as the leaderboard lists it, MLP as wide as the main stream of DS-MLP, whose
# chapters compare with it.
#
# **Settings.** On Frappe a system has the settings of the open benchmark's leaderboard {cite:p}`zhu2022bars`, its authors' where it
# is not listed, or ours where neither has any. On MovieLens-100K the eight systems of the DS-MLP chapters have a search of twelve
# random settings each. The others keep those of Frappe, and five runs choose their L2 strength on validation. The column
# *settings* tells which. ECKD {cite:p}`zhu2020eckd` is the leaderboard's DNN, taught by our AutoInt+, DCNv2 and xDeepFM of the same seed; its
# distillation's weight and temperature are ours, and on MovieLens-100K its L2 strength is that of the searched MLP.
#
# On MovieLens-100K QNN-alpha has one layer of four rows and embeddings of ten numbers, like the others. In
# {doc}`/chapters/05_qnn_alpha` it has embeddings of sixteen numbers and a search of its own. *What we saw* gives both figures.
#
# The grid has five seeds. What is recorded so far can be less: a table shows the systems that have run, and with how many seeds.
#
# That is not equal effort. A system that looks weak on MovieLens-100K may only be tuned for Frappe.

# %%
PLANS = {
    "smoke": {"systems": ["LR", "FM"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"systems": ["LR", "FM", "PNN", "DLRM"], "seeds": [1], "rows": 8000, "max_epochs": 3},
    "paper": {"systems": ["LR", "FM", "PNN", "DLRM"], "seeds": [1], "rows": 8000, "max_epochs": 3},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)

# %%
if profile == "paper":
    for name in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(name), device=device)
        run_grid(student_search(name), device=device)
        run_grid(strength_search(name), device=device)
        run_grid(overall_grid(name), device=device)

# %% tags=["hide-input"]
records = experiment_records(EXPERIMENT)
everything = {name: experiment_runs(EXPERIMENT, name, records) for name in RECORDED}
runs = {name: results_of(part) for name, part in everything.items()}
shown = [name for name in RECORDED if len(runs[name])]
views.waiting(RECORDED[1:], shown)

# %% [markdown]
# ## The table

# %% tags=["hide-input"]
TABLE_COLUMNS = {
    "rank": ("rank", ""),
    "label": ("system", ""),
    "test_auc": ("AUC %", ".2f"),
    "test_logloss": ("logloss", ".4f"),
    "seeds": ("seeds", ""),
    "settings": ("settings", ""),
    "num_epochs": ("epochs", ".1f"),
    "epoch_seconds": ("s/epoch, least", ".1f"),
    "parameters": ("parameters", ",.0f"),
    "failed": ("failed", ""),
}


def overall(name):
    """One row for each system, the best mean AUC first."""
    found = views.cells(runs[name])
    place = {label: k for k, label in enumerate(ranked(runs[name]), start=1)}
    found = found.assign(
        rank=found["label"].map(place), settings=[origin_of_settings(name, s) for s in found["label"]]
    )
    found["low"], found["high"] = 100 * found["test_auc_low"], 100 * found["test_auc_high"]
    return found.sort_values("rank")


tables = {name: overall(name) for name in shown}
for name in shown:
    display(
        views.table(
            tables[name], TABLE_COLUMNS, f"All systems on {name}; ± is half a 95 % interval over seeds."
        )
    )

# %% [markdown]
# ## Who can be told apart
#
# Systems in order of their mean AUC, with 95 % intervals over seeds. A *group* is a longest stretch of that order in which no two
# systems can be told apart: paired by seed, tested, and adjusted by Holm over all pairs of the table. Systems with fewer than
# four seeds have no test, so nothing tells them apart.


# %% tags=["hide-input"]
def testable(name):
    """The runs of systems that have seeds enough for a test."""
    done = runs[name][runs[name]["status"] == "completed"]
    seeds = done.groupby("label")["seed"].nunique()
    return done[done["label"].isin(seeds.index[seeds >= MIN_SEEDS_FOR_TEST])]


compared = {name: testable(name) for name in shown}
tested = {name: rows["label"].nunique() > 1 for name, rows in compared.items()}
spans = {name: groups(compared[name]) if tested[name] else [] for name in shown}
for name in shown:
    rows, axes = tables[name], {"x_title": "test AUC (%)", "title": name, "format": ".2f"}
    ends = {end: rows[end].fillna(rows["test_auc"]) for end in ("low", "high")}
    figure = intervals(rows.assign(**ends), "test_auc", "label", "low", "high", **axes)
    caption = "The order is that of the means." + (
        " A point without a bar is one run." if rows["low"].isna().any() else ""
    )
    if tested[name]:
        figure = stretches(figure, spans[name])
        caption += (
            f" Systems along one bar at the right cannot be told apart; those with fewer than {MIN_SEEDS_FOR_TEST} seeds are not tested "
            "and lie beside a bar by their mean alone."
        )
    views.show(figure, caption, "qnn-alpha-leads")
    if not tested[name]:
        display(Markdown(f"On {name} too few seeds are recorded: no pair of systems has a test."))
        continue
    order = ranked(compared[name])
    found = pd.DataFrame(
        [
            {
                "group": k,
                "from": first,
                "to": last,
                "count": order.index(last) - order.index(first) + 1,
            }
            for k, (first, last) in enumerate(spans[name], start=1)
        ]
    )
    columns = {
        "group": ("group", ""),
        "from": ("from", ""),
        "to": ("to", ""),
        "count": ("systems", ""),
    }
    caption = f"Groups on {name}, among the {len(order)} systems with at least {MIN_SEEDS_FOR_TEST} seeds."
    display(views.table(found, columns, caption))

# %% [markdown]
# ## Ours beside the leaderboard
#
# Frappe's leaderboard lists single runs, and for some systems also the mean of five seeds. The table has those of its systems that are
# ours too. Ours have the same settings, the same validation and test rows, and training rows whose negatives were drawn again
# ({doc}`/book/data`). We look for differences above 0.3 points: they would mean that protocol or system differs.

# %% tags=["hide-input"]
BOARD_COLUMNS = {
    "model": ("system", ""),
    "ours": ("ours, AUC %", ".2f"),
    "seeds": ("seeds", ".0f"),
    "board": ("board, AUC %", ".2f"),
    "kind": ("board's figure", ""),
    "difference": ("difference, points", "+.2f"),
    "within": ("within 0.3", ""),
    "our_logloss": ("ours, logloss", ".4f"),
    "board_logloss": ("board, logloss", ".4f"),
}


def beside_the_board(name):
    """Our means beside the leaderboard's mean over seeds, or its single run where it has no more."""
    board = papers_table("bars_frappe_x1").merge(
        tables[name], "left", left_on="model", right_on="label", suffixes=("_board", "")
    )
    several = board["mean_auc"].notna()
    board["board"] = 100 * board["mean_auc"].where(several, board["auc"])
    board["board_logloss"] = board["mean_logloss"].where(several, board["logloss"])
    board["kind"] = several.map({True: "mean of 5 seeds", False: "one run"})
    board = board.rename(columns={"test_auc": "ours", "test_logloss": "our_logloss"})
    board = board.drop(columns=["low", "high"])  # of our AUC, not of the difference
    board["difference"] = board["ours"] - board["board"]
    near = board["difference"].abs() <= 0.3
    board["within"] = near.map({True: "yes", False: "no"}).where(board["difference"].notna())
    return board.sort_values("difference")


boards = {name: beside_the_board(name) for name in shown if name in LISTED}
for name, rows in boards.items():
    display(views.table(rows, BOARD_COLUMNS, f"The leaderboard of Frappe_x1 and our runs on {name}."))
if not any(len(rows.dropna(subset="difference")) for rows in boards.values()):
    display(Markdown("No system of the leaderboard is measured on Frappe yet."))

# %% [markdown]
# ## Accuracy beside cost
#
# A system on the upper left edge is not beaten by a smaller or faster one. Parameters count the embedding table, which most
# systems share up to small parts on one data set.
#
# Two times are measured ({doc}`/chapters/16_speed` and {doc}`/chapters/13_scaling` tell how). *Latency* is that of a forward pass in
# the shape of the data, for each 100 rows, as when the network serves. A *training step* is one on a batch of 4,096 rows of Frappe,
# each system in a process of its own. The table below has the steps. DS-MLP and ECKD are not in it: their stages have several networks.
#
# A *floor* is the time that the arithmetic and the memory traffic of a step would take at the measured rates of the processor. A
# system near its floor is slow because its equations ask for much; one far from it waits for many small operations.

# %% tags=["hide-input"]
STEP_COLUMNS = {
    "label": ("system", ""),
    "step": ("ms a step", ".0f"),
    "low": ("low", ".0f"),
    "high": ("high", ".0f"),
    "over_dnn": ("times DNN", ".2f"),
    "over_floor": ("times its floor", ".1f"),
    "memory": ("peak MB", ",.0f"),
    "parameters": ("parameters", ",.0f"),
}
SLOW = 4  # times the step of DNN
steps = speed.steps()
steps = steps[steps["group"] == "overall"] if len(steps) else steps
if len(steps):
    steps = steps.assign(label=steps["name"].str.removesuffix(", overall")).sort_values("step")
    steps["over_dnn"] = steps["step"] / steps.set_index("label").loc["DNN", "step"]
    unmeasured = [name for name in SYSTEMS if name not in {*steps["label"], "DS-MLP", "ECKD"}]
    still = f" Not measured yet: {', '.join(unmeasured)}." if unmeasured else ""
    display(views.table(steps, STEP_COLUMNS, f"A training step on Frappe.{still}"))
    slow = steps[steps["over_dnn"] > SLOW].sort_values("over_dnn")
    told = [
        f"{row.label} ({row.over_dnn:.1f} times; {row.over_floor:.1f} times its own floor)"
        for row in slow.itertuples()
    ]
    display(Markdown(f"Slower than {SLOW} times DNN: {', '.join(told) or 'none'}."))
else:
    display(Markdown("Steps have not been measured yet: `ctrlib bench steps overall`."))

# %% tags=["hide-input"]
latency = speed.system_latency()
if len(latency):
    latency = latency[(latency["batch"] == 4096) & (latency["threads"] == latency["threads"].max())]
    latency = latency.rename(columns={"system": "label"})


def with_costs(name):
    """The table with the latency of each system, and on Frappe with the time of its step, where they are measured."""
    found = tables[name].assign(test_auc=tables[name]["test_auc"].round(3))
    if len(latency):
        times = latency.loc[latency["data"] == name, ["label", "latency"]].round(4)
        found = found.merge(times, on="label", how="left")
    if name in LISTED and len(steps):
        found = found.merge(steps[["label", "step"]].round(1), on="label", how="left")
    return found


COSTS = {"parameters": "parameters", "latency": "latency (ms for 100 rows)", "step": "ms for a training step"}
ABOUT = {"latency": "few-weights-are-slow"}  # the claim that a cost bears on
for name in shown:
    points = with_costs(name)
    for column, title in COSTS.items():
        if column in points and points[column].notna().any():
            titles = {"x_title": title, "y_title": "test AUC (%)", "title": name}
            figure = scatter(points.dropna(subset=column), column, "test_auc", "label", **titles)
            logarithmic(figure, "x")
            best = frontier(points, column)
            stairs(figure, points.set_index("label").loc[best], column, "test_auc")
            caption = (
                "Higher is better, further left is cheaper. By the means, no system is both cheaper and better than those on the "
                f"dotted line: {', '.join(best)}. The intervals above say how sure the order is."
            )
            views.show(figure, caption, ABOUT.get(column, ""))

# %% [markdown]
# ## In the papers
#
# Both overall tables as printed, and our means on our data beside them. The papers' figures have no spread. Their rows stand in the
# order of their mean rank over the paper's columns, so that one can see whether that order is ours too.

# %% tags=["hide-input"]
METRICS = {"test_auc": ("AUC in percent", 100, ".2f"), "test_logloss": ("logloss", 1, ".4f")}


def beside_the_paper(paper, number, metric):
    """A printed table in the order of its mean ranks, with our means on the data sets that are measured."""
    _, factor, digits = METRICS[metric]
    rows = printed(paper, number, metric).drop(index="Abs.Imp", errors="ignore")
    rows = factor * rows.loc[rows.rank(ascending=metric == "test_logloss").mean(axis=1).sort_values().index]
    formats = dict.fromkeys(rows, digits)
    if metric == "test_logloss" and "iPinYou" in formats:
        formats["iPinYou"] = ".6f"  # clicks are rare there
    for name in shown:
        ours = tables[name].set_index("label")[metric]
        rows[f"ours on {name}"], formats[f"ours on {name}"] = ours.reindex(rows.index), digits
    return rows.rename_axis("system").reset_index(), formats


for paper, number in (("QNN-alpha", 3), ("DS-MLP", 4)):
    for metric, (words, *_) in METRICS.items():
        rows, formats = beside_the_paper(paper, number, metric)
        caption = f"Table {number} of the {paper} paper: {words}; the last columns are ours."
        display(figure_table(rows, formats=formats, caption=caption))

# %% [markdown]
# ## Made in this build
#
# A few systems on few rows: proof that they run, not a comparison.

# %% tags=["hide-input"]
small = Grid(EXPERIMENT)
for seed in plan["seeds"]:
    for name in plan["systems"]:
        first = strength_search(EMBEDDED, [name]).runs[0]
        small.runs.append(replace(first, label=name, seed=seed).smaller(plan["rows"], plan["max_epochs"]))
made = run_anew(small, device=device)
display(views.table(views.made(made, None), views.MADE_COLUMNS, "Runs of this build."))

# %% [markdown]
# ## Verdicts
#
# The claims of the two overall sections.

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, EXPERIMENT, shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def of_the_board(name):
    """How many of our systems meet the leaderboard's figures; nothing where it has none."""
    if not len(boards.get(name, [])):
        return []
    measured = boards[name].dropna(subset="difference")
    far = measured[measured["within"] == "no"]["model"].tolist()
    return [
        f"Of the {len(boards[name])} systems that the leaderboard and we have {len(measured)} are measured, and "
        f"{len(measured) - len(far)} of these are within 0.3 points of it"
        + (f"; further away: {', '.join(far)}." if far else ".")
    ]


def elsewhere(name):
    """QNN-alpha with the settings of its own chapter, beside the one of this table; nothing where either is missing."""
    own = experiment_runs("qnn-alpha", name)
    own = own[own["label"] == "QNN-alpha"] if len(own) else own
    here = tables[name].loc[tables[name]["label"] == "QNN-alpha", "test_auc"]
    if name in LISTED or own.empty or here.empty:
        return []
    found = summary(100 * own["test_auc"].astype(float))
    return [
        f"QNN-alpha has {here.iloc[0]:.2f} % in this table and {found.value:.2f} % with the settings of its own chapter "
        f"({found.n} seeds), which no other system here was given."
    ]


def said(name):
    """Who leads, and what can be told apart."""
    order = ranked(runs[name])
    table = told_apart(runs[name])
    points = [
        f"{len(order)} systems are measured. {order[0]} has the best mean, {tables[name]['test_auc'].iloc[0]:.2f} %."
    ]
    if not tested[name]:
        return views.findings(name, [*points, *elsewhere(name), *of_the_board(name)])
    among = ranked(compared[name])
    last = spans[name][0][1]
    points += [
        f"Of the {len(among)} systems with at least {MIN_SEEDS_FOR_TEST} seeds, {among.index(last) + 1} at the top cannot be told from one "
        f"another; the last of them is {last}.",
        f"{int((table['seeds'] >= MIN_SEEDS_FOR_TEST).sum())} of the {len(table)} pairs have the {MIN_SEEDS_FOR_TEST} common seeds that "
        f"a test takes; {int(table['apart'].sum())} of these can be told apart.",
    ]
    for method in ("QNN-alpha", "DS-MLP"):
        if method in order:
            behind = table[(table["left"] == method) & table["apart"]]["right"].tolist()
            ahead = table[(table["right"] == method) & table["apart"]]["left"].tolist()
            points.append(
                f"{method} is at place {order.index(method) + 1}. It is shown to be better than {len(behind)} systems and worse "
                f"than {len(ahead)}."
            )
    return views.findings(name, [*points, *elsewhere(name), *of_the_board(name)])


Markdown("\n\n".join(said(name) for name in shown) or "Nothing is measured yet.")

# %% [markdown]
# **How sure are we.** The intervals are over seeds on one split. Tuning is not in them: another twelve settings could well move a
# system as far as another seed does.
#
# Adjusting over all pairs is strict, and with five seeds it shows only large differences. That two systems are in one group
# does not mean that they are equal.
#
# ## Exercises
#
# **1.** How many of the pairs would be told apart without Holm's adjustment? How many of those would you expect by chance?
#
# ````{dropdown} A solution
# ```python
# from itertools import combinations
#
# from ctrlib.lab.stats import paired
# from ctrlib.lab.tables import by_seed
#
# values = by_seed(runs["ml-100k"]).T
# found = [paired(values[a], values[b]).p for a, b in combinations(values, 2)]
# print(sum(p is not None and p < 0.05 for p in found), len(found))
# ```
# If no two systems differed, one pair in twenty.
# ````
#
# **2.** Add a system of your own to the table.
#
# ````{dropdown} A solution
# Derive a class from `CTRModel` with a method `interact`, put it and its settings into `MODELS`, and give `Grid.add` a cell with its
# name. `run_grid` writes records beside the others, and `told_apart` compares them.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
used = [r for r in records if r["label"].removeprefix("search:") in SYSTEMS]
footer("overall", used, made)

# %% [markdown]
# **Next.** {doc}`/chapters/15_noise_floor` asks how much one run can tell.
