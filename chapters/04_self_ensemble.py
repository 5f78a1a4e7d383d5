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
# (sec-self-ensemble)=
# # The self-ensemble loss
#
# Dropout makes a network answer differently each time. The QNN-alpha paper {cite:p}`li2025qnn` asks a network twice for every
# training batch and rewards agreement (section 3.3, Eq. 11). It reports that this *self-ensemble loss* lifts one network and
# beats other ways to compare two passes (Figure 6).
#
# Three questions: where does its gradient point, does it help, and is the help more than noise?
#
# **Before you read on.** You need cross entropy, dropout and the layer of {doc}`/chapters/03_khatri_rao`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.bench import tables as speed
from ctrlib.figures import curves, figure_table
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.headline import NAME, headline, variants
from ctrlib.lab.made import leave
from ctrlib.lab.passes import NO_SE, timed_passes, with_gap
from ctrlib.lab.published import printed
from ctrlib.lab.stats import paired
from ctrlib.lab.tables import paired_table, papers_table
from ctrlib.losses import consistency
from ctrlib.views.footer import footer

# %% [markdown]
# ## The loss
#
# Two passes give $p_1$ and $p_2$; $\bar p$ is their mean, and $\mathrm{sg}$ stops the gradient:
#
# $$
# \mathcal L = \mathrm{bce}(\bar p, y) + \sum_{k} \mathrm{bce}\big(p_k, \mathrm{sg}(\bar p)\big).
# $$
#
# The first part is the click loss of the mean. The second pulls each pass to the mean. The formula for its weight is lost in
# the text that we have; the authors' code uses 1.
#
# ## Where the gradient points
#
# Section 3.3 says that the second part drives both passes towards 0 or 1 together. Its gradient on the logit of pass $k$ is
# $p_k - \bar p$. It pulls towards the mean, wherever that lies, and vanishes where the passes agree. The figure takes
# it from the code: pass 2 stays at 0.3 and pass 1 moves. The other line lets the gradient flow through the target as well.
# Its zero is no longer at 0.3 but near 0.07: with pass 2 below one half, pass 1 is drawn past it, towards 0. If both passes
# move, they go to a corner together.


# %%
def pull(p1: float, p2: float, frozen: bool) -> float:
    """Force on the logit of pass 1, the negative gradient of the second part, in float64."""
    logits = torch.logit(torch.tensor([[p1], [p2]], dtype=torch.float64)).requires_grad_()
    if frozen:
        loss = consistency(logits)
    else:
        target = torch.sigmoid(logits).mean(dim=0)
        loss = sum(torch.nn.functional.binary_cross_entropy_with_logits(z, target) for z in logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    return -float(gradient[0])


moves = np.linspace(0.02, 0.98, 49)
lines = pd.concat(
    [
        pd.DataFrame({"target": name, "p1": moves.round(3), "pull": [pull(p, 0.3, frozen) for p in moves]})
        for name, frozen in (("frozen, as in the paper", True), ("not frozen", False))
    ]
)
titles = {"x_title": "prediction of pass 1", "y_title": "pull on its logit"}
views.show(
    curves(lines, "p1", "pull", "target", **titles),
    "With a frozen target the pull is zero at 0.3, where the passes agree, and points there from both sides.",
)

# %% tags=["hide-input"]
largest = max(abs(pull(p, p, True)) for p in moves)
Markdown(
    f"Where both passes agree the pull is at most {largest:.0e}, at any prediction. At dropout 0 they always agree, so there the "
    "second part does nothing."
)

# %% [markdown]
# ## What we ran
#
# QNN-alpha at its chosen settings, with one thing changed at a time. The other losses keep two passes and $\mathrm{bce}(\bar p, y)$ and
# replace the second part. The paper names a KL loss and no equation; the other three of Figure 6 are not named.
# So all of these are our reading:
#
# | loss | second part |
# |---|---|
# | mean probability | none |
# | symmetric KL | as in R-Drop {cite:p}`wu2021rdrop`: half of $\mathrm{kl}(p_1 \Vert p_2) + \mathrm{kl}(p_2 \Vert p_1)$ |
# | squared | half the squared distance of each $p_k$ from the frozen mean |
# | Tri-BCE | each pass's click loss, weighted by how far it exceeds that of the mean |
# | cosine | one less the cosine of the last layer's states |
#
# Dropout goes from 0 to 0.3, each rate with and without the second pass. Two passes become three and four.

# %%
LOSSES = {
    f"loss={name}": {"loss": name}
    for name in ("mean-probability", "symmetric-kl", "squared", "tri-bce", "cosine")
}
RATES = {
    f"dropout={rate:g}{ending}": {"dropout": rate, **loss}
    for rate in (0.0, 0.05, 0.2, 0.3)
    for ending, loss in (("", {}), (".no-se", NO_SE))
}
PASSES = {f"passes={count}": {"passes": count} for count in (3, 4)}
PLANS = {
    "smoke": {"cells": ["loss=cosine"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"cells": ["dropout=0", "dropout=0.no-se"], "seeds": [1], "rows": None, "max_epochs": 100},
    "paper": {"cells": ["dropout=0", "dropout=0.no-se"], "seeds": [1], "rows": None, "max_epochs": 100},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def full_grid(data):
    """Losses with five seeds, dropout rates and numbers of passes with three."""
    default = headline(data)
    grid = Grid("self-ensemble")
    grid.add(data, variants(default, LOSSES), default.protocol, range(1, 6))
    return grid.add(data, variants(default, RATES | PASSES), default.protocol, range(1, 4))


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(full_grid(data), device=device)

# %% tags=["hide-input"]
records = experiment_records("self-ensemble")
runs = {name: experiment_runs("self-ensemble", name, records) for name in RECORDED}
shown = measured_on("self-ensemble", runs)
runs = {name: with_gap(part) for name, part in runs.items()}
views.waiting(RECORDED[1:], shown)

# %% [markdown]
# ## Against other losses
#
# Paired differences from QNN-alpha with its own loss. *No SE* is one pass with plain cross entropy.

# %% tags=["hide-input"]
SHOWN = {NAME: "self-ensemble (QNN-alpha)", "no-se": "no SE"}
SHOWN |= {label: label.removeprefix("loss=").replace("-", " ") for label in LOSSES}
losses = {name: views.against(runs[name], NAME, SHOWN) for name in shown}
for name in shown:
    views.show(
        views.against_figure(losses[name], NAME, name),
        "Left of the dashed line: worse than the self-ensemble loss.",
        "se-beats-other-losses",
    )
    display(views.comparison(losses[name], f"Losses on {name}."))

# %% [markdown]
# ## Dropout
#
# The second part needs noise to compare. Does the best rate move, and does the loss help at each rate?


# %% tags=["hide-input"]
def rate_sweep(name):
    """The sweep over dropout rates, with and without the self-ensemble loss."""
    with_se = {
        NAME: 0.1,
        **{label: change["dropout"] for label, change in RATES.items() if "no-se" not in label},
    }
    without = {
        "no-se": 0.1,
        **{label: change["dropout"] for label, change in RATES.items() if "no-se" in label},
    }
    parts = [
        views.sweep(runs[name], values, "dropout").assign(side=side)
        for side, values in (("self-ensemble loss", with_se), ("no SE", without))
    ]
    return pd.concat(parts, ignore_index=True)


def pair_of(label):
    """The same dropout rate with and without the loss."""
    return (label, f"{label}.no-se")


PAIRS = {"0.1": (NAME, "no-se")} | {
    f"{rate:g}": pair_of(f"dropout={rate:g}") for rate in (0.0, 0.05, 0.2, 0.3)
}
PAIR_COLUMNS = {"format": ("dropout", ""), "difference": ("gain, points of AUC", "+.2f")}
PAIR_COLUMNS |= {"outcome": ("with the loss", ""), "seeds": ("seeds", "")}
PAIR_COLUMNS |= {"left_mean": ("AUC with", ".4f"), "right_mean": ("AUC without", ".4f")}
for name in shown:
    figure = views.sweep_figure(rate_sweep(name), "dropout", name, "dropout rate", color="side")
    views.show(
        figure,
        "Two lines on top of each other mean that the second pass brings nothing.",
        "consistency-part-helps",
    )
    found = views.gaps(runs[name], PAIRS).sort_values("format")
    display(
        views.table(
            found, PAIR_COLUMNS, f"What the loss adds at each rate, on {name}: points of AUC, paired."
        )
    )

# %% [markdown]
# At rate 0 the two passes are the same and the second part has no gradient. The two sides of that row can differ only
# through batch norm's running statistics, which are updated twice a step, and through rounding.
#
# ## More passes
#
# The paper says that more than two passes bring no significant gain. The second part is a sum over passes, so three and
# four passes also weigh it more.

# %% tags=["hide-input"]
PASS_NAMES = {NAME: "2 passes", **{label: f"{change['passes']} passes" for label, change in PASSES.items()}}
for name in shown:
    rows = views.against(runs[name], NAME, PASS_NAMES)
    if len(rows) > 1:
        display(views.comparison(rows, f"Number of passes on {name}; differences from two."))

# %% [markdown]
# ## On other networks
#
# The paper adds the loss to four networks with an MLP (Table 5) and takes it away from QNN-alpha (Table 4). Its gains, against the
# baselines of its Table 3 ({doc}`/chapters/06_plug_and_play` tells why not those of Table 5), stand beside ours.

# %% tags=["hide-input"]
WITH_SE = {base: (f"{base}+SE", base) for base in ("DNN", "DeepFM", "xDeepFM", "DCNv2")} | {
    NAME: PAIRS["0.1"]
}
table3, table4, table5 = (100 * printed("QNN-alpha", number, "test_auc") for number in (3, 4, 5))
gains = {base: table5.loc[f"{base}+SE"] - table3.loc[base] for base in WITH_SE if base != NAME}
gains[NAME] = table4.loc[NAME] - table4.loc["no-se"]
in_print = {
    base: "; ".join(f"{data} {gain:+.2f}" for data, gain in each.dropna().items())
    for base, each in gains.items()
}
OTHER_COLUMNS = {"format": ("network", ""), "difference": ("gain, points of AUC", "+.2f")}
OTHER_COLUMNS |= {"outcome": ("with the loss", ""), "seeds": ("seeds", "")}
OTHER_COLUMNS |= {"printed": ("gains in the paper, points", "")}
for name in shown:
    found = views.gaps(experiment_runs("plug-and-play", name), WITH_SE)
    found = found.assign(printed=found["format"].map(in_print))
    caption = f"What the loss adds on {name}, paired by seed; in the paper, one run each."
    display(views.table(found, OTHER_COLUMNS, caption))

# %% tags=["hide-input"]
each = pd.concat([gain.dropna() for gain in gains.values()])
Markdown(
    f"In print the loss lifts the AUC in {(each > 0).sum()} of {len(each)} cases, by {each.median():.2f} points at the median; "
    f"the smallest gain is {each.min():+.2f}, the largest {each.max():+.2f}. None has an interval."
)

# %% [markdown]
# ## Does it fit less and generalise more?
#
# The paper expects less overfitting. We score the best epoch's weights on training rows too, without dropout. The gap is
# logloss on test rows less logloss on training rows.

# %% tags=["hide-input"]
GAP_PAIRS = {rate: pair for rate, pair in PAIRS.items() if rate != "0"}
GAP_COLUMNS = {
    "pair": ("dropout", ""),
    "left_mean": ("gap with SE", ".4f"),
    "right_mean": ("gap without", ".4f"),
}
GAP_COLUMNS |= {"difference": ("difference, nats", "+.4f")}
GAP_COLUMNS |= {"seeds": ("seeds", "")}
for name in shown:
    found = paired_table(runs[name], GAP_PAIRS, "logloss_gap").reset_index()
    found = found[found["outcome"] != "not measured"].sort_values("pair")
    display(views.table(found, GAP_COLUMNS, f"Gap between test and training logloss on {name}, paired."))

# %% [markdown]
# ## What it costs
#
# Two passes through the layers, one look-up. We time one batch, forward and backward, with one pass, two, three and four, in turn. The paper says
# that further passes raise the cost exponentially. Then each would multiply the time by one factor; if each adds the same time, the factor shrinks.

# %% tags=["hide-input"]
turns = timed_passes(EMBEDDED, 3 if profile == "smoke" else 15)
leave("se-cost", turns)  # the page of all claims reads them
sides = turns.pivot(index="seed", columns="label", values="log2_seconds")
ratio = paired(sides["two passes"], sides["one pass"])
further = [
    f"{2 ** paired(sides[more], sides[fewer]).value:.2f} ({more} against {fewer.removesuffix(' passes')})"
    for fewer, more in (("two passes", "three passes"), ("three passes", "four passes"))
]
Markdown(
    f"Two passes take {2**ratio.value:.2f} times as long as one, over {ratio.n} turns "
    f"(95 % interval from {2**ratio.low:.2f} to {2**ratio.high:.2f}). The factors of further passes: {', '.join(further)}."
)

# %% [markdown]
# The first layer's map is shared by the passes, so with one layer the second pass is cheap.
#
# The paper's Table 7 has an epoch and the memory of its GPU, with the loss and without it. Ours are steps on a processor, in Frappe's
# sizes ({doc}`/chapters/16_speed`). Only the ratios compare.

# %% tags=["hide-input"]
TABLE_7 = ["QNN-alpha", "QNN-alpha w/o SE Loss"]
costs_in_print = papers_table("qnn_table7").pivot(
    index=["dataset", "model"], columns="metric", values="value"
)
rows = []
for data, part in costs_in_print.groupby(level="dataset"):
    with_loss, without = (part.loc[(data, model)].astype(float) for model in TABLE_7)
    over = with_loss / without
    rows.append(
        {"where": f"{data}, the paper", "time": over["seconds_per_epoch"], "memory": over["gpu_memory_mib"]}
    )
steps = speed.steps()
steps = steps[steps["group"] == "passes"] if len(steps) else steps
for layers, part in steps.groupby("layers") if len(steps) else ():
    part = part.set_index("passes")[["step", "memory"]]
    over = part.loc[2] / part.loc[1]
    where = f"Frappe's sizes, {layers:.0f} layer{'s' if layers > 1 else ''}, ours"
    rows.append({"where": where, "time": over["step"], "memory": over["memory"]})
formats = {"time": ".2f", "memory": ".2f"}
caption = "What the loss costs: with it over without it. Memory is the peak of the whole process."
display(figure_table(pd.DataFrame(rows), formats=formats, caption=caption))

# %% [markdown]
# ## Made in this build

# %% tags=["hide-input"]
default = headline(EMBEDDED)
cells = variants(default, LOSSES | RATES)
fresh = Grid("self-ensemble").add(
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
verdicts = views.verdicts(runs, "self-ensemble", shown)
display(
    Markdown(
        "The cost, measured in this build: seeds are turns, and an effect of one doubling is twice the time."
    )
)
costs = views.verdicts({EMBEDDED: turns}, "se-cost", [EMBEDDED])

# %% [markdown]
# That the loss helps QNN-alpha at its own rate, 0.1, is tested in {doc}`/chapters/05_qnn_alpha`.
#
# ## What we saw


# %% tags=["hide-input"]
def said(name):
    """What the losses on one data set show, finding by finding."""
    rows, found = losses[name].dropna(subset="difference"), verdicts[name]
    others = rows[rows["label"] != "no-se"]
    rates = views.sweep(
        runs[name], {NAME: 0.1, **{f"dropout={r:g}": r for r in (0.0, 0.05, 0.2, 0.3)}}, "dropout"
    )
    best = f"The best of {len(rates)} rates is {rates.loc[rates['test_auc'].idxmax(), 'dropout']:g}, with means of AUC"
    best += f" between {rates['test_auc'].min():.2f} and {rates['test_auc'].max():.2f} %"
    return views.findings(
        name,
        [
            views.answer(
                "Does the self-ensemble loss beat others that compare passes?", found, "se-beats-other-losses"
            ),
            f"How far are the other losses from it? In points of AUC: {views.listing(others)}.",
            "".join(
                "How does one pass with plain cross entropy do? "
                f"{views.estimate(row.difference, row.low, row.high, unit=' points of AUC')}: *{row.outcome}*."
                for row in rows[rows["label"] == "no-se"].itertuples()
            ),
            views.answer("Does the part that compares the passes help?", found, "consistency-part-helps"),
            views.answer(
                "Do dropout rates above 0.1 cost performance?",
                found,
                "higher-dropout-hurts",
                told=best if len(rates) > 1 else "",
            ),
            views.answer("Is 0.1 the best of the rates?", found, "dropout-of-a-tenth-is-best"),
            views.answer("Are two passes enough?", found, "more-passes-no-gain"),
            views.answer(
                "Does the loss narrow the gap between test and training logloss?", found, "se-narrows-the-gap"
            ),
        ],
    )


said_of_cost = views.findings(
    "The cost",
    [
        views.answer(
            "Do two passes take less than twice as long as one?",
            costs[EMBEDDED],
            "se-costs-less-than-twice",
            told=f"{2**ratio.value:.2f} times as long",
        ),
        views.answer(
            "Does the cost of further passes grow exponentially?",
            costs[EMBEDDED],
            "passes-cost-exponentially",
            told=f"The second pass multiplies the time by {2**ratio.value:.2f}, further ones by {', '.join(further)}",
        ),
    ],
)
Markdown("\n\n".join([*(said(name) for name in shown), said_of_cost]))

# %% [markdown]
# **Where the words and the formula differ.** The second part does not push to the corners. It is a variance penalty on the passes.
# For a small distance between them it acts like their squared difference in logits, weighted by $\bar p(1 - \bar p)$. That is a mild
# regulariser whose strength grows with the dropout rate.
#
# **How sure are we.** The full grid has five seeds for losses and three for rates and passes; the
# tables tell how many are recorded so far. With three there is an interval and no test.
#
# All losses run at weight 1, the authors' choice for
# theirs; another loss might gain from a weight of its own. Where the passes nearly agree, symmetric KL is the same penalty at
# twice the weight, and the squared distance one at a quarter or less. So differences between them are partly differences of
# strength.
#
# ## Exercises
#
# **1.** Show that the second part is a Kullback-Leibler divergence plus a constant for the gradient.
#
# ````{dropdown} A solution
# $\mathrm{bce}(p_k, \bar p) = \mathrm{kl}(\bar p \Vert p_k) + h(\bar p)$, with $h$ the entropy. The target is frozen, so $h$ has no gradient.
# ````
#
# **2.** Without the frozen target the entropy term would act. Where does the second line of the figure cross zero, and what
# happens if both passes move?
#
# ````{dropdown} A solution
# In the figure near 0.07: the distance of the passes pulls towards 0.3 and the entropy pulls towards 0. If both passes are at
# $p$, the second part is $2 h(p)$. Its gradient vanishes at one half, and the pull points away from there on both sides: to the
# corners.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("self-ensemble", records, made, shown=shown)

# %% [markdown]
# **Next.** {doc}`/chapters/05_qnn_alpha` takes the whole network apart.
