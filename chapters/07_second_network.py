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
# (sec-second-network)=
# # The second network
#
# Two questions that the QNN-alpha paper {cite:p}`li2025qnn` raises and does not test.
#
# Its self-ensemble loss is introduced as an ensemble without a second network (section 3.3). Does it do what a second
# network does? And its Khatri-Rao rows multiply the cost of a layer. Would the same cost have been better spent
# otherwise?
#
# **Before you read on.** You need {doc}`/chapters/04_self_ensemble` and {doc}`/chapters/05_qnn_alpha`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]

import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.data import DATASETS
from ctrlib.figures import scatter
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.headline import CHOICES, LOGS, NAME, STRENGTHS, headline, headline_search
from ctrlib.lab.search import best_search, search_grid, searched
from ctrlib.train import Protocol
from ctrlib.views.footer import footer

# %% [markdown]
# ## A true ensemble
#
# Two whole networks, each with its own embedding and layers, each trained with cross entropy for itself. Their probabilities
# are averaged when they predict. They share batches, learning rate and the moment at which training stops, and nothing
# else. Two variants: both networks on one embedding table, and two networks whose *mutual* agreement is rewarded by the
# self-ensemble loss, as if they were two passes.
#
# ## A lifted gate
#
# QNN-alpha's gate is a sum over $R$ rows: a map from $d$ to $Rd$, a ReLU, and a fixed sum of blocks. T19 with a lifted gate spends
# the same multiply-adds on a map up and a learned map down:
#
# $$
# x_{l+1} = \mathrm{Drop}\Big(x_l + x_l \odot \mathrm{Drop}\big(\rho(W' \rho(\mathrm{BN}(W x_l + b)) + b')\big)\Big)
# $$
#
# with $W \in \mathbb R^{Rd/2 \times d}$ and $W' \in \mathbb R^{d \times Rd/2}$.
#
# On MovieLens-100K both networks are tuned alike: twelve random settings from the same list of layers, rows, batch norm and
# L2 strengths. On Frappe QNN-alpha runs at the settings of the authors' log and only the lifted T19 is searched; its list
# holds the log's L2 strength too.

# %%
SE = {"loss": "self-ensemble", "passes": 2}
ENSEMBLES = {
    "ensemble": {"loss": "bce"},
    "ensemble-shared": {"loss": "bce", "shared_embedding": True},
    "ensemble+SE": {"loss": "self-ensemble"},
}
LIFTED = {"T19-lifted": ("T19-lifted", {"dropout": 0.1})}
PLANS = {
    "smoke": {"cells": ["ensemble-shared"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"cells": ["T19-lifted"], "seeds": [1], "rows": None, "max_epochs": 100},
    "paper": {"cells": ["T19-lifted"], "seeds": [1], "rows": None, "max_epochs": 100},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def search(data):
    """Twelve random settings of the lifted T19, from the list that QNN-alpha had, and the strength of its log."""
    strengths = STRENGTHS if data not in LOGS else (*STRENGTHS, headline(data).protocol.embedding_regularizer)
    choices = {"T19-lifted": CHOICES | {"embedding_regularizer": strengths}}
    return search_grid("second-network", data, LIFTED, choices, Protocol.named("qnn", data))


def full_grid(data, seeds=range(1, 6), only=None, rows=None, **changes):
    """Ensembles at QNN-alpha's settings, and the lifted T19 at its own."""
    default = headline(data)
    settings = default.settings | {"passes": 2}
    cells = {label: ("QNN-alpha-ensemble", settings | change) for label, change in ENSEMBLES.items()}
    grid = Grid("second-network")
    grid.add(data, kept(cells, only), default.protocol.replace(**changes), seeds, rows=rows)
    found = best_search(searched(search(data)), "T19-lifted", data)
    cells = {"T19-lifted": ("T19-lifted", dict(found["settings"]))}
    return grid.add(
        data, kept(cells, only), Protocol(**found["protocol"]).replace(**changes), seeds, rows=rows
    )


def kept(cells, only):
    """The cells whose labels are asked for; all when none is."""
    return {label: cell for label, cell in cells.items() if only is None or label in only}


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(search(data), device=device)
        run_grid(full_grid(data), device=device)

# %% tags=["hide-input"]
records = experiment_records("second-network")
runs = {name: experiment_runs("second-network", name, records) for name in RECORDED}
shown = measured_on("second-network", runs)
views.waiting(RECORDED[1:], shown)

# %% [markdown]
# ## One network, two passes, two networks
#
# Paired differences from one network trained with cross entropy.

# %% tags=["hide-input"]
SHOWN = {
    "no-se": "one network",
    NAME: "one network, SE loss (QNN-alpha)",
    "ensemble": "two networks, averaged",
}
SHOWN |= {"ensemble-shared": "two networks on one table", "ensemble+SE": "two networks, SE loss between them"}
compared = {name: views.against(runs[name], "no-se", SHOWN) for name in shown}
for name in shown:
    caption = "Right of the dashed line: better than one network. Does the second row reach the third?"
    views.show(views.against_figure(compared[name], "one network", name), caption, "se-replaces-an-ensemble")
    display(views.comparison(compared[name], f"One and two networks on {name}."))

# %% [markdown]
# ## Rows, or a lift?
#
# QNN-alpha and T19 with a lifted gate, each at its own settings, both with the self-ensemble loss.

# %% tags=["hide-input"]
LIFT = {NAME: "QNN-alpha", "T19-lifted": "T19, lifted"}


def multiply_adds(name, data):
    """Products of the layers for one row of data, at the chosen settings."""
    found = (
        headline(data).settings
        if name == NAME
        else best_search(searched(search(data)), name, data)["settings"]
    )
    fields = len(DATASETS[data].fields)
    return found["layers"] * found["rows"] * (fields * found["embedding_dim"]) ** 2


for name in shown:
    rows = views.against(runs[name], NAME, LIFT)
    if len(rows) > 1:
        rows["multiply_adds"] = [multiply_adds(label, name) for label in rows["label"]]
        extra = {"multiply_adds": ("multiply-adds a row", ",")}
        display(views.comparison(rows, f"Rows against a lift on {name}.", extra))

# %% tags=["hide-input"]
for name in shown:
    tried = searched(search(name)) + searched(headline_search(name))
    points = pd.DataFrame(
        [
            {
                "network": r["model"],
                "label": f"{r['settings']['layers']} layers, {r['settings']['rows']} rows",
                "cost": r["settings"]["layers"] * r["settings"]["rows"],
                "valid": round(100 * r["valid"]["auc"], 3),
            }
            for r in tried
            if r["status"] == "completed"
        ]
    )
    titles = {
        "x_title": "layers × rows, in proportion to multiply-adds",
        "y_title": "validation AUC (%)",
        "title": name,
    }
    figure = scatter(points, "cost", "valid", "label", color="network", names=False, **titles)
    views.show(
        figure,
        "All settings of both searches. Point at one to see it. Which cloud is higher at the same cost?",
        "rows-beat-a-lift",
    )

# %% [markdown]
# ## Made in this build

# %% tags=["hide-input"]
changes = {"max_epochs": plan["max_epochs"]}
fresh = full_grid(EMBEDDED, plan["seeds"], plan["cells"], plan["rows"], **changes)
made = run_anew(fresh, device=device)
beside = views.made(made, runs[EMBEDDED] if plan["rows"] is None else None)
views.table(beside, views.MADE_COLUMNS, "Runs of this build, beside their records.")

# %% [markdown]
# ## Verdicts
#
# The first is the paper's claim in our reading. The others are our own questions, decided by the same rules.

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, "second-network", shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def said(name):
    """What a second network brings on one data set, finding by finding."""
    found = verdicts[name]
    return views.findings(
        name,
        [
            views.answer(
                "Is the self-ensemble loss as good as a second network?",
                found,
                "se-replaces-an-ensemble",
                lead="Two networks lead it by",
            ),
            views.answer("Do two networks predict better than one?", found, "ensemble-helps"),
            f"How far is each from one network? In points of AUC: {views.listing(compared[name])}.",
            views.answer("Are rows worth more than a lift?", found, "rows-beat-a-lift"),
        ],
    )


Markdown("\n\n".join(said(name) for name in shown))

# %% [markdown]
# **How sure are we.** The full grid has five seeds a cell; the tables tell how many are recorded so far.
#
# The ensemble runs at the settings that were searched for one network with the self-ensemble loss, which favours that one.
#
# The networks of an ensemble stop together, when the ensemble's validation AUC no longer rises, and their
# gradients are clipped together.
#
# ## Exercises
#
# **1.** Average three networks. Does the third bring as much as the second?
#
# ````{dropdown} A solution
# ```python
# from ctrlib import build_model, fit, load_dataset
#
# default = headline("ml-100k")
# data = load_dataset("ml-100k")
# for count in (1, 2, 3):
#     model = build_model("QNN-alpha-ensemble", data.schema, seed=1, **default.settings | {"loss": "bce", "passes": count})
#     print(count, fit(model, data, default.protocol, seed=1).test)
# ```
# The variance of a mean falls with the count, so the third brings less.
# ````
#
# **2.** The lifted gate learns its way down. What happens when its down map is the fixed sum of blocks?
#
# ````{dropdown} A solution
# For even $R$ it becomes QNN-alpha's gate with $R/2$ rows and a second ReLU, which changes nothing, for a sum of non-negative numbers is not
# negative. So the lifted gate holds QNN-alpha with half its rows as a special case.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("second-network", records, made, shown=shown)

# %% [markdown]
# **Next.** {doc}`/chapters/08_distil` begins the second paper: a network that learns from another one.
