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
# (sec-speed)=
# # How fast, and why
#
# A spread over seeds needs many runs, and many runs need a fast step. The models of both papers are small: a batch of a
# few thousand rows through a few hundred columns. What should such a step cost, what does it cost, and where does the
# difference go?
#
# The QNN-alpha paper has two tables on cost. Table 1 gives minutes for each epoch, where formats with a full tensor
# take many times as long as the others. Table 7 gives the price of the second pass that the self-ensemble loss needs.
# Their hardware is not ours, so we compare ratios, never seconds.
#
# **Before you read on.** You need to know what a matrix product and a backward pass are.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # paper profile: where to measure
peer_python = ""  # paper profile: a Python that has FuxiCTR 2.3.10, to measure the peers as well

# %% tags=["hide-input"]
import statistics
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.bench import tables
from ctrlib.bench.floors import copy_rate, matrix_rate, seconds_each, work_of_step
from ctrlib.data import synthetic_dataset
from ctrlib.errors import unknown
from ctrlib.figures import curves, figure_table, intervals, logarithmic, scatter, stacked
from ctrlib.lab import load_records, run_grid
from ctrlib.lab.precision import both_precisions, equality, precision_grid, trials
from ctrlib.lab.runner import environment
from ctrlib.lab.stats import MARGIN
from ctrlib.lab.tables import papers_table
from ctrlib.models import build_model
from ctrlib.train import Protocol
from ctrlib.train.fit import Trainer
from ctrlib.views.footer import footer

REPEATS = {"smoke": 3, "quick": 15, "paper": 11}
DATA = "frappe_x1-rebuilt"
if profile not in REPEATS:
    raise unknown("profile", profile, REPEATS)
if profile == "paper":
    from ctrlib.bench.epochs import GROUPS, measure_epochs
    from ctrlib.bench.ladder import measure_ladder
    from ctrlib.bench.peers import measure_peers
    from ctrlib.bench.steps import measure_steps
    from ctrlib.bench.systems import SYSTEMS

    run_grid(precision_grid(DATA), device=device)
    measure_steps([], REPEATS[profile], None, device)
    library = Path(peer_python) if peer_python else None
    measure_peers(list(SYSTEMS), DATA, 5, None, library, device)
    if device == "cpu":
        measure_ladder(5, None)
    else:
        measure_epochs(GROUPS, 5, None, device)
pd.Series({"profile": profile, "device": device, "repeats": REPEATS[profile]}).rename("parameters").to_frame()

# %% [markdown]
# ## The floor
#
# A training step has matrix products to do, forwards and backwards, and bytes to move through memory. With $n$
# operations, $m$ bytes, a matrix rate $r$ and a copy rate $c$ it should take about
#
# $$
# t = \max\left(\frac{n}{r}, \frac{m}{c}\right)
# $$
#
# when both go on at the same time. We call this the floor. A program that computes things again instead of keeping
# them, or that finds them in a cache, can do with fewer bytes.
#
# We count $n$ from the products that really run, and $m$ as what is kept for the backward pass, written once and read
# once, plus the optimiser's seven passes over the parameters. The rates are measured beside every step, in float32.
#
# Here is the floor on the computer that built this page, for T9 with 10 fields and a batch of 4,096 rows:

# %% tags=["hide-input"]
torch.manual_seed(1)
data = synthetic_dataset((8192, 1024, 1024), [500] * 10)
model = build_model("T9", data.schema, seed=1)
run = Trainer(model, data, Protocol(embedding_regularizer=0.01), 1, torch.device("cpu"))
batch = data.train.ids[:4096], data.train.labels[:4096]
model.train()
taken = seconds_each(lambda: run.step(*batch), REPEATS[profile])
matrix, copy, work = matrix_rate(), copy_rate(), work_of_step(model, *batch)
here = pd.DataFrame(
    [
        {
            "processor": environment("cpu", 1)["device_name"],
            "threads": torch.get_num_threads(),
            "matrix rate, GFLOP/s": matrix / 1e9,
            "copy rate, GB/s": copy / 1e9,
            "floor, ms": 1e3 * work.floor(matrix, copy),
            "step, ms": 1e3 * statistics.median(taken),
            "smallest": 1e3 * min(taken),
            "largest": 1e3 * max(taken),
        }
    ]
)
figure_table(
    here,
    formats=dict.fromkeys(here.columns[2:], ".1f"),
    caption="Measured while this page was built: median step and its range.",
)

# %% [markdown]
# ## From a plain loop to ours
#
# Start from the loop that most of us would write first: a `DataLoader`, one embedding for each field, the framework's
# Adam and dropout, the penalty as a term of the loss, two passes after one look-up for the self-ensemble loss. Then change one
# thing at a time. The system is QNN-alpha with the settings of the authors' best run on Frappe: 13 rows, 2 layers, batch
# norm, two passes.
#
# The rungs between the first shared table and the last but one were timed with embeddings of zero, which costs the same
# operations and memory traffic.

# %% tags=["hide-input"]
rungs = tables.ladder()
if len(rungs):
    shown = rungs[["rung", "batch", "low", "high", "gain", "in_all", "repeats"]]
    headings = {"batch": "ms a batch", "gain": "gain of this step", "in_all": "gain so far"}
    digits = {"batch": ".0f", "low": ".0f", "high": ".0f", "gain": ".2f", "in_all": ".2f"}
    caption = "One change at a time. Median over repeats, each in a process of its own, with the range."
    display(figure_table(shown, formats=digits, headings=headings, caption=caption))
else:
    display(Markdown("The ladder is not measured yet."))

# %% tags=["hide-input"]
if len(rungs):
    figure = intervals(rungs, "batch", "rung", "low", "high", x_title="milliseconds a batch", format=".0f")
    figure.update_xaxes(rangemode="tozero")
    views.show(figure, "Milliseconds of a batch of 4,096 rows, loading included. Bars span the repeats.")

# %% [markdown]
# What each change does:
#
# - **Tensors in memory, one gather.** A data loader picks rows one by one and stacks them. A batch is one gather from a
#   tensor.
# - **One table for all fields.** One look-up in place of ten. When the ladder was climbed, its gradient was the framework's
#   scatter. It is slow where the embedding width does not fill the processor's vector registers, as ten numbers do not;
#   now a compiled loop adds it up, with the same bits.
# - **The framework's fused Adam.** One flag: one pass over the parameters in place of many.
# - **Penalty and clipping in Adam's pass.** The penalty is Adam's own weight decay, as long as nothing is clipped. The
#   bits stay the same.
# - **Freed memory kept.** By default the C library hands large blocks back to the system, and every step pays for
#   fresh pages. When the ladder was climbed, it kept blocks of at most 32 MB. Now it keeps those of any size; the gate
#   of this system is larger.
# - **Dropout from random words.** One 64-bit word of the generator serves four positions.
# - **Rows summed before the product.** $\sum_r x \odot g_r = x \odot \sum_r g_r$, so the $B \times R \times d$ product
#   is never formed.
# - **First layer shared, compiled loops.** Both passes see the same embeddings, so the first map and its batch
#   statistics are the same; they part at the first dropout. Batch norm, ReLU, dropout and the sum over rows run as one
#   loop over memory, forwards and backwards.
#
# Every change of the arithmetic has a test that compares it with the plain form. In a system of this size the loader, the look-ups and
# the optimiser hardly count; they do in small ones, as the first rows of the table of
# {ref}`other implementations <sec-peers>` show.

# %% [markdown]
# ## Where the time goes

# %% tags=["hide-input"]
measured = tables.steps()
parts = [column for column in measured.columns if column.startswith("part ")]
systems = measured[measured["group"] == "systems"] if len(measured) else measured
if len(systems):
    names = {part: part.removeprefix("part ") for part in parts}
    figure = stacked(systems, "name", parts, names=names, x_title="milliseconds of a step")
    views.show(
        figure,
        "One training step on Frappe's shape, by the part that takes the time. The profiler that counts the parts "
        "slows small operations down, so the bars are somewhat longer than the steps in the next table.",
    )

# %% tags=["hide-input"]
STEP_COLUMNS = {
    "name": ("step", ""),
    "step": ("ms", ".1f"),
    "low": ("smallest", ".1f"),
    "high": ("largest", ".1f"),
    "floor": ("floor, ms", ".1f"),
    "over_floor": ("times the floor", ".2f"),
    "gflops": ("GFLOP/s", ".0f"),
    "samples_per_second": ("samples/s", ",.0f"),
    "memory": ("peak MB", ",.0f"),
    "parameters": ("parameters", ",.0f"),
}
if len(measured):
    caption = (
        f"Every measured step beside its floor, on {measured['device_name'].iloc[0]} with "
        f"{measured['threads'].iloc[0]} threads. The rates behind the floor were measured in the same process."
    )
    display(views.table(measured, STEP_COLUMNS, caption))
else:
    display(Markdown("No step is measured yet."))

# %% [markdown]
# The next figure is the usual roofline. To the right a step does many operations for each byte, and the matrix rate
# limits it. To the left memory does. The distance of a point below the line is what could still be gained.

# %% tags=["hide-input"]
if len(measured):
    figure = scatter(
        measured,
        "intensity",
        "gflops",
        "name",
        color="group",
        names=False,
        x_title="matrix operations for each byte of memory traffic",
        y_title="GFLOP/s of matrix products",
        height=520,
    )
    rate, bandwidth = measured["matrix_rate"].median(), measured["copy_rate"].median()
    edges = sorted([measured["intensity"].min() / 2, rate / bandwidth, measured["intensity"].max() * 2])
    roof = {"mode": "lines", "name": "roof", "line": {"dash": "dash", "color": "#767676"}}
    figure.add_scatter(x=edges, y=[min(rate, edge * bandwidth) for edge in edges], **roof)
    logarithmic(figure)
    views.show(
        figure,
        "Steps under the roof of this computer: median matrix rate and copy rate over all measurements. Point at a "
        "mark to read its name.",
    )

# %% [markdown]
# (sec-peers)=
# ## Beside other implementations
#
# The same system, data and batch in a plain loop and in FuxiCTR {cite:p}`zhu2022bars`, the library that both papers
# build on. The sides take turns on one computer, each in a process of its own. Ten batches warm up; then one epoch and
# one validation count.
#
# FuxiCTR has neither T9 nor QNN-alpha. In its loop T9 is written in plain PyTorch, without dropout on any side, and
# QNN-alpha's layer is the released one.
#
# What is not equal. We evaluate in larger batches than the others, who use the training batch. The plain loop computes
# no logloss. FuxiCTR's loader runs as the library sets it, with a worker process of its own. The last columns are our
# times with matrix products in bfloat16; {ref}`below <sec-precision>` we ask whether such a run scores the same.

# %% tags=["hide-input"]
peers = tables.peers()
if len(peers):
    if peers["stand_in"].any():
        note = (
            "The stored figures of T9's other sides are older than that. They ran the cross network, "
            "$x_0 \\odot W x + x$, in its place: as many parameters and products, but another function. Read them "
            "as figures of a network of T9's size."
        )
        display(Markdown(note))
        peers.loc[peers["stand_in"], "side"] += ", cross network"
    columns = {
        "system": ("system", ""),
        "side": ("implementation", ""),
        "epoch": ("epoch, s", ".2f"),
        "low": ("smallest", ".2f"),
        "high": ("largest", ".2f"),
        "evaluate": ("of it validation, s", ".2f"),
        "epoch_ratio": ("times ours", ".1f"),
        "epoch_low": ("from", ".1f"),
        "epoch_high": ("to", ".1f"),
        "bf16_epoch_ratio": ("times ours in bf16", ".1f"),
        "bf16_epoch_low": ("from", ".1f"),
        "bf16_epoch_high": ("to", ".1f"),
        "evaluate_ratio": ("validation, times ours", ".1f"),
        "auc": ("AUC %", ".2f"),
        "auc_low": ("AUC from", ".2f"),
        "auc_high": ("AUC to", ".2f"),
        "memory": ("peak MB", ",.0f"),
        "repeats": ("repeats", ""),
    }
    caption = (
        "One epoch with its validation on Frappe. Ratios are formed within a round: median, smallest, largest. "
        "AUC after the same number of batches, over seeds."
    )
    columns = {name: shown for name, shown in columns.items() if name in peers}
    display(views.table(peers, columns, caption))
else:
    display(Markdown("The peers are not measured yet."))

# %% [markdown]
# (sec-precision)=
# ## A faster precision
#
# Newer processors and GPUs multiply numbers of eight significant bits, bfloat16, several times faster than fp32.
# `Protocol(precision="bf16")` uses them for matrix products: factors and results are rounded, and sums are taken in fp32.
# Weights, optimiser, batch statistics, logits and loss stay in fp32.
#
# Does a network that is trained so score the same? Runs of other chapters are made again in bfloat16, with the same seeds:
# QNN-alpha's headline, and two rows of the overall table. Rounding sends every run down a path of its own, so the runs of a
# pair differ. What counts is whether the interval of their mean difference stays within the margin that this book calls equal.

# %% tags=["hide-input"]
trained = both_precisions(DATA)
equal = set()
if (trained["experiment"] == "speed").any():
    pairs = equality(trained).reset_index(names="system")
    equal = set(pairs.loc[pairs["equal"], "system"])
    pairs["equal"] = pairs["equal"].map({True: "yes", False: "no"})
    pairs[["left_mean", "right_mean", "difference", "low", "high"]] *= 100
    columns = {
        "system": ("system", ""),
        "left_mean": ("AUC % in bf16", ".2f"),
        "right_mean": ("AUC % in fp32", ".2f"),
        "difference": ("difference", "+.3f"),
        "low": ("from", "+.3f"),
        "high": ("to", "+.3f"),
        "seeds": ("seeds", ""),
        "equal": ("shown equal", ""),
    }
    caption = (
        f"Test AUC on {DATA}. Differences in points with 95 % intervals over paired seeds; equal means inside "
        f"{100 * MARGIN:g} points on either side."
    )
    display(views.table(pairs, columns, caption))
else:
    display(Markdown("No system has been trained in bfloat16 yet."))

# %% [markdown]
# These were not the first runs. We began with the settings of the measured epochs, which have no dropout, and went no further than the
# runs below. There some seeds end on the plateau that {doc}`/chapters/01_activation` describes, far below the others. A pair
# can then differ by whole points because one run leaves the plateau and the other does not, which would say nothing about
# rounding. So we changed to runs that other chapters report, after we had seen these.

# %% tags=["hide-input"]
first = trials(DATA)
if len(first):
    figure_table(
        first,
        formats={"AUC % in fp32": ".2f", "AUC % in bf16": ".2f"},
        caption=f"The first runs, without dropout. Test AUC on {DATA}, one seed a row; a dash: not run.",
    )

# %% [markdown]
# ## What rows, heads, layers, fields and batch cost

# %% tags=["hide-input"]
SWEEPS = ["rows", "layers", "fields", "batch"]
if len(measured):
    swept = measured[measured["group"].isin(SWEEPS)].copy()
    swept["value"] = swept["name"].str.split().str[-1].astype(int)
    lines = {"step": "median", "low": "smallest", "high": "largest", "floor": "floor"}
    swept = swept.drop(columns="rows").rename(columns=lines)
    long = swept.melt(["group", "value"], list(lines.values()), var_name="line", value_name="milliseconds")
    figure = curves(
        long.sort_values(["group", "line", "value"]),
        "value",
        "milliseconds",
        "line",
        menu="group",
        x_title="value of the setting",
        y_title="milliseconds of a step",
    )
    views.show(
        figure, "QNN-alpha's step, its range over repeats, and its floor. Choose the setting with the menu."
    )

# %% [markdown]
# **Heads.** The paper's Table 6 shows latency falling with the number of heads. Its text gives every head a map of its
# own, which divides the work (*written*). The released code has one full map for all heads, and no less work
# (*released*). A third form keeps that map and puts the product back into the order of its input (*aligned*).

# %% tags=["hide-input"]
if len(measured):
    heads = measured[measured["group"] == "heads"].astype({"heads": int}).sort_values(["mode", "heads"])
    heads["lane"] = heads["heads"].astype(str) + " heads"
    figure = intervals(
        heads, "step", "lane", "low", "high", color="mode", x_title="milliseconds of a step", format=".0f"
    )
    figure.update_xaxes(rangemode="tozero")
    views.show(
        figure,
        "QNN-alpha's training step by number of heads and mode; bars span the repeats. In the written form the "
        "products shrink with the heads, but the work on the gate does not.",
        "heads-reduce-latency-written",
    )

# %% [markdown]
# ## One run on all cores, or several side by side?
#
# A grid has many runs, so what counts is rows a second over all of them. With two cores: one run with two threads, or
# two runs with one thread each?

# %% tags=["hide-input"]
if len(measured):
    pairs = measured[measured["group"] == "side by side"].copy()
    pairs["system"], pairs["way"] = (
        pairs["name"].str.rsplit(", ", n=1).str[0],
        pairs["name"].str.rsplit(", ", n=1).str[1],
    )
    side = pairs.pivot(index="system", columns="way", values="samples_per_second")
    side["gain"] = side["two runs"] / side["one run"]
    digits = {"one run": ",.0f", "two runs": ",.0f", "gain": ".2f"}
    caption = (
        "Rows a second over all runs, with two threads in all. The gain is that of two runs side by side."
    )
    display(figure_table(side.reset_index(), formats=digits, caption=caption))

# %% [markdown]
# `run_grid` therefore runs one run on each core. The records say how many threads a run had.

# %% [markdown]
# (verdicts-speed)=
# ## What a second pass costs
#
# The self-ensemble loss compares two passes over one batch. In the paper's Table 7 an epoch of QNN-alpha takes longer
# with it by the factors below. We measured one training step with and without.

# %% tags=["hide-input"]
table_7 = papers_table("qnn_table7").set_index(["metric", "model", "dataset"])["value"]
printed, megabytes = table_7["seconds_per_epoch"], table_7["gpu_memory_mib"]
rows = [
    {
        "what": f"QNN-alpha, {name} (paper, RTX 4090)",
        "ratio": printed["QNN-alpha", name] / printed["QNN-alpha w/o SE Loss", name],
        "one": megabytes["QNN-alpha w/o SE Loss", name],
        "two": megabytes["QNN-alpha", name],
    }
    for name in ("Criteo", "KKBox")
]
if len(measured):
    by_name = measured.set_index("name")
    for name in [n.removesuffix(", SE") for n in by_name.index if n.endswith(", SE")]:
        both, one = by_name.loc[f"{name}, SE"], by_name.loc[f"{name}, plain"]
        row = {"what": f"{name} (ours, Frappe's shape)", "ratio": both["step"] / one["step"]}
        row |= {"low": both["low"] / one["high"], "high": both["high"] / one["low"]}
        rows.append(row | {"one": one["memory"], "two": both["memory"]})
headings = {
    "what": "what",
    "ratio": "two passes over one",
    "low": "at least",
    "high": "at most",
    "one": "MB with one pass",
    "two": "MB with two",
}
figure_table(
    pd.DataFrame(rows).reindex(columns=list(headings)),
    formats=dict.fromkeys(("ratio", "low", "high"), ".2f") | dict.fromkeys(("one", "two"), ",.0f"),
    headings=headings,
    caption="Price of the second pass: ratio of medians; at least and at most from the extreme steps. Memory is "
    "the GPU's in the paper's rows, and the whole process's, Python included, in ours.",
)

# %% [markdown]
# QNN-alpha pays less than twice, for its first map and batch statistics are shared. xDeepFM and AutoInt share nothing
# but the look-up, and their dropout sits in the MLP alone; a second pass repeats all of the rest.
#
# Table 7 also sets QNN-alpha beside xDeepFM and AutoInt. The ratio of an epoch there to one of QNN-alpha without the
# loss, and of our steps:

# %% tags=["hide-input"]
rows = []
for model, theirs in (("xDeepFM", "xDeepFM"), ("AutoInt", "AutoInt*")):
    row = {"model": model}
    for name in ("Criteo", "KKBox"):
        row[f"paper, {name}"] = printed[theirs, name] / printed["QNN-alpha w/o SE Loss", name]
    if len(measured):
        row["ours"] = (
            by_name.loc[f"{model}, plain", "step"] / by_name.loc["QNN-alpha, 2 layers, plain", "step"]
        )
    rows.append(row)
relative = pd.DataFrame(rows)
figure_table(
    relative,
    formats=dict.fromkeys(relative.columns[1:], ".2f"),
    caption="Time over QNN-alpha's without self-ensemble loss. The settings differ: ours have embeddings of width 10 "
    "for xDeepFM and AutoInt, and Frappe's ten fields.",
)

# %% [markdown]
# ## Full tensors
#
# T1, T2 and T6 hold a tensor of $100^3$ numbers in each layer, behind a map to width 100. The last column is the ratio of
# the minutes that Table 1 prints for an epoch. Since $x_i x_j = x_j x_i$, half of the products are the same; we compute the
# $d(d+1)/2$ distinct ones and multiply them by one matrix.

# %% tags=["hide-input"]
if len(measured):
    wide = by_name[by_name["group"] == "bilinear"].copy()
    wide["of T9"] = wide["step"] / wide.loc["T9, wide", "step"]
    minutes = (
        papers_table("qnn_table1")
        .query("post_activation == 'none'")
        .set_index("format")["paper_minutes_per_epoch"]
    )
    wide["paper"] = (minutes / minutes["T9"]).reindex(wide["model"]).to_numpy()
    wide = wide.reset_index()[["name", "step", "low", "high", "floor", "over_floor", "of T9", "paper"]]
    digits = dict.fromkeys(("step", "low", "high", "floor"), ".0f") | dict.fromkeys(
        ("over_floor", "of T9"), ".2f"
    )
    digits["paper"] = ".1f"
    headings = {
        "name": "format",
        "step": "ms",
        "over_floor": "times the floor",
        "of T9": "times T9",
        "paper": "times T9, paper",
    }
    caption = "At Criteo's 39 fields and embedding width 16, batch 2,048. Milliseconds of a step."
    display(figure_table(wide, formats=digits, headings=headings, caption=caption))

# %% [markdown]
# ## On a GPU
#
# On a GPU whole steps are recorded once as a CUDA graph and replayed, the AUC is computed on the device, and several
# runs share the GPU as streams of one process. What was measured there:

# %% tags=["hide-input"]
on_gpu = tables.steps("cuda")
if len(on_gpu):
    display(views.table(on_gpu, STEP_COLUMNS, "Steps on a GPU, beside their floor."))
else:
    display(Markdown("No step has been measured on a GPU yet."))

# %% [markdown]
# ## Asked and reached
#
# These are the numbers that this implementation was meant to reach, beside what was measured. What was not measured is
# not estimated.

# %% tags=["hide-input"]
targets = tables.targets(equal)
figure_table(
    targets,
    headings={"what": "ratio or figure", "on": "measured on", "met": "reached?", "reached": "median (range)"},
    caption="Numbers asked for. Ratios of epochs and evaluations are formed within a round; the range of two passes "
    "over one, and of formats over T9, is that of the extreme steps. A side that ran another network in a system's place "
    "counts as not measured. A figure in bf16 counts only for a system whose scores are shown to be equal.",
)

# %% [markdown]
# What this book tells apart is often less than a thousandth of AUC. So every record of the other chapters is in fp32, on
# a GPU with TF32 off. The last thing asked for, losses that stay what they were, is left to the tests, which compare them
# with stored ones.
#
# ## What we saw

# %% tags=["hide-input"]
said = []
if len(rungs):
    last = rungs.iloc[-1]
    best = rungs.loc[rungs["gain"].idxmax()]
    said.append(
        f"From the plain loop to ours a batch of QNN-alpha became {last['in_all']:.1f} times faster. "
        f"The largest single gain is *{best['rung']}*, with a factor of {best['gain']:.2f}."
    )
if len(systems):
    nearest = systems.sort_values("over_floor")
    said.append(
        "Steps on Frappe's shape take "
        + ", ".join(f"{row['over_floor']:.1f} ({row['name']})" for _, row in nearest.iterrows())
        + " times their floor."
    )
if len(peers) and "epoch_ratio" in peers:
    library = peers[peers["side"].str.startswith("FuxiCTR") & ~peers["stand_in"]]
    said.append(
        "An epoch in FuxiCTR takes "
        + ", ".join(f"{row['epoch_ratio']:.1f} ({row['system']})" for _, row in library.iterrows())
        + " times as long as ours; its validation "
        + ", ".join(f"{row['evaluate_ratio']:.1f}" for _, row in library.iterrows())
        + " times."
    )
if len(measured):
    full = wide[~wide["name"].str.startswith("T9")]
    said.append(
        f"Formats with a full tensor cost {full['of T9'].min():.1f} to {full['of T9'].max():.1f} times T9, where the "
        f"paper prints {full['paper'].min():.0f} to {full['paper'].max():.0f} times."
    )
count = targets["met"].value_counts().to_dict()
said.append(
    f"Of {len(targets)} numbers asked for {count.get('yes', 0)} are reached and {count.get('no', 0)} are not; "
    f"{count.get('not measured', 0)} are not measured. Waiting for a proof that bfloat16 scores the same: "
    f"{count.get('not shown equal', 0)}."
)
Markdown("\n\n".join(said))

# %% [markdown]
# **How sure are we.** Medians and ranges come from a shared virtual machine whose speed drifts; the sides of a
# comparison therefore take turns. Ratios for systems whose time is mostly matrix products say little about an
# implementation: everyone calls the same product. They differ most where a system is small.
#
# **What could still be gained.** On a CPU the elementwise work between the products is limited by memory. The generator
# of random numbers takes a visible share of QNN-alpha's step.
#
# ## Exercises
#
# **1.** How many rows does QNN-alpha need before its step is limited by matrix products alone? Use the figure on rows:
# compare the step's slope with the floor's.
#
# ````{dropdown} A solution
# Both grow in proportion to the rows. Between 8 and 20 rows the floor's slope is the cost of the products of one row;
# the difference of the slopes is the elementwise work of one row. It never vanishes: each row adds both.
# ````
#
# **2.** Measure your own computer: which change of the ladder pays most there?
#
# ````{dropdown} A solution
# ```bash
# ctrlib bench ladder --repeats 5
# ```
# It needs Frappe's files; see {doc}`/book/data`.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
figure_table(
    tables.origins(), caption="Measurements behind this page. The command ctrlib bench makes them anew."
)

# %% tags=["hide-input"]
footer("speed", load_records("speed"))

# %% [markdown]
# **Next.** {doc}`/chapters/17_your_data` takes a table of your own.
