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
# (sec-khatri-rao)=
# # From Hadamard to Khatri-Rao
#
# T9 multiplies its input with one linear map of it, coordinate by coordinate: a Hadamard product. The QNN-alpha paper
# {cite:p}`li2025qnn` puts a Khatri-Rao product in its place (sections 3.1 and 3.2). It has a number of rows $R$ as a new
# size, and heads $H$ that are meant to divide the cost.
#
# What does a row add? What does a head save? The answers depend on two details: an activation between the map and the
# product, and the order in which the authors' code adds up coordinates.
#
# **Before you read on.** You need T9 and T19 from {doc}`/chapters/01_activation`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]

import pandas as pd
import torch
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.bench import tables
from ctrlib.figures import curves, figure_table, scatter
from ctrlib.khatri_rao import MultiHeadKhatriRao
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.headline import NAME, headline, variants
from ctrlib.lab.provenance import learning_curves
from ctrlib.lab.tables import papers_table
from ctrlib.neurons import FORMATS, NeuronLayer
from ctrlib.views.footer import footer

# %% [markdown]
# ## The product
#
# The Khatri-Rao product of two matrices with $d$ columns takes the Kronecker product column by column. With one row on the
# left, $x^\top$, and $R$ rows $g_1 \dots g_R$ on the right it has the rows $x \odot g_r$. The paper then sums them, to keep the
# width $d$ (Eq. 7 and 8):
#
# $$
# x \circledast G = \sum_{r=1}^{R} x \odot g_r = x \odot \sum_{r=1}^{R} g_r .
# $$
#
# The second form says what the sum-pooled product is: a Hadamard product of $x$ with a *sum* of rows. Our layer computes
# it in this form and never builds the $R$ products.
#
# ## Why rows collapse without an activation
#
# The Khatri-Rao form of T9 is Eq. 9, $\sum_r x \odot (W_r x + b_r) + x$. The sum of $R$ linear maps is one linear map, so this is
# T9 with the weights $\sum_r W_r$, whatever $R$ is. We check it in double precision. The last column asks the same with a
# ReLU on each row: how far is the layer from the nearest T9, as a share of its product term?


# %%
def collapse(rows: int, mid_activation: str) -> float:
    """Distance of a layer from the T9 with the summed weights, relative to the product term, in float64."""
    torch.manual_seed(rows)
    layer = MultiHeadKhatriRao(7, 16, rows=rows, mid_activation=mid_activation).double()
    x = torch.randn(1, 4000, 112, dtype=torch.float64)
    t9 = NeuronLayer(FORMATS["T9"], 112).double()
    with torch.no_grad():
        product = layer(x)[0] - x[0]
        if mid_activation == "none":
            t9.W.weight.copy_(layer.map.weight.unflatten(0, (rows, 112)).sum(0))
            t9.W.bias.copy_(layer.map.bias.unflatten(0, (rows, 112)).sum(0))
        else:  # the affine map that comes nearest to the gate
            gate = product / x[0]
            inputs = torch.cat([x[0], torch.ones(len(gate), 1, dtype=torch.float64)], dim=1)
            best = torch.linalg.lstsq(inputs, gate).solution
            t9.W.weight.copy_(best[:-1].T)
            t9.W.bias.copy_(best[-1])
        difference = t9(x[0], x[0]) - layer(x)[0]
        return float(difference.norm() / product.norm())


ROWS_SHOWN = [1, 2, 4, 8, 13]
gone = pd.DataFrame(
    [
        {"rows": r, "without activation": collapse(r, "none"), "with ReLU": collapse(r, "relu")}
        for r in ROWS_SHOWN
    ]
)
digits = {"without activation": ".1e", "with ReLU": ".3f"}
figure_table(gone, formats=digits, caption="Distance from the nearest T9, as a share of the product term.")

# %% [markdown]
# Without activation nothing is left but rounding, so the rows of Eq. 9 as printed cannot add capacity. With a ReLU no T9
# can follow, already at one row. The share falls with more rows, because a sum of many random rows looks more linear at the
# start of training. That rows *can* add functions follows from the algebra: a sum of ReLUs of different maps is in general
# no ReLU of one map. Whether training uses this is what the runs show.
#
# ## What heads do
#
# Section 3.2 splits $x$ into $H$ parts and gives each its own, smaller product. That would divide weights and multiply-adds by
# $H$. The authors' code keeps one full map and cuts its *output* into heads. We have three modes:
#
# - **written**: the text. Each head maps its own part, $R(d^2/H + d)$ weights.
# - **released**: the code. One full map, $R(d^2 + d)$ weights for any $H$. The product is laid out head by head and then added to an
#   input that is laid out field by field.
# - **aligned**: the released map, with the product put back in order before it is added. That is the layer with one head,
#   with the rows of its map in another order. Its differences from one head show the noise of a new start.
#
# The text does not say how $x$ is cut. We cut every field's embedding into $H$ slices, as the code does.
#
# In released mode a coordinate is therefore added to another coordinate's product. How many coordinates still meet
# themselves?


# %%
def meets_itself(fields: int, width: int, heads: int) -> float:
    """Share of coordinates that the released order leaves in place."""
    layer = MultiHeadKhatriRao(fields, width, rows=1, heads=heads)
    place = torch.arange(fields * width)
    return float((layer.to_head_major(place) == place).double().mean())


SHAPES = {"ML-1M": (7, 16), "Frappe": (10, 16), "iPinYou": (16, 16), "KKBox": (13, 128)}
order = [
    {"data": name, **{f"H = {h}": 100 * meets_itself(*shape, h) for h in (1, 2, 4, 8)}}
    for name, shape in SHAPES.items()
]
digits = {f"H = {h}": ".1f" for h in (1, 2, 4, 8)}
figure_table(
    pd.DataFrame(order),
    formats=digits,
    caption="Coordinates added to their own product, released mode, percent.",
)

# %% [markdown]
# ## What we ran
#
# QNN-alpha at its chosen settings (see {doc}`/chapters/05_qnn_alpha`), with one thing changed at a time: the rows; the rows
# without mid activation; the heads in each mode. Three seeds a cell.
# The cells of QNN-alpha itself and of its ablations come from {doc}`/chapters/05_qnn_alpha` and can have more.

# %%
ROWS = {f"rows={rows}": {"rows": rows} for rows in (2, 4, 8, 13, 20)}
LINEAR_ROWS = {f"rows={rows}.identity": {"rows": rows, "mid_activation": "none"} for rows in (1, 4)}
PATIENT = {"learning_rate_factor": 0.5, "patience": 4}  # of the protocol: cut the rate less, stop later
ONE_ROW = {
    "hadamard": {"rows": 1},
    "rows=1.identity": {"rows": 1, "mid_activation": "none"},
    "no-mid-activation": {"mid_activation": "none"},
}
HEADS = {
    f"heads={heads}.{mode}": {"heads": heads, "mode": mode}
    for heads in (2, 4, 8)
    for mode in ("written", "released", "aligned")
}
PLANS = {
    "smoke": {"cells": ["rows=2"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {
        "cells": ["rows=2", "heads=4.written", "heads=4.released"],
        "seeds": [1],
        "rows": None,
        "max_epochs": 100,
    },
    "paper": {
        "cells": ["rows=2", "heads=4.written", "heads=4.released"],
        "seeds": [1],
        "rows": None,
        "max_epochs": 100,
    },
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def full_grid(data):
    """Rows and heads around the chosen settings. One row, and 13 without activation, belong to the ablations."""
    default = headline(data)
    cells = variants(default, ROWS | LINEAR_ROWS | HEADS)
    grid = Grid("khatri-rao").add(data, cells, default.protocol, range(1, 4))
    cells = {NAME: (NAME, default.settings)} | variants(default, ONE_ROW)
    patient = {f"{label}.patient": cell for label, cell in cells.items()}
    return grid.add(data, patient, default.protocol.replace(**PATIENT), range(1, 4))


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(full_grid(data), device=device)

# %% tags=["hide-input"]
records = experiment_records("khatri-rao")
runs = {name: experiment_runs("khatri-rao", name, records) for name in RECORDED}
shown = measured_on("khatri-rao", runs)
defaults = {name: headline(name) for name in shown}
views.waiting(RECORDED[1:], shown)

# %% [markdown]
# ## Rows
#
# Test AUC over the number of rows, with the ReLU inside and without it.


# %% tags=["hide-input"]
def row_sweep(name):
    """The sweep over rows, with and without mid activation."""
    chosen = defaults[name].settings["rows"]
    relu = {"hadamard": 1.0, NAME: chosen, **{label: change["rows"] for label, change in ROWS.items()}}
    identity = {
        "no-mid-activation": chosen,
        **{label: change["rows"] for label, change in LINEAR_ROWS.items()},
    }
    parts = [
        views.sweep(runs[name], values, "number of rows").assign(gate=gate)
        for gate, values in (("ReLU", relu), ("no activation", identity))
    ]
    return pd.concat(parts, ignore_index=True)


swept = {name: row_sweep(name) for name in shown}
for name in shown:
    figure = views.sweep_figure(swept[name], "number of rows", name, "rows R", color="gate")
    caption = "Without activation rows add no capacity. Where that line rises all the same, it is training that gains."
    views.show(figure, caption, "more-rows-help")
    extra = {"gate": ("mid activation", "")}
    display(views.sweep_table(swept[name], "number of rows", f"Rows on {name}. Intervals over seeds.", extra))

# %% [markdown]
# ## Capacity, or speed?
#
# Without activation all numbers of rows span the same functions, so a gain there cannot be capacity. The learning curves
# show what it can be. On MovieLens-100K every run climbs to a plateau. Those with many rows leave it soon. Those with few
# stay for many epochs, and if validation AUC dips once meanwhile, the schedule cuts the learning rate to a tenth and they
# never leave.
#
# $R$ equal maps move the gate $R$ times as fast as one. So we ran one row and 13 rows again under a more patient schedule:
# the rate is halved and not cut to a tenth, and training stops after four epochs without gain and not after two.

# %% tags=["hide-input"]
CURVES = {"rows=1.identity": "1 row", "rows=4.identity": "4 rows", "no-mid-activation": "13 rows"}
for name in shown:
    lines = learning_curves([r for r in records if r["dataset"] == name and r["label"] in CURVES])
    lines = lines[lines["seed"] <= 3].sort_values(["label", "seed", "epoch"])
    lines["run"] = lines["label"].map(CURVES) + ", seed " + lines["seed"].astype(str)
    figure = curves(
        lines, "epoch", "valid_auc", "run", y_title="validation AUC", title=f"{name}, no activation"
    )
    views.show(
        figure,
        "Without activation. Look for runs that stay on the first plateau.",
        "rows-help-without-activation",
    )

# %% tags=["hide-input"]
SCHEDULES = {
    "hadamard": "1 row, ReLU",
    NAME: "13 rows, ReLU",
    "rows=1.identity": "1 row, no activation",
    "no-mid-activation": "13 rows, no activation",
}
PATIENT_PAIRS = {shown_as: (f"{label}.patient", label) for label, shown_as in SCHEDULES.items()}
GAIN_COLUMNS = {"format": ("network", ""), "left_mean": ("AUC, patient", ".4f"), "right_mean": ("AUC", ".4f")}
GAIN_COLUMNS |= {"difference": ("gain, points of AUC", "+.2f")}
GAIN_COLUMNS |= {"seeds": ("seeds", "")}
for name in shown:
    rows = views.gaps(runs[name], PATIENT_PAIRS)
    if len(rows):
        display(
            views.table(rows, GAIN_COLUMNS, f"What patience gains on {name}, paired by seed, points of AUC.")
        )

# %% [markdown]
# ## Heads
#
# Paired differences from one head, where the three modes are the same layer.

# %% tags=["hide-input"]
HEAD_NAMES = {
    NAME: "1 head",
    **{label: label.removeprefix("heads=").replace(".", " heads, ") for label in HEADS},
}
for name in shown:
    rows = views.against(runs[name], NAME, HEAD_NAMES)
    if len(rows) > 1:
        views.show(
            views.against_figure(rows, "one head", name),
            "Heads in three modes; the dashed line is one head.",
            "heads-improve",
        )
        display(views.comparison(rows, f"Heads on {name}."))

# %% [markdown]
# ## Latency
#
# Table 6 of the paper has latency falling with the heads and gives the heads the credit. The released layer does the same
# arithmetic for any $H$; for $H > 1$ it also copies its input into another order. We measured forward passes at the sizes of the authors' logs, all modes and heads in turn, in batches of
# 100 and of 4,096 rows, always given for 100 rows.

# %% tags=["hide-input"]
latency = tables.latency()
LATENCY = {"data": ("shape", ""), "mode": ("mode", ""), "heads": ("heads", ".0f"), "batch": ("batch", ",")}
LATENCY |= {"latency": ("ms", ".3f"), "low": ("low", ".3f"), "high": ("high", ".3f")}
LATENCY |= {"multiply_adds": ("multiply-adds a row", ","), "parameters": ("weights without table", ",")}
if latency.empty:
    display(Markdown("Latency has not been measured yet: `ctrlib bench latency`."))
else:
    for data, part in latency[latency["batch"] == 4096].groupby("data", sort=False):
        titles = {"x_title": "heads H", "y_title": "ms for each 100 rows", "title": data}
        drawn = {"color": "mode", "joined": True, "names": False}
        caption = "Batches of 4,096 rows, medians. Only the written mode has less to do when H grows."
        with_heads = part.dropna(subset="heads")
        views.show(
            scatter(with_heads, "heads", "latency", "mode", **drawn, **titles),
            caption,
            "heads-reduce-latency-released",
        )
    display(views.table(latency, LATENCY, "Latency on a CPU: median, smallest and largest turn."))

# %% [markdown]
# The paper's Table 6, on its own hardware:

# %% tags=["hide-input"]
printed = papers_table("qnn_table6")
printed = printed.pivot(index=["model", "heads"], columns=["dataset", "metric"], values="value")
METRICS = {"auc_pct": ("AUC %", ".2f"), "logloss": ("logloss", ".4g"), "latency_ms": ("ms", ".2f")}
printed.columns = [f"{data} {METRICS[metric][0]}" for data, metric in printed.columns]
digits = {column: spec for column in printed for name, spec in METRICS.values() if column.endswith(name)}
printed = printed.reset_index().sort_values(["heads", "model"], na_position="first")
figure_table(printed, formats=digits | {"heads": ".0f"}, caption="Table 6 of the paper, one run each.")

# %% [markdown]
# Table 6 does not say how wide its FinalMLP and FINAL are. Ours have the widths of the open benchmark, so only the order of
# magnitude can be compared.
#
# ## Made in this build

# %% tags=["hide-input"]
default = headline(EMBEDDED)
cells = variants(default, ROWS | HEADS)
fresh = Grid("khatri-rao").add(
    EMBEDDED,
    {label: cells[label] for label in plan["cells"]},
    default.protocol.replace(max_epochs=plan["max_epochs"]),
    plan["seeds"],
    rows=plan["rows"],
)
made = run_anew(fresh, device=device)
beside = views.made(made, runs[EMBEDDED] if plan["rows"] is None else None)
views.table(beside, views.MADE_COLUMNS, "Runs of this build, beside their records.")

# %% [markdown]
# ## Claims and verdicts

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, "khatri-rao", shown)
turns = pd.DataFrame() if latency.empty else tables.latency_runs(4096, int(latency["threads"].max()))
timed = {}
if not turns.empty:
    shapes = list(dict.fromkeys(turns["dataset"]))
    display(
        Markdown(
            "Latency at the sizes of three data sets; here the seeds are turns, and effects are milliseconds."
        )
    )
    timed = views.verdicts(dict.fromkeys(shapes, turns), "latency", shapes)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def said(name):
    """What rows and heads do on one data set, finding by finding."""
    found, relu = verdicts[name], swept[name][swept[name]["gate"] == "ReLU"]
    rising = cost = ""
    if len(relu) > 1:
        first, last = relu.iloc[0], relu.iloc[-1]
        ends = f"{first['number of rows']:.0f} to {last['number of rows']:.0f} rows"
        rising = f"From {ends} it goes from {first['test_auc']:.2f} to {last['test_auc']:.2f} %"
        cost = f"What do the rows cost? The weights go from {first['parameters']:,.0f} to {last['parameters']:,.0f}."
    return views.findings(
        name,
        [
            views.answer("Does AUC rise with every step in rows?", found, "more-rows-help", told=rising),
            views.answer("Is one row the worst?", found, "one-row-is-worst"),
            views.answer("Do rows help without mid activation too?", found, "rows-help-without-activation"),
            lead_of_rows(name),
            cost,
            views.answer("Do heads improve the released layer?", found, "heads-improve"),
        ],
    )


def lead_of_rows(name):
    """What the chosen rows gain on one row, under both schedules and on both sides, over the same seeds."""
    sides = {"With ReLU": (NAME, "hadamard"), "Without": ("no-mid-activation", "rows=1.identity")}
    told = []
    for side, (many, one) in sides.items():
        pairs = {"the authors'": (many, one), "the patient": (f"{many}.patient", f"{one}.patient")}
        rows = views.gaps(runs[name][runs[name]["seed"] <= 3], pairs)
        each = [
            f"{views.estimate(row.difference, row.low, row.high)} under {row.format}"
            for row in rows.itertuples()
        ]
        if len(rows) == len(pairs):
            told.append(f"{side}, many rows lead one row by {' and by '.join(each)} schedule.")
    if not told:
        return ""
    return f"Is the gain capacity, or speed? {' '.join(told)} Without ReLU it cannot be capacity."


def from_one_to_eight(shape, mode):
    """The median latency with one head and with eight, in words."""
    rows = latency.query("data == @shape and batch == 4096 and mode == @mode")
    ms = rows[rows["threads"] == latency["threads"].max()].set_index("heads")["latency"]
    if not {1, 8} <= set(ms.index):
        return ""
    return f"{ms[1]:.3f} ms for 100 rows with one head, {ms[8]:.3f} ms with eight"


def said_of_latency(shape):
    """Whether latency falls with the heads, and in which mode, finding by finding."""
    found = timed[shape]
    return views.findings(
        f"Latency, sizes of {shape}",
        [
            views.answer(
                f"Does latency fall with every step in heads, as {mode}?",
                found,
                f"heads-reduce-latency-{mode}",
                told=from_one_to_eight(shape, mode),
            )
            for mode in ("written", "released")
        ]
        + [
            views.answer(
                "With the heads that the paper calls best, is the released network faster than FINAL?",
                found,
                "latency-below-final",
            )
        ],
    )


Markdown("\n\n".join([*(said(name) for name in shown), *(said_of_latency(shape) for shape in timed)]))

# %% [markdown]
# **Why training can differ where functions do not.** Besides the speed, dropout strikes every row by itself, and batch norm
# rescales each row.
#
# A gap between cells without activation is a matter of optimisation, not of capacity.
#
# **How sure are we.** The rows are summed, not averaged, so more rows also make the product larger. Batch norm, dropout and
# the L2 strength were chosen for the default number of rows. The sweep does not separate capacity from scale.
#
# Three seeds give an interval and no test.
#
# Latency was measured on one CPU; on a GPU small products are
# limited by launches, and the order of the modes may change there.
#
# ## Exercises
#
# **1.** Show that the released layer with $H > 1$ is, up to the order of its output, an aligned layer whose residual is
# permuted.
#
# ````{dropdown} A solution
# With $\Pi$ the reordering, released is $x + \Pi x \odot g$ and aligned is $x + \Pi^{-1}(\Pi x \odot g)$. Multiply the first by $\Pi^{-1}$: it
# becomes $\Pi^{-1}x + \Pi^{-1}(\Pi x \odot g)$, the aligned product added to $\Pi^{-1} x$ in place of $x$.
# ````
#
# **2.** Sum pooling throws the separate products away. What would the layer cost if it kept all $R$ of them?
#
# ````{dropdown} A solution
# Its output would be $Rd$ wide. The next layer multiplies that with $R$ rows of the same width, so its map would have
# $R\,(Rd)^2 = R^3 d^2$ weights in place of $R d^2$, its output would be $R^2 d$ wide, and so on. A residual would need a map as
# well. With 13 rows at $d = 160$ the second layer would have 56 million weights.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("khatri-rao", records, made, shown=shown)

# %% tags=["hide-input"]
origins = tables.origins()
figure_table(
    origins[origins["file"].str.contains("latency")],
    caption="The latency was measured with ctrlib bench latency. The file also holds that of other chapters' systems.",
)

# %% [markdown]
# **Next.** {doc}`/chapters/04_self_ensemble` looks at the loss.
