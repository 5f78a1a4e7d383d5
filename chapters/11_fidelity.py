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
# (sec-fidelity)=
# # Fidelity
#
# What has a student of DS-MLP {cite:p}`ou2026dsmlp` taken over from its teacher? The paper answers three times. A theory says that
# a distilled ReLU network recovers the teacher's outputs and its feature interactions (section 3.5). A synthetic study shows
# errors against a known truth (section 4.3.3, Figure 3). And the text concludes that the student holds the teacher's
# explicit interactions and the parallel stream does not.
#
# This chapter rebuilds the study, tests the theory's measure of interaction on trained networks, and puts another in its place
# that categorical fields allow. Each time the same question: would a network that never saw the teacher look the same?
#
# **Before you read on.** You need the two stages of {doc}`/chapters/08_distil` and {doc}`/chapters/09_align`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU; the synthetic study is too small for one
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from IPython.display import Markdown, display
from plotly.subplots import make_subplots

from ctrlib import views
from ctrlib.figures import figure_table, intervals, logarithmic, scatter
from ctrlib.lab import Grid, run_grid
from ctrlib.lab.claims import evaluate_claims, load_claims
from ctrlib.lab.dual_stream import student, student_search, teacher_run, teacher_search
from ctrlib.lab.experiments import experiment_records
from ctrlib.lab.fidelity import (
    CELLS,
    NAME,
    OTHERS,
    PLACES,
    SCHEMA,
    fields_of,
    judged_study,
    maps_of,
    measure_fidelity,
    measured_runs,
    on_vectors,
    over_seeds,
    scores,
    second_differences,
    slopes,
    stored_study,
    stream_logits,
    study_runs,
    train_cell,
)
from ctrlib.lab.interactions import second_derivatives
from ctrlib.lab.streams import measure_runs
from ctrlib.views.footer import footer

# %% [markdown]
# ## A study whose truth is known
#
# Three categorical fields $x_1, x_2, x_3$. A GDCN gives every combination a probability, and labels follow from it. Then a teacher
# is trained, a student distilled, two streams aligned. How far is each from the truth?
#
# $$
# \mathrm{MSE}(f) = \frac{1}{|V|} \sum_{x \in V} \big(\sigma(f(x)) - \sigma(f^*(x))\big)^2
# $$
#
# with $V$ the set of all combinations.
#
# The paper gives the three fields, the GDCN and the three things that are compared: the cross network of the teacher, the main MLP
# and the parallel MLP. It prints a figure and no numbers. Everything else is left open. What we chose:
#
# | open in section 4.3.3 | our reading |
# |---|---|
# | the vocabulary | 12 tokens a field, so all 1,728 combinations can be scored and no error is an estimate |
# | the weights of the true GDCN | random, with embeddings of unit variance; the logit is scaled to a standard deviation of 1.5 |
# | whether that GDCN is also the teacher | no: the teacher is another GDCN of the same shape, trained on the labels |
# | the labels | clicks drawn from the probability, all combinations equally likely |
# | the number of samples | 2,000 to 32,000; 8,000 where the width varies |
# | when the main MLP is looked at | after distillation (*student*) and after alignment (*main*) |
# | how a cross network predicts that is one half of a teacher | with what it adds to the teacher's logit, and the teacher's bias |
#
# A part of a sum was never trained to predict alone, so the last line is hard on the cross network. A gated cross network that
# is trained alone stands beside it. Three more lines to compare with:
#
# - *MLP*: a plain MLP as wide as the student, trained on the clicks and nothing else.
# - *best sum*: the sum of functions of single fields that is nearest to the true logit. Who is worse has learnt no interaction that
#   helps.
# - *whole*: the prediction of DS-MLP.
#
# No layer has dropout or batch norm, but the batch norm of the alignment stage stays (Eq. 8). All networks have one learning rate.
# Every seed has a truth, clicks and weights of its own.

# %%
PLANS = {
    "smoke": {"cells": ["rows=2000"], "seeds": [1], "max_epochs": 2},
    "quick": {"cells": ["rows=2000", "rows=4000"], "seeds": [1], "max_epochs": 100},
    "paper": {"cells": ["rows=2000", "rows=4000"], "seeds": [1], "max_epochs": 100},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def measured_grid(data):
    """The runs whose networks are measured: ten seeds of DS-MLP, fewer of what it is compared with."""
    tuned = student(data)
    runs = []
    for seed in range(1, 11):
        runs += [tuned.distill("distilled", seed), tuned.align("DS-MLP", seed)]
    for seed in range(1, 6):
        runs += [tuned.two_trained(seed), teacher_run(data, "MLP", seed)]
    runs += [tuned.distill("no-teacher", seed, distill_weight=0.0) for seed in range(1, 4)]
    return Grid("fidelity", runs)


if profile == "paper":
    if not dataset:
        measure_fidelity(range(1, 11))
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(data, ["GDCN", "MLP"]), device=device)
        run_grid(student_search(data), device=device)
        run_grid(measured_grid(data), device=device)
        pairs = [(run, teacher_run(data, "GDCN", run.seed)) for run in measured_grid(data).runs]
        measure_runs(pairs, device=device)

# %% tags=["hide-input"]
stored_cells = {seed: one["cells"] for seed, one in stored_study().items()}
study = study_runs(stored_cells)
if study.empty:
    display(Markdown("The synthetic study is not measured yet."))

# %% [markdown]
# ## Over the width
#
# Figure 3 of the paper has the error over the size of the MLPs. Both MLPs have three layers of the width below. The teacher does not change, so
# its cross network is a level line up to rounding.

# %% tags=["hide-input"]
WIDTHS = {"width=8": 8, "width=16": 16, "reference": 32, "width=64": 64, "width=128": 128}
STREAMS = {
    "student": "student (after distillation)",
    "main": "main stream (after alignment)",
    "parallel": "parallel stream",
    "whole": "whole DS-MLP",
    "MLP": "plain MLP",
    "cross part": "cross network in the teacher",
    "cross network": "cross network alone",
    "teacher": "whole teacher",
    "best sum": "best sum of single fields",
}
LEVEL = ("cross part", "cross network", "teacher", "best sum")  # the same at every width
BY_WIDTH = {f"{stream}, {cell}": (stream, width) for stream in STREAMS for cell, width in WIDTHS.items()}
ERRORS = {"mse": ("MSE of probability", ".5f"), "logit_mse": ("MSE of logit", ".4f")}


def errors_over(labels, column):
    """Means over seeds with half widths of 95 % intervals, a row for each label (label -> stream, place)."""
    rows = over_seeds(study, list(labels), list(ERRORS))
    if rows.empty:
        return rows
    rows["stream"] = [STREAMS[labels[label][0]] for label in rows["label"]]
    rows[column] = [labels[label][1] for label in rows["label"]]
    for metric in ERRORS:
        rows[f"{metric}_half"] = (rows[f"{metric}_high"] - rows[f"{metric}_low"]) / 2
        rows[f"{metric}_drawn"] = rows[metric].map(lambda value: float(f"{value:.3g}"))
    return rows


def error_figure(rows, column, metric, x_title):
    """Errors over a factor, a line for each stream."""
    figure = scatter(
        rows,
        column,
        f"{metric}_drawn",
        "stream",
        color="stream",
        names=False,
        y_error=f"{metric}_half",
        joined=True,
        x_title=x_title,
        y_title=ERRORS[metric][0],
        height=560,
    )
    figure.update_xaxes(type="log", tickvals=sorted(set(rows[column])))
    return figure


by_width = errors_over(BY_WIDTH, "width")
if len(by_width):
    drawn = by_width[~by_width["stream"].isin([STREAMS["teacher"], STREAMS["cross network"]])]
    caption = "Lower is nearer to the truth. Is the student's line below the parallel one, and how far from a plain MLP's?"
    views.show(
        error_figure(drawn, "width", "mse", "width of each MLP layer"), caption, "student-below-parallel"
    )
    caption = "The same in logits, where confident errors weigh more."
    views.show(
        error_figure(drawn, "width", "logit_mse", "width of each MLP layer"),
        caption,
        "student-below-parallel-logit",
    )

# %% tags=["hide-input"]
if len(by_width):
    level = by_width["stream"].isin([STREAMS[stream] for stream in LEVEL])
    once = by_width[~level | (by_width["width"] == WIDTHS["reference"])].copy()
    once["width"] = once["width"].astype(float).mask(level[once.index])
    columns = {"stream": ("stream", ""), "width": ("width", ".0f")}
    for metric, (heading, digits) in ERRORS.items():
        columns |= {metric: (heading, digits), f"{metric}_half": ("±", digits)}
    columns["seeds"] = ("seeds", "")
    display(views.table(once, columns, "Errors against the truth over all combinations, mean over seeds."))

# %% [markdown]
# ## Over the number of samples
#
# Eq. 11 bounds the student's squared distance to its *teacher*, not to the truth:
#
# $$
# \lVert \hat S - T \rVert^2 \lesssim \inf_{S} \lVert S - T \rVert^2 + \mathcal O\big(1/\sqrt n\big).
# $$
#
# If the best student is as good as perfect, the distance should fall at least like $n^{-1/2}$: a slope of $-\tfrac12$ or steeper when
# both axes are logarithmic. Three students:
#
# - *as written*: Algorithm 1. Its click loss asks half the student's logit to fit the clicks, see {doc}`/chapters/08_distil`.
# - *alone*: the same two losses, on the student's own logit.
# - *exact teacher*: what the theorem is about. The teacher is the truth itself, the loss is the squared error of probabilities, and
#   the clicks hardly count.

# %% tags=["hide-input"]
ROWS = {"rows=2000": 2000, "rows=4000": 4000, "reference": 8000, "rows=16000": 16000, "rows=32000": 32000}
SLOPES = {"slope, as written": "as written", "slope, alone": "alone", "slope, exact teacher": "exact teacher"}
BY_ROWS = {f"student, {cell}": ("as written", rows) for cell, rows in ROWS.items()}
BY_ROWS |= {f"student, aligned, rows={rows}": ("alone", rows) for rows in ROWS.values()}
BY_ROWS |= {f"student, exact, rows={rows}": ("exact teacher", rows) for rows in ROWS.values()}
found = over_seeds(study, list(BY_ROWS), ["teacher_mse", "mse", "scale"])
if len(found):
    found["student"] = [BY_ROWS[label][0] for label in found["label"]]
    found["rows"] = [BY_ROWS[label][1] for label in found["label"]]
    found["half"] = (found["teacher_mse_high"] - found["teacher_mse_low"]) / 2
    found["drawn"] = found["teacher_mse"].map(lambda value: float(f"{value:.3g}"))
    start = found.loc[found["label"] == "student, exact, rows=2000", "drawn"]
    guide = pd.DataFrame({"rows": list(ROWS.values()), "student": "a slope of one half", "label": "guide"})
    if len(start):
        guide["drawn"] = [float(f"{start.iloc[0] * math.sqrt(2000 / n):.3g}") for n in guide["rows"]]
        found = pd.concat([found, guide])
    figure = scatter(
        found,
        "rows",
        "drawn",
        "label",
        color="student",
        names=False,
        y_error="half",
        joined=True,
        x_title="training clicks",
        y_title="squared distance to the teacher's probability",
    )
    figure.update_xaxes(type="log", tickvals=list(ROWS.values()))
    logarithmic(figure, "y")
    views.show(
        figure, "Who gets ever nearer to the teacher, and whose line levels off?", "error-falls-as-written"
    )

# %% tags=["hide-input"]
fits = slopes(study)
slope_rows = over_seeds(fits, list(SLOPES), ["slope", "slope_truth"])
if len(slope_rows):
    slope_rows["student"] = slope_rows["label"].map(SLOPES)
    columns = {"student": ("student", ""), "slope": ("slope, to the teacher", ".2f")}
    columns |= {"slope_low": ("low", ".2f"), "slope_high": ("high", ".2f")}
    columns |= {"slope_truth": ("slope, to the truth", ".2f"), "slope_truth_low": ("low ", ".2f")}
    columns |= {"slope_truth_high": ("high ", ".2f"), "seeds": ("seeds", "")}
    caption = "Slopes of the logarithm of the error over that of the number of clicks, fitted for each seed. Eq. 11: -0.5."
    display(views.table(slope_rows, columns, caption))

# %% [markdown]
# The theorem speaks of a student that minimises the distance to its teacher. Eq. 6 adds a click loss with a minimum elsewhere, and then the
# distance need not vanish however many clicks there are. Also, with three fields of 12 tokens the world is finite: after some
# thousand rows the teacher has been seen at every combination. A steep slope here says nothing about fields with thousands of tokens.
#
# ## What the student owes to the teacher
#
# The same truth and clicks, 8,000 of them, with other losses in the first stage. *Scale* is the slope of the student's logit on the teacher's: a copy has 1.

# %% tags=["hide-input"]
VARIANTS = {"student, reference": "as written (Algorithm 1)", "student, aligned": "main stream alone"}
VARIANTS |= {"student, released": "released loss and stage", "student, no teacher": "no distillation loss"}
VARIANTS |= {"MLP, reference": "plain MLP", "teacher, reference": "the teacher itself"}
VARIANTS |= {"best sum, reference": "best sum of single fields"}
METRICS = {"mse": ("to the truth", ".5f"), "teacher_mse": ("to the teacher", ".5f")}
METRICS |= {"correlation": ("correlation with the truth", ".3f"), "scale": ("scale", ".2f")}
variants = over_seeds(study, list(VARIANTS), list(METRICS))
if len(variants):
    variants["network"] = variants["label"].map(VARIANTS)
    columns = {"network": ("network", "")}
    for metric, (heading, digits) in METRICS.items():
        variants[f"{metric}_half"] = (variants[f"{metric}_high"] - variants[f"{metric}_low"]) / 2
        columns |= {metric: (heading, digits), f"{metric}_half": ("±", digits)}
    caption = "Squared distances of probabilities, correlation and scale of logits, after the first stage."
    display(views.table(variants, columns | {"seeds": ("seeds", "")}, caption))

# %% [markdown]
# ## Made in this build
#
# A small part of the study runs anew whenever this page is executed, beside its record where there is one.

# %% tags=["hide-input"]
changes = {"max_epochs": plan["max_epochs"]}
networks = {
    (seed, name): train_cell(seed, CELLS[name], **changes) for seed in plan["seeds"] for name in plan["cells"]
}
now = {
    seed: {name: scores(stream_logits(networks[seed, name])) for name in plan["cells"]}
    for seed in plan["seeds"]
}
made = study_runs(now)[["seed", "cell", "stream", "label", "mse", "logit_mse"]]
if not study.empty and profile != "smoke":
    made = made.merge(
        study[["seed", "label", "mse", "logit_mse"]],
        on=["seed", "label"],
        how="left",
        suffixes=("", " recorded"),
    )
columns = {"seed": ("seed", ""), "cell": ("cell", ""), "stream": ("stream", ""), "mse": ("MSE now", ".5f")}
columns |= {"mse recorded": ("MSE recorded", ".5f"), "logit_mse": ("logit MSE now", ".4f")}
columns |= {"logit_mse recorded": ("logit MSE recorded", ".4f")}
views.table(made, columns, "Errors against the truth, made in this build.")

# %% [markdown]
# Another processor rounds otherwise. Up to distillation that hardly shows. The norm of Eq. 8 divides by the spread of units that are all
# but silent ({doc}`/chapters/09_align`), and rounding grows with it. So after alignment the figures of now can differ from the record.
#
# ## Eq. 12 on trained networks
#
# The paper measures how much two inputs interact by the mean absolute mixed second derivative,
#
# $$
# I_{ij}(f) = \mathbb E_x \left| \frac{\partial^2 f}{\partial x_i\, \partial x_j}(x) \right| \qquad (12)
# $$
#
# and concludes from Eq. 13 that a student near its teacher has the same $I_{ij}$, provided both are smooth. The logit of a ReLU MLP is
# piecewise linear in its inputs. Inside a piece its second derivatives are 0, whatever it has learnt. So the measure cannot see what a student
# inherits, and it cannot see that a student has inherited nothing.
#
# We differentiate logits by the coordinates of the embeddings, in double precision, at every combination of the study. The networks are those that this
# build has just trained. The last column asks the same networks for the interaction that the fields do show, by the differences of the next section.

# %% tags=["hide-input"]
last = networks[plan["seeds"][-1], plan["cells"][-1]]
MODELS = {
    "truth": "GDCN, the truth",
    "teacher": "GDCN, the teacher",
    "distilled": "student",
    "MLP": "plain MLP",
}


def off_diagonal(square):
    """Mean over pairs of different fields."""
    return float(square.sum() / (square.numel() - len(square)))


rows = []
for key, title in MODELS.items():
    logit, vectors = on_vectors(last[key])
    derivative = second_derivatives(logit, vectors)
    squashed = second_derivatives(lambda e, logit=logit: torch.sigmoid(logit(e)), vectors)
    rows.append(
        {
            "network": title,
            "logit": off_diagonal(derivative.mean),
            "zero": 100 * derivative.zero,
            "probability": off_diagonal(squashed.mean),
            "differences": off_diagonal(second_differences(last[key])),
        }
    )
derivatives = pd.DataFrame(rows)
columns = {"network": ("network", ""), "logit": ("Eq. 12 of the logit", ".4f")}
columns |= {"zero": ("exactly 0, %", ".1f"), "probability": ("Eq. 12 of the probability", ".4f")}
columns |= {"differences": ("second differences of the logit", ".3f")}
caption = "Mean over pairs of fields, coordinates and combinations. Which networks have an interaction, and which measure sees it?"
views.table(derivatives, columns, caption)

# %% [markdown]
# On the probability Eq. 12 is not 0, for the logistic curve bends: it becomes $\sigma''(f)$ times two first derivatives. A sum of functions of
# single fields has that too, without any interaction. The truth and the teacher have embeddings of different sizes, so the first
# column compares no two networks; only the zeros mean something.
#
# ## Second differences
#
# Between values of two fields a difference always exists:
#
# $$
# I_{ij}(f) = \mathbb E\, \big| f(a, b) - f(a', b) - f(a, b') + f(a', b') \big|
# $$
#
# with $a, a'$ two values of field $i$ and $b, b'$ two of field $j$, from rows of the test data, the other fields held. It is 0 for every
# sum of functions of single fields, and it needs no derivative. Below, the map of each pair of fields for the teacher and for three
# networks, each divided by its own mean, on average over the seeds that all of them have. Tables and figures below keep to such common
# seeds too, for a seed fixes the teacher.

# %% tags=["hide-input"]
TITLES = {"distilled": "student", "no teacher": "student without distillation loss", "MLP": "plain MLP"}
TITLES |= {"two trained MLPs": "two trained MLPs", "DS-MLP": "whole DS-MLP"}
TITLES |= {"DS-MLP, main": "main stream, aligned", "DS-MLP, parallel": "parallel stream"} | OTHERS
runs = {name: measured_runs(name) for name in RECORDED}
shown = [name for name in RECORDED if len(runs[name])]
if missing := [name for name in RECORDED[1:] if name not in shown]:
    display(Markdown(f"No networks are measured on {', '.join(missing)} yet."))


# %% tags=["hide-input"]
def heat_maps(panels, names):
    """Square maps side by side (title -> map), fields by fields, on one scale of colours."""
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True)
    for place, square in enumerate(panels.values(), start=1):
        drawn = square.clone().fill_diagonal_(float("nan")).numpy().round(3)
        hover = "%{y} with %{x}: %{customdata}<extra></extra>"
        figure.add_trace(
            go.Heatmap(
                z=np.log2(drawn).round(3),
                x=names,
                y=names,
                customdata=drawn,
                coloraxis="coloraxis",
                hovertemplate=hover,
            ),
            1,
            place,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=60)
    ticks = {"tickvals": [-2, -1, 0, 1, 2], "ticktext": ["1/4", "1/2", "1", "2", "4"]}
    scale = {"colorscale": "Cividis", "cmin": -2, "cmax": 2, "colorbar": {"title": "strength", **ticks}}
    return figure.update_layout(coloraxis=scale, height=420)


panels = {title: second_differences(last[key]) for key, title in MODELS.items()}
panels = {title: square / off_diagonal(square) for title, square in panels.items()}
caption = (
    f"Interactions in the study's networks, those of seed {plan['seeds'][-1]} that this build has just trained: one seed alone; 1 is the "
    "mean of a map. Which pairs of fields are bright in the truth, and who has them too?"
)
views.show(heat_maps(panels, [field.name for field in SCHEMA.fields]), caption)

for name in shown:
    panels = {"teacher": maps_of(name, (*PLACES["distilled"][:2], "teacher"))}
    panels |= {TITLES[key]: maps_of(name, PLACES[key]) for key in ("distilled", "DS-MLP, parallel", "MLP")}
    panels = {title: maps for title, maps in panels.items() if maps}
    seeds = set.intersection(*map(set, panels.values()))  # those that all of them have
    means = {
        title: torch.stack([maps[seed] for seed in seeds]).mean(dim=0)
        for title, maps in panels.items()
        if seeds
    }
    means = {title: square / off_diagonal(square) for title, square in means.items()}
    caption = (
        f"Interactions on {name}; 1 is the mean of a map, and what is beyond 4 looks like 4. A field has no pair with itself. "
        "Are the bright pairs of the student those of its teacher?"
    )
    views.show(heat_maps(means, fields_of(name)), caption, "student-inherits-interactions")

# %% [markdown]
# Looking alike is not enough. The pairs of fields that matter are a property of the data, and any good model finds some of
# them. So *likeness*, the correlation of two maps over pairs of fields, needs controls:
#
# - a *plain MLP* and *two trained MLPs*, which never saw a teacher;
# - a *student without distillation loss*: it still starts from the teacher's embedding table;
# - the likeness to the *teachers of other seeds*, which neither the student nor a plain MLP has met.
#
# The last one needs care. Networks of one seed see the same batches in the same order and start from the same table, so even networks that never met
# are more alike when they share a seed. What counts is how much more the student gains from its own teacher than two trained MLPs gain
# from the teacher of their seed.

# %% tags=["hide-input"]
order = ["distilled", "distilled, other teachers", "two trained MLPs", "two trained MLPs, other teachers"]
order += [label for label in PLACES if label not in order]
shared = {name: views.common_seeds(runs[name], order) for name in shown}
alike = {name: over_seeds(shared[name], order, ["likeness", "strength"]) for name in shown}
for name in shown:
    rows = alike[name].assign(network=alike[name]["label"].map(TITLES))
    figure = intervals(
        rows.dropna(subset="likeness_low"),
        "likeness",
        "network",
        "likeness_low",
        "likeness_high",
        x_title="correlation of the map with the teacher's, over pairs of fields",
        title=name,
        format=".3f",
    )
    views.show(
        figure,
        "Right: more like the teacher. Is the student to the right of networks that never saw it?",
        "student-has-its-own-teachers-map",
    )
    columns = {"network": ("network", ""), "likeness": ("likeness", ".3f"), "likeness_low": ("low", ".3f")}
    columns |= {"likeness_high": ("high", ".3f"), "strength": ("strength against the teacher's", ".2f")}
    display(
        views.table(rows, columns | {"seeds": ("seeds", "")}, f"Likeness to the teacher's map on {name}.")
    )

# %% [markdown]
# ## A bound on the risk
#
# Eq. 14 goes from distance to performance. The loss is $L$-Lipschitz in the prediction, so
#
# $$
# \big| R(\hat S) - R(T) \big| \le L\, \mathbb E |\hat S - T| \le L\, \lVert \hat S - T \rVert_2. \qquad (14)
# $$
#
# The cross entropy of a *probability* has no finite $L$, and the paper's teacher gives a probability. Of a *logit* it has $L = 1$, for its derivative is $p - y$. So we
# read the bound on logits. It holds for all rows by arithmetic; the question is how much it says.

# %% tags=["hide-input"]
bounds = {}
for name in shown:
    rows = over_seeds(shared[name], list(PLACES), ["risk_gap", "logit_mean", "logit_root"])
    if rows.empty:
        continue
    bounds[name] = rows = rows.assign(network=rows["label"].map(TITLES))
    columns = {"network": ("network", ""), "risk_gap": ("difference of logloss", ".4f")}
    columns |= {"logit_mean": ("mean distance of logits", ".3f"), "logit_root": ("root mean square", ".3f")}
    caption = f"Eq. 14 on {name}: each column bounds the one before it, run by run."
    display(views.table(rows, columns | {"seeds": ("seeds", "")}, caption))

# %% [markdown]
# ## Verdicts
#
# The claims about the synthetic study first; its data are called *polynomial*. Its data set is the paper's in kind, its numbers are our choices. The claims that say *our question* are not the paper's.

# %% tags=["hide-input"]
CLAIMS = [claim for claim in load_claims() if claim.experiment == "fidelity"]
judged = {}
if not study.empty:
    asked = [claim for claim in CLAIMS if NAME in claim.datasets]
    judged[NAME] = evaluate_claims(judged_study(), "fidelity", NAME, asked)
for name in shown:
    asked = [claim for claim in CLAIMS if NAME not in claim.datasets]
    judged[name] = evaluate_claims(runs[name], "fidelity", name, asked)
for name, rows in judged.items():
    display(views.verdict_table(rows, name))
if judged:
    display(views.test_table(judged))

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def below(stream):
    """At how many widths the student's mean error is below that of another stream, in words."""
    error = study.groupby("label")["mse"].mean()
    pairs = [(f"student, {cell}", f"{stream}, {cell}") for cell in WIDTHS]
    pairs = [(error[own], error[other]) for own, other in pairs if {own, other} <= set(error.index)]
    if not pairs:
        return ""
    return f"Its mean error is lower at {sum(a < b for a, b in pairs)} of {len(pairs)} widths"


def said_of_study():
    """What the synthetic study shows, finding by finding."""
    found = judged[NAME]
    return views.findings(
        "The synthetic study",
        [
            views.answer(
                "Is the student nearer to the truth than the parallel stream?",
                found,
                "student-below-parallel",
                told=below("parallel"),
            ),
            views.answer(
                "Is the student nearer to the truth than a plain MLP?",
                found,
                "student-beats-plain-mlp",
                told=below("MLP"),
            ),
            views.answer(
                "Does the student's error go with that of the teacher's cross network?",
                found,
                "student-like-cross-network",
                told=below("cross part"),
            ),
            views.answer(
                "Does the distance to the teacher fall as Eq. 11 says?",
                found,
                "error-falls-as-written",
                lead="The slope is",
            ),
            views.answer(
                "And with an exact teacher, as in the theorem?",
                found,
                "error-falls-exact-teacher",
                lead="The slope is",
            ),
        ],
    )


def said_of_derivatives():
    """What Eq. 12 sees of the networks of this build."""
    zero = derivatives.set_index("network")["zero"]
    told = f"Of the student's second derivatives {zero['student']:.1f} % are exactly 0"
    told = (
        f"Can Eq. 12 see what a student inherits? {told}, of the teacher's {zero['GDCN, the teacher']:.1f} %."
    )
    return views.findings("Eq. 12 on trained networks", [told])


def of_likeness(name):
    """The likeness of the student and of a plain MLP to the teacher's map, in words; nothing where one is not measured."""
    rows = alike[name].set_index("label")
    if not {"distilled", "MLP"} <= set(rows.index):
        return ""
    each = [
        views.estimate(*rows.loc[label, ["likeness", "likeness_low", "likeness_high"]], ".2f")
        for label in ("distilled", "MLP")
    ]
    return f"The likeness is {each[0]}, that of a plain MLP {each[1]}"


def of_own_teacher(name):
    """How much nearer two kinds of network are to the teacher of their seed than to others, in words."""
    both = views.common_seeds(runs[name], [end for who in LIKE for end in (who, f"{who}, other teachers")])
    found = both.groupby("label")["likeness"].mean()
    near = {who: found.get(who, math.nan) - found.get(f"{who}, other teachers", math.nan) for who in LIKE}
    if any(map(math.isnan, near.values())):
        return ""
    student, plain = near.values()
    return f"Its own teacher is ahead of others by {student:.2f}; with two trained MLPs by {plain:.2f}"


def of_bound(name):
    """What Eq. 14 allows and what is the case, in words."""
    if name not in bounds or "distilled" not in set(bounds[name]["label"]):
        return ""
    row = bounds[name].set_index("label").loc["distilled"]
    return (
        f"How much does Eq. 14 say? The student's logloss differs from the teacher's by {row['risk_gap']:.4f}, and the bound "
        f"allows {row['logit_mean']:.2f}."
    )


def said(name):
    """What the measured networks of one data set show, finding by finding."""
    found = judged[name]
    return views.findings(
        name,
        [
            views.answer(
                "Does the student inherit the teacher's interactions?",
                found,
                "student-inherits-interactions",
                told=of_likeness(name),
            ),
            views.answer(
                "Are these interactions its own teacher's more than those of others?",
                found,
                "student-has-its-own-teachers-map",
                told=of_own_teacher(name),
            ),
            views.answer(
                "Is the parallel stream less like the teacher than the main one?",
                found,
                "parallel-is-less-like-the-teacher",
            ),
            of_bound(name),
        ],
    )


LIKE = ("distilled", "two trained MLPs")
told = [said_of_study()] if not study.empty else []
told += [said_of_derivatives(), *(said(name) for name in shown)]
Markdown("\n\n".join(told))

# %% [markdown]
# **What Eq. 11 to 13 can bear.** The universal approximation theorem says that some wide network is near the teacher. Whether training finds
# it, at a given width and with a click loss beside, is what the study measures.
#
# Eq. 13 needs second derivatives that the student does not have.
# Nothing is lost with it: on categorical fields second differences follow from the outputs alone. A student that agrees with its teacher
# at all combinations agrees in every interaction.
#
# **How sure are we.** The study has one shape of truth, one noise and one protocol, and the true GDCN is mostly its cross network. Its intervals
# hold over truths, clicks and weights of that kind.
#
# On real data the maps are measured between rows of the test split, so they
# weigh frequent values. Likeness is a correlation over few pairs of fields and moves with every one of them; the controls move with it.
#
# ## Exercises
#
# **1.** How near to the truth does the teacher's cross network come if its output may be stretched and shifted to fit?
#
# ````{dropdown} A solution
# The best line through the true logit leaves $1 - r^2$ of its variance, $r$ being the correlation.
# ```python
# from ctrlib.lab.fidelity import LOGIT_STD, measure_cell
#
# for stream, found in measure_cell(1, "reference").items():
#     print(stream, found["logit_mse"], LOGIT_STD**2 * (1 - found["correlation"] ** 2))
# ```
# Where the second number is much smaller, the stream has the right shape at the wrong size.
# ````
#
# **2.** A sum of functions of single fields has no interaction. What does Eq. 12 say of its probability?
#
# ````{dropdown} A solution
# With $f = g(x_i) + h(x_j)$ the mixed derivative of $f$ is 0, that of $\sigma(f)$ is $\sigma''(f)\, g'(x_i)\, h'(x_j)$. It is 0 only where
# $f = 0$ or a derivative vanishes. So on probabilities every model interacts.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
sources = [
    {"what": "synthetic study", "seed": seed, "networks of": f"{len(one['cells'])} cells"}
    | {"processor": one["environment"]["device_name"], "code": one["commit"] or ""}
    for seed, one in stored_study().items()
]
if sources:
    display(figure_table(pd.DataFrame(sources), caption="Seeds of the study, recorded."))
counted = [
    {"data": name, "network": TITLES[label], "seeds": ", ".join(str(seed) for seed in sorted(part["seed"]))}
    for name in shown
    for label, part in runs[name].groupby("label")
    if label in PLACES
]
if counted:
    display(figure_table(pd.DataFrame(counted), caption="Networks measured on test rows."))
names = {cell for _, cell, _ in PLACES.values()} | {"GDCN"}
records = [record for record in experiment_records("fidelity") if record["label"] in names]
footer("fidelity", records, shown=shown, caption="The runs that left these networks.")

# %% [markdown]
# **Next.** {doc}`/chapters/12_case_study` looks at single rows, and at what happens to a teacher's errors.
