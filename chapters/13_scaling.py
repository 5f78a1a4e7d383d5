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
# (sec-scaling)=
# # Scaling
#
# A wider network has more capacity. Does it also predict better? The DS-MLP paper {cite:p}`ou2026dsmlp` widens the MLPs of GDCN
# and of DS-MLP step by step (section 4.3.2, Figure 2). GDCN saturates and then declines, DS-MLP keeps improving.
#
# Two cautions come with that picture. At equal width DS-MLP has twice the MLPs and twice the tables, and it costs three
# trainings. And a larger network is a slower one. So we draw accuracy over parameters, over latency, and over what training
# costs.
#
# **Before you read on.** You need the stages of DS-MLP from {doc}`/chapters/09_align`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]


import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.bench import tables
from ctrlib.errors import RecordError
from ctrlib.figures import DASHES, PALETTE, curves, figure_table, intervals, logarithmic, scatter
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.claims import evaluate_claims, load_claims
from ctrlib.lab.dual_stream import NAME, student, student_search, teacher_run, teacher_search
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.judged import STUDENT_SIZES, TEACHER_SIZES, WIDTHS, slopes
from ctrlib.lab.leaderboard import DATASETS as LISTED
from ctrlib.lab.stats import fitted_curve, relative_improvement, summary
from ctrlib.lab.streams import measure_runs
from ctrlib.lab.tables import by_seed, papers_table
from ctrlib.views.footer import footer

# %% [markdown]
# ## What is varied
#
# All hidden layers of all MLPs get one width $w$: GDCN's MLP, and both streams of DS-MLP. The paper says that the hidden size of
# the MLPs is enlarged in both models, and gives the range 100 to 1200 for the student (section 4.1.4). It leaves open whether the parallel
# stream grows too. We let it. GDCN's cross network has its width from the embedding and stays as it is.
#
# Every DS-MLP has the same teacher, GDCN as tuned. A student of width $w$ is therefore not taught by the GDCN of width $w$; the text
# does not say which it was. All other settings are those chosen at the default widths, for both networks.
#
# Figure 2 fits curves by least squares and does not name their form. Ours are parabolas in $\log_2$ of the number of parameters $p$,
# fitted seed by seed; a band is the 95 % interval of their mean over seeds:
#
# $$
# \mathrm{AUC}(p) \approx a + b \log_2 p + c \,(\log_2 p)^2 .
# $$

# %%
SLOPES = {"GDCN slope": "GDCN", "DS-MLP slope": "DS-MLP", "DS-MLP slope less GDCN slope": "difference"}
LATENCIES = {
    "DS-MLP latency": "DS-MLP",
    "DCNv2 latency": "DCNv2",
    "FinalMLP latency": "FinalMLP",
    "FINAL latency": "FINAL",
    "FmFM latency": "FmFM",
    "AFM latency": "AFM",
    "DeepFM latency": "DeepFM",
    "GDCN latency": "GDCN",
}
PLANS = {
    "smoke": {"widths": [100], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"widths": [100], "seeds": [1], "rows": 8000, "max_epochs": 3},
    "paper": {"widths": [100], "seeds": [1], "rows": None, "max_epochs": 100},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def full_grid(data, widths=WIDTHS, seeds=range(1, 4)):
    """GDCN and DS-MLP with MLPs of each width; every DS-MLP has the same teacher."""
    tuned, grid = student(data), Grid("scaling")
    for seed in seeds:
        for w in widths:
            units = {"hidden_units": (w,) * 3, "parallel_units": (w,) * 3}
            wide = {"hidden_units": (w,) * 3}
            grid.runs.append(teacher_run(data, "GDCN", seed, label=f"GDCN={w}", experiment="scaling", **wide))
            stage = {"distilled": f"distilled={w}", "distil_experiment": "scaling", "distil_changes": units}
            grid.runs.append(tuned.align(f"DS-MLP={w}", seed, experiment="scaling", **stage, **units))
    return grid


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(data, ["GDCN"]), device=device)
        run_grid(student_search(data), device=device)
        run_grid(full_grid(data), device=device)
        students = [run for run in full_grid(data).runs if run.parent]
        measure_runs([(run, run.parent.parent) for run in students], device=device)

# %% tags=["hide-input"]
records = experiment_records("scaling")
runs = {name: experiment_runs("scaling", name, records) for name in RECORDED}
shown = measured_on("scaling", runs)
views.waiting(RECORDED[1:], shown)

# %% [markdown]
# ## Accuracy over size
#
# Test AUC of every width, over all parameters of the network as it is served, with its embedding tables.
#
# Beside AUC stands RelaImpr (Eq. 15), the distance from chance compared with that of a base model. The paper's base is FmFM, ours the
# tuned plain MLP of {doc}`/chapters/10_teachers`. All points, and the base, are over the seeds that they share:
#
# $$
# \mathrm{RelaImpr} = \Big(\frac{\mathrm{AUC} - 0.5}{\mathrm{AUC}_{\mathrm{base}} - 0.5} - 1\Big) \times 100\,\% .
# $$


# %% tags=["hide-input"]
def size_sweep(name):
    """One row for each network and width that is measured, with RelaImpr where the plain MLP is measured too."""
    shared = views.common_seeds(runs[name], [*TEACHER_SIZES, *STUDENT_SIZES])
    parts = [
        views.sweep(shared, sizes, "width").assign(network=network)
        for network, sizes in (("GDCN", TEACHER_SIZES), ("DS-MLP", STUDENT_SIZES))
    ]
    rows = pd.concat(parts, ignore_index=True)
    base = views.reference_means(runs[name], {"MLP": "base"}, "test_auc", shared["seed"])
    if not base:
        return rows
    return rows.assign(
        improvement=[relative_improvement(auc / 100, base["base"]) for auc in rows["test_auc"]]
    )


def values_over(name, sizes, column):
    """Test AUC of one network, sizes as index and seeds as columns; the size is the width or another column of the sweep."""
    values = by_seed(runs[name])
    rows = swept[name].set_index("label")
    labels = [label for label in sizes if label in values.index and label in rows.index]
    return values.loc[labels].set_axis(rows.loc[labels, column].astype(float), axis=0)


def with_curves(figure, name):
    """The figure with a fitted parabola and its band for each network that has enough sizes."""
    for number, sizes in enumerate((TEACHER_SIZES, STUDENT_SIZES)):
        values = values_over(name, sizes, "parameters").dropna(axis=1)
        if len(values) < 4 or values.empty:
            continue
        points = np.geomspace(values.index.min(), values.index.max(), 40)
        fit = 100 * fitted_curve(values, points)
        line = {"color": PALETTE[number], "dash": DASHES[number]}
        figure.add_scatter(x=points, y=fit["value"], mode="lines", line=line, name="fit", showlegend=False)
        if fit["low"].notna().all():
            band = {"x": [*points, *points[::-1]], "y": [*fit["low"], *fit["high"][::-1]], "mode": "none"}
            filled = {"fill": "toself", "fillcolor": PALETTE[number], "opacity": 0.15, "hoverinfo": "skip"}
            figure.add_scatter(**band, **filled, showlegend=False)
    return figure


swept = {name: size_sweep(name) for name in shown}
for name in shown:
    titles = {"x_title": "parameters", "y_title": "test AUC (%)", "title": name}
    points = swept[name].assign(test_auc=swept[name]["test_auc"].round(3))
    figure = scatter(
        points,
        "parameters",
        "test_auc",
        "label",
        color="network",
        y_error="test_auc_half",
        names=False,
        **titles,
    )
    figure = with_curves(figure, name)
    logarithmic(figure, "x")
    caption = "Points are means with 95 % intervals over seeds, lines the fitted parabolas. Does one line bend down and the other rise?"
    views.show(figure, caption, "student-scales-better")
    extra = {"network": ("network", ""), "improvement": ("RelaImpr over the plain MLP %", "+.2f")}
    display(views.sweep_table(swept[name], "width", f"GDCN and DS-MLP by width on {name}.", extra))

# %% [markdown]
# ## Slopes
#
# What does a doubling of the width bring? A straight line in $\log_2 w$, fitted for each seed, gives one number: points of AUC for each
# doubling. The bend of the parabola in $\log_2 w$ tells whether the gain shrinks (below zero) or grows.

# %% tags=["hide-input"]
sloped = {name: slopes(runs[name], name) for name in shown}
SLOPE_COLUMNS = {
    "network": ("network", ""),
    "slope": ("points a doubling", "+.3f"),
    "slope_low": ("low", "+.3f"),
    "slope_high": ("high", "+.3f"),
    "bend": ("bend", "+.3f"),
    "bend_low": ("low ", "+.3f"),
    "bend_high": ("high ", "+.3f"),
    "seeds": ("seeds", ""),
}


def slope_table(name):
    """Means of slopes and bends with their intervals, in points of AUC."""
    rows = []
    for label, part in sloped[name].groupby("label", sort=False):
        row = {"network": SLOPES[label], "seeds": len(part)}
        for column in ("slope", "bend"):
            found = summary(100 * part[column])
            row |= {column: found.value, f"{column}_low": found.low, f"{column}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


for name in shown:
    if len(sloped[name]):
        rows = slope_table(name)
        titles = {"x_title": "points of AUC for each doubling of the width", "title": name}
        figure = intervals(
            rows, "slope", "network", "slope_low", "slope_high", reference=0.0, format="+.3f", **titles
        )
        views.show(figure, "Right of the dashed line AUC grows with the width.", "student-grows-with-size")
        display(views.table(rows, SLOPE_COLUMNS, f"Slopes and bends on {name}, 95 % intervals over seeds."))
    else:
        display(Markdown(f"Not all widths are measured on {name} yet."))

# %% [markdown]
# ## What the larger network costs to train
#
# GDCN is trained once. DS-MLP of width $w$ needs its teacher, a distillation and an alignment. The number of epochs is a matter of the
# runs alone. The seconds are not: several runs share a processor, so take them as orders of size.


# %% tags=["hide-input"]
def training_cost(name):
    """Epochs and seconds of training for each network and width, all stages together, means over the seeds they share."""
    done = runs[name][runs[name]["status"] == "completed"]
    steps = [f"distilled={w}" for w in WIDTHS]
    done = views.common_seeds(done, ["GDCN", *TEACHER_SIZES, *steps, *STUDENT_SIZES])
    cost = done.groupby("label")[["num_epochs", "train_seconds"]].mean()
    rows = []
    for network, sizes in (("GDCN", TEACHER_SIZES), ("DS-MLP", STUDENT_SIZES)):
        for label, w in sizes.items():
            stages = [label] if network == "GDCN" else ["GDCN", f"distilled={w}", label]
            if all(stage in cost.index for stage in stages):
                total = cost.loc[stages].sum()
                auc = done.loc[done["label"] == label, "test_auc"].astype(float).mean()
                rows.append(
                    {"network": network, "width": w, "stages": len(stages), "auc": 100 * auc, **total}
                )
    return pd.DataFrame(rows)


COST_COLUMNS = {
    "network": ("network", ""),
    "width": ("width", ""),
    "stages": ("trainings", ""),
    "num_epochs": ("epochs in all", ".1f"),
    "train_seconds": ("seconds in all", ".0f"),
    "auc": ("AUC %", ".2f"),
}
for name in shown:
    costs = training_cost(name)
    if len(costs):
        caption = f"Training on {name}, from nothing to the network that is served."
        display(views.table(costs, COST_COLUMNS, caption))

# %% [markdown]
# How long does one whole DS-MLP take at the settings of its chapters on Frappe, the larger data? Our goal was six minutes on two
# cores. Runs with one thread shared the processor with others.

# %% tags=["hide-input"]
GOAL = 6  # minutes
PARTS = {"GDCN": "teacher", "distilled": "distillation", NAME: "alignment"}


def whole_runs(threads):
    """Minutes of each stage on Frappe, one row for each seed of which all stages ran with so many threads."""
    rows = {}
    done = [
        r for r in records if r["dataset"] in LISTED and r["label"] in PARTS and r["status"] == "completed"
    ]
    for r in done:
        if r["environment"]["threads"] == threads:
            kept = rows.setdefault(r["seed"], {"processor": r["environment"]["device_name"]})
            kept[PARTS[r["label"]]] = r["seconds"]["total"] / 60
    found = [{"seed": seed, **parts} for seed, parts in rows.items() if set(PARTS.values()) <= set(parts)]
    minutes = pd.DataFrame(found, columns=["seed", "processor", *PARTS.values()])
    return minutes.assign(whole=minutes[list(PARTS.values())].sum(axis=1))


whole = whole_runs(2)
if len(whole):
    headings = {name: f"{name}, minutes" for name in [*PARTS.values(), "whole"]}
    formats = dict.fromkeys(headings, ".1f")
    caption = "A whole DS-MLP on Frappe with two threads, stage by stage."
    display(figure_table(whole, headings=headings, formats=formats, caption=caption))
    met = int((whole["whole"] <= GOAL).sum())
    display(Markdown(f"{met} of {len(whole)} met the goal."))
else:
    display(Markdown("No whole run on Frappe with two threads is recorded yet."))

# %% [markdown]
# ## Do both streams grow?
#
# With more width the streams could share the work otherwise. The share of a stream is its part in the variance of the final logit; a
# half each is balance.

# %% tags=["hide-input"]
STREAMS = {"main_auc": "main stream", "parallel_auc": "parallel stream", "test_auc": "both"}
grown = {}
for name in shown:
    part = views.common_seeds(runs[name], STUDENT_SIZES, "main_auc")
    if len(part):
        part = part.assign(width=part["label"].map(STUDENT_SIZES))
        grown[name] = part.groupby("width")[[*STREAMS, "main_share", "main_correlation"]].mean().reset_index()
        grown[name][list(STREAMS)] *= 100
        long = grown[name].melt("width", list(STREAMS), var_name="stream", value_name="auc")
        long = long.assign(stream=long["stream"].map(STREAMS))
        titles = {"x_title": "width", "y_title": "test AUC (%)", "title": name}
        caption = "Each stream of DS-MLP by itself, and both. Which of them gains from width?"
        views.show(curves(long, "width", "auc", "stream", **titles), caption)
        headings = {"main_auc": "main stream's AUC %", "parallel_auc": "parallel stream's AUC %"}
        headings |= {"test_auc": "AUC %", "main_share": "main stream's share"}
        headings |= {"main_correlation": "main stream with the teacher"}
        digits = dict.fromkeys(headings, ".2f") | {"main_correlation": ".3f"}
        caption = f"Streams on {name}, means over {views.seeds_told(part)}; the last column is a correlation of logits."
        display(figure_table(grown[name], headings=headings, formats=digits, caption=caption))
if not grown:
    display(Markdown("The streams of these networks are not measured yet."))

# %% [markdown]
# ## Latency
#
# Section 4.2 of the paper says that DS-MLP's latency is comparable to that of fast networks such as FinalMLP, FINAL and DCNv2. Its
# Table 4 has milliseconds, without the number of rows, the threads or the device. So only ratios can be compared, here to GDCN.
#
# We time forward passes in the shapes of the paper's three data sets: fields and ids as in its Table 2, ten values an embedding, the main
# stream as wide as in its Table 3, all other MLPs [400, 400, 400]. All networks of a shape take turns. Each has its weights at
# random, which does not change the work. A batch norm that can be folded into the map beside it when the network serves is left
# out; AFN, EDCN and FINAL keep theirs. QNN-alpha has one layer of four
# rows, and on Frappe's shape two of thirteen, as in the authors' log for that data.

# %% tags=["hide-input"]
latency = tables.system_latency()
turns = pd.DataFrame() if latency.empty else tables.system_latency_runs(4096, int(latency["threads"].max()))
# Names in Table 4 -> ours. FmFM is the base of the paper's RelaImpr.
PRINTED = {"DS-MLP": NAME, "GDCN": "GDCN", "DCNV2": "DCNv2", "xDeepFM": "xDeepFM", "AutoInt+": "AutoInt+"}
PRINTED |= {"FinalMLP": "FinalMLP", "Final": "FINAL", "FmFM": "FmFM", "DeepFM": "DeepFM", "AFM": "AFM"}
PRINTED_COLUMNS = {
    "data": ("data", ""),
    "network": ("network", ""),
    "auc": ("paper's AUC %", ".2f"),
    "improvement": ("paper's RelaImpr %", "+.2f"),
    "latency_ms": ("paper's ms", ".2f"),
    "paper_ratio": ("paper, to GDCN", ".2f"),
    "ours": ("ours, ms for 100 rows", ".3f"),
    "ratio": ("ours, to GDCN", ".2f"),
    "ours_small": ("batch 100, ms", ".3f"),
    "ratio_small": ("batch 100, to GDCN", ".2f"),
    "multiply_adds": ("multiply-adds a row", ",.0f"),
}


def our_latencies():
    """Our latencies in the shapes of the paper's data sets, a column for each number of rows in a batch."""
    batches = {4096: "ours", 100: "ours_small"}
    found = latency[latency["batch"].isin(batches) & (latency["threads"] == latency["threads"].max())]
    times = found.pivot(index=["data", "system"], columns="batch", values="latency").rename(columns=batches)
    times["multiply_adds"] = found.groupby(["data", "system"])["multiply_adds"].first()
    return times.reset_index().rename(columns={"system": "network"})


def beside_table_4():
    """Table 4's accuracy and latency with our latencies beside them; the networks that only we have come last."""
    names = {"dataset": "data", "relaimpr_pct_printed": "improvement"}
    rows = papers_table("dsmlp_table4").rename(columns=names)
    rows = rows[rows["model"].isin(PRINTED)]
    rows = rows.assign(network=rows["model"].map(PRINTED), auc=100 * rows["auc"])
    order = {data: place for place, data in enumerate(dict.fromkeys(rows["data"]))}
    if not latency.empty:
        ours = our_latencies()
        rows = rows.merge(ours[ours["data"].isin(order)], on=["data", "network"], how="outer")
    for column, ratio in (("latency_ms", "paper_ratio"), ("ours", "ratio"), ("ours_small", "ratio_small")):
        if column in rows:
            base = rows[rows["network"] == "GDCN"].set_index("data")[column]
            rows[ratio] = rows[column] / rows["data"].map(base)
    rows = rows.assign(place=rows["data"].map(order)).sort_values(["place", "latency_ms"])
    return rows.reset_index(drop=True)


table_4 = beside_table_4()
if latency.empty:
    display(
        Markdown(
            "Our latencies are not measured yet: `ctrlib bench latency`. The table has the paper's alone."
        )
    )
caption = "From Table 4 of the paper, with our latencies where they are measured."
views.table(table_4, PRINTED_COLUMNS, caption)

# %% tags=["hide-input"]
if not latency.empty:
    both = table_4.dropna(subset=["paper_ratio", "ratio"]).round(3)
    titles = {"x_title": "paper: latency, GDCN = 1", "y_title": "ours: latency, GDCN = 1"}
    figure = scatter(both, "paper_ratio", "ratio", "network", color="data", names=False, **titles)
    ends = [
        float(both[["paper_ratio", "ratio"]].min().min()),
        float(both[["paper_ratio", "ratio"]].max().max()),
    ]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dash", "width": 1}, name="alike")
    logarithmic(figure)
    views.show(
        figure,
        "On the dashed line a network is as slow beside GDCN as in the paper. Batches of 4,096 rows.",
        "ds-mlp-latency-is-comparable",
    )

# %% [markdown]
# ## Accuracy over time
#
# If DS-MLP grows better with size, is it worth the time? The same points as in the first figure, over the latency of a network of that
# size.


# %% tags=["hide-input"]
def over_time(name):
    """The sweep over size with the latency of each width, where it is measured."""
    if latency.empty:
        return pd.DataFrame()
    found = latency[(latency["data"] == name) & (latency["batch"] == 4096)]
    found = found[found["threads"] == found["threads"].max()]
    times = found.rename(columns={"system": "label"})[["label", "latency"]]
    return swept[name].merge(times, on="label").sort_values(["network", "latency"], ascending=[False, True])


timed = {name: over_time(name) for name in shown}
for name in shown:
    if len(timed[name]):
        points = timed[name].assign(
            test_auc=timed[name]["test_auc"].round(3), latency=timed[name]["latency"].round(4)
        )
        titles = {"x_title": "ms for 100 rows", "y_title": "test AUC (%)", "title": name}
        drawn = {"color": "network", "y_error": "test_auc_half", "joined": True, "names": False}
        figure = scatter(points, "latency", "test_auc", "label", **drawn, **titles)
        views.show(figure, "Higher and further left is better. Which network is higher at the same latency?")
    else:
        display(Markdown(f"Latency at these widths is not measured in the shape of {name} yet."))

# %% [markdown]
# ## Made in this build
#
# One width anew: GDCN, and DS-MLP with the stages it starts from. Unless the profile is *paper* they see few rows for few
# epochs, so compare nothing with the tables above.


# %% tags=["hide-input"]
fewer = {name: plan[name] for name in ("rows", "max_epochs")}
try:
    wanted = [
        one
        for run in full_grid(EMBEDDED, plan["widths"], plan["seeds"]).runs
        for one in run.smaller(**fewer).lineage
    ]
except RecordError:  # the settings are not searched yet
    wanted = []
fresh = Grid("scaling", list({run.path: run for run in wanted}.values()))
made = run_anew(fresh, device=device)
beside = views.made(made, runs[EMBEDDED] if plan["rows"] is None else None)
views.table(beside, views.MADE_COLUMNS, "Runs of this build.")

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
judged = {}
for name in shown:
    times = turns if turns.empty else turns[turns["dataset"] == name]
    judged[name] = pd.concat([runs[name], sloped[name], times], ignore_index=True)
verdicts = views.verdicts(judged, "scaling", shown)

# %% [markdown]
# The claim on latency is judged in the shapes of the paper's data sets. Seeds are turns here, and effects are base-2 logarithms of a
# ratio.

# %% tags=["hide-input"]
claims = [
    claim for claim in load_claims() if claim.experiment == "scaling" and claim.metric == "log2_latency"
]
waits = {}
if latency.empty:
    display(Markdown("Not measured yet."))
else:
    for shape in ("Criteo", "Avazu", "MovieLens"):
        waits[shape] = evaluate_claims(turns, "scaling", shape, claims).assign(data=shape)
    for shape, rows in waits.items():
        display(views.verdict_table(rows, f"the shape of {shape}, batches of 4,096 rows"))

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def of_ends(name, network):
    """The AUC of a network at its smallest and largest width, in words."""
    auc = swept[name][swept[name]["network"] == network].set_index("width")["test_auc"]
    if len(auc) < 2:
        return ""
    narrow, wide = auc.index.min(), auc.index.max()
    return f"From width {narrow:g} to {wide:g} its AUC goes from {auc[narrow]:.2f} to {auc[wide]:.2f} %"


def of_slope(name, which):
    """What a doubling of the width brings, in words; nothing where not all widths are measured."""
    rows = slope_table(name).set_index("network") if len(sloped[name]) else pd.DataFrame()
    if which not in rows.index:
        return ""
    slope = rows.loc[which, ["slope", "slope_low", "slope_high"]]
    return f"A doubling of the width brings {views.estimate(*slope, '+.3f', ' points of AUC')}"


def said(name):
    """How accuracy follows size on one data set, finding by finding."""
    found = verdicts[name]
    return views.findings(
        name,
        [
            views.answer(
                "Does DS-MLP improve with its size?",
                found,
                "student-grows-with-size",
                told=of_slope(name, "DS-MLP"),
            ),
            views.answer(
                "Does DS-MLP improve at every step?",
                found,
                "student-grows-at-every-step",
                told=of_ends(name, "DS-MLP"),
            ),
            views.answer("Does GDCN saturate?", found, "teacher-saturates", told=of_ends(name, "GDCN")),
            views.answer("Does GDCN decline at large widths?", found, "teacher-declines"),
            views.answer(
                "Does DS-MLP gain more from size than GDCN?",
                found,
                "student-scales-better",
                told=of_slope(name, "difference"),
            ),
            views.answer(
                "Is the largest DS-MLP ahead of the largest GDCN?",
                found,
                "largest-student-beats-largest-teacher",
            ),
        ],
    )


def times(rows, column):
    """The ratios of a column by data set, in words."""
    return ", ".join(f"{row[column]:.2f} ({row['data']})" for _, row in rows.dropna(subset=column).iterrows())


def said_of_latency():
    """How slow DS-MLP is beside other networks, in the paper and here."""
    rows = table_4[table_4["network"] == NAME]
    final = table_4[table_4["network"] == "FINAL"].set_index("data")["latency_ms"]
    rows = rows.assign(to_final=rows["latency_ms"] / rows["data"].map(final))
    ours = f"; here {found}" if "ratio" in rows and (found := times(rows, "ratio")) else ""
    final_here = ""
    if "ours" in table_4:
        ours_final = table_4[table_4["network"] == "FINAL"].set_index("data")["ours"]
        rows = rows.assign(to_our_final=rows["ours"] / rows["data"].map(ours_final))
        final_here = f"; here {found}" if (found := times(rows, "to_our_final")) else ""
    judged_in = ", ".join(f"*{found['verdict'].iloc[0]}* ({shape})" for shape, found in waits.items())
    return views.findings(
        "Latency",
        [
            f"How many times as long as GDCN does DS-MLP take? In the paper {times(rows, 'paper_ratio')}{ours}.",
            f"How many times as long as FINAL? In the paper {times(rows, 'to_final')}{final_here}.",
            f"Is its latency like that of DCNv2, FinalMLP and FINAL? {judged_in}." if judged_in else "",
        ],
    )


Markdown("\n\n".join([*(said(name) for name in shown), said_of_latency()]))

# %% [markdown]
# **Why a decline need not mean harder optimisation.** Dropout, batch norm and the L2 strength were chosen at the default width. A wider
# GDCN at these settings may only be regularised too little.
#
# The same holds for DS-MLP, but its streams are averaged, and averaging is a
# regulariser by itself.
#
# **How sure are we.** Three seeds give an interval and no test. Five widths make a parabola with two degrees of freedom left, so its bend says
# little about widths beyond them.
#
# Nothing here says how either network scales with more *data*, which the paper does not vary either.
#
# Latency was measured on a processor; on a GPU small products are limited by launches, and two streams can run at the same
# time.
#
# ## Exercises
#
# **1.** Two models have RelaImpr 3.0 % and 3.3 % over one base. Give the RelaImpr of the second over the first. How does a weak base
# flatter a model?
#
# ````{dropdown} A solution
# Write $a = \mathrm{AUC} - 0.5$. From $a_1 = 1.030\,a_0$ and $a_2 = 1.033\,a_0$ follows $a_2 / a_1 = 1.033 / 1.030$, an improvement of
# 0.29 %. RelaImpr over the base adds what every decent model has over it to the small difference between decent models. It is a linear map
# of AUC, so it changes no order and no test. `relative_improvement` in `ctrlib.lab.stats` does the arithmetic.
# ````
#
# **2.** Make the streams deeper in place of wider. Does AUC follow the number of parameters, or the shape?
#
# ````{dropdown} A solution
# ```python
# tuned = student("ml-100k")
# for depth in (1, 2, 3, 5):
#     units = {"hidden_units": (200,) * depth, "parallel_units": (200,) * depth}
#     stage = {"distilled": f"distilled-depth={depth}", "distil_changes": units}
#     run = tuned.align(f"depth={depth}", 1, **stage, **units)
#     print(depth, run_anew(Grid("scaling", [run]))[0]["test"])
# ```
# Compare a depth with the width of about as many parameters. Use several seeds before you believe a difference.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("scaling", records, made, shown=shown)

# %% tags=["hide-input"]
origins = tables.origins()
figure_table(
    origins[origins["file"].str.contains("latency")],
    caption="Latency was measured with ctrlib bench latency; the file holds more than this page shows.",
)

# %% [markdown]
# **Next.** {doc}`/chapters/14_overall` puts all systems side by side.
