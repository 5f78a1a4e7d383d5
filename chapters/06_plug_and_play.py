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
# (sec-plug-and-play)=
# # Plug and play
#
# Can QNN-alpha's layers take the place of the MLP in other networks? The QNN-alpha paper {cite:p}`li2025qnn` tries four (section
# 4.3.6, Table 5): DNN, DeepFM, xDeepFM and DCNv2, each as it is, with the self-ensemble loss, and with QNN-alpha in its MLP's
# place.
#
# With QNN-alpha's layers every network gains. Four of the table's twelve baselines (xDeepFM on all three sets, DCNv2 on
# ML-1M) repeat the figures of another model, PNN. And in two of the hybrids the authors' code changes more than the MLP.
# This chapter takes both into account.
#
# **Before you read on.** You need {doc}`/chapters/05_qnn_alpha`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]

import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.figures import figure_table
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.headline import CHOICES, LOGS, NAME, STRENGTHS, logged
from ctrlib.lab.search import best_search, search_grid, searched
from ctrlib.lab.tables import papers_table
from ctrlib.train import Protocol
from ctrlib.views.footer import footer

# %% [markdown]
# ## The networks
#
# $q(x)$ is the output of QNN-alpha's layers on the embeddings $x$. Two forms of each hybrid:
#
# | network | written: only the MLP is replaced | released: the authors' code |
# |---|---|---|
# | DeepFM | $w^\top q + b + \mathrm{FM} + \mathrm{LR}$ | $w^\top q + b + \tfrac12(\mathrm{FM} + \mathrm{LR})$ |
# | xDeepFM | $w^\top q + b + \mathrm{CIN} + \mathrm{LR}$ | the same |
# | DCNv2 | $w^\top[q \,\|\, c] + b$ with the cross network $c$ | $c$ gets batch norm, ReLU and dropout in every layer |
#
# DNN is nothing but an MLP, so its hybrid is QNN-alpha itself. xDeepFM's compressed interaction network has one layer of 32 maps
# here, the smallest that the authors' logs use; larger ones cost too much on a CPU.
#
# ## Table 5 with the baselines of Table 3
#
# The column *Table 3* holds what the paper's main table prints for the same network. Where the two differ, Table 5 repeats the row
# of PNN. For xDeepFM on Frappe the two AUCs agree and only the logloss shows it.

# %% tags=["hide-input"]
GAINS = {"plus_SE_loss": "with SE", "MLP_replaced_by_QNN-alpha": "with QNN-alpha"}


def table_5(metric):
    """Table 5 of the paper in one metric: baselines of both tables, and gains (for logloss: what it falls by)."""
    printed = papers_table("qnn_table5").query("metric == @metric").set_index(["variant", "base", "dataset"])
    base = printed.loc["baseline"]
    sign = -1 if metric == "logloss" else 1
    rows = []
    for (name, data), line in base.iterrows():
        right = line["table3_value"] if pd.notna(line["table3_value"]) else line["value"]
        row = {"network": name, "data": data}
        row |= {"plain, Table 5": line["value"], "plain, Table 3": line["table3_value"]}
        for variant, title in GAINS.items():
            value = printed.loc[(variant, name, data), "value"]
            row[f"{title}, gain as printed"] = sign * (value - line["value"])
            row[f"{title}, gain put right"] = sign * (value - right)
        rows.append(row)
    return pd.DataFrame(rows).round(7)


def in_print(rows):
    """Loglosses with the digits that the paper has for each data set, gains with a sign."""
    digits = [".6f" if data == "iPinYou" else ".4f" for data in rows["data"]]
    told = {
        column: [
            f"{value:{'+' if 'gain' in column else ''}{d}}"
            for value, d in zip(rows[column], digits, strict=True)
        ]
        for column in rows.columns[2:]
    }
    return rows.assign(**told)


table5 = {metric: table_5(metric) for metric in ("auc_pct", "logloss")}
digits = {c: "+.2f" if "gain" in c else ".2f" for c in table5["auc_pct"].columns[2:]}
caption = "AUC of the paper's Table 5 in percent, and gains in points, one run each."
display(figure_table(table5["auc_pct"], formats=digits, caption=caption))
caption = "Logloss of the paper's Table 5, one run each; a gain is what it falls by."
display(figure_table(in_print(table5["logloss"]), caption=caption))

# %% tags=["hide-input"]
AS_TOLD = {"auc_pct": "AUC", "logloss": "logloss"}


def lost(metric, title, which):
    """In how many cases of Table 5 a metric gets worse."""
    return int((table5[metric][f"{title}, gain {which}"] < 0).sum())


told = [
    f"in {name} the self-ensemble loss is worse than the plain network in {lost(metric, 'with SE', 'put right')} of "
    f"{len(table5[metric])} cases (as printed, in {lost(metric, 'with SE', 'as printed')}), the hybrid in "
    f"{lost(metric, 'with QNN-alpha', 'put right')} (as printed, in {lost(metric, 'with QNN-alpha', 'as printed')})"
    for metric, name in AS_TOLD.items()
]
Markdown(f"With Table 3's baselines, {'; '.join(told)}.")

# %% [markdown]
# ## What we ran
#
# On MovieLens-100K all seven networks are tuned alike: twelve random settings from one declared list, one run each
# with a seed that no result uses, chosen on validation AUC. Networks with an MLP choose its widths, batch norm and
# dropout; those with QNN-alpha's layers choose layers, rows and batch norm; all choose the L2 strength. The cells
# with the self-ensemble loss keep the settings of their plain network. The full grid has five seeds a cell; the
# tables tell how many are recorded so far.
#
# QNN-alpha itself comes from {doc}`/chapters/05_qnn_alpha`. On Frappe it and its hybrids have the settings of the authors'
# logs, which favours them there, but for the small CIN; only the plain networks are searched.

# %%
BASES = ["DNN", "DeepFM", "xDeepFM", "DCNv2"]
HYBRIDS = ["DeepFM-QNN", "xDeepFM-QNN", "DCNv2-QNN"]
FORMS = {
    "DeepFM-QNN": ["written", "released"],
    "xDeepFM-QNN": ["released"],
    "DCNv2-QNN": ["written", "released"],
}
FIXED = {"xDeepFM": {"cin_units": [32]}, "xDeepFM-QNN": {"cin_units": [32]}}
MLP_CHOICES = {
    "hidden_units": [[200, 200], [200, 200, 200], [400, 400], [400, 400, 400]],
    "batch_norm": [True, False],
    "dropout": [0.1, 0.2, 0.4],
    "embedding_regularizer": STRENGTHS,
}
SE = {"loss": "self-ensemble", "passes": 2}
PLANS = {
    "smoke": {"cells": ["DNN"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"cells": ["DNN", "DNN+SE", "DeepFM"], "seeds": [1], "rows": None, "max_epochs": 100},
    "paper": {"cells": ["DNN", "DNN+SE", "DeepFM"], "seeds": [1], "rows": None, "max_epochs": 100},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def search(data):
    """Twelve random settings of every network without a log, one run each."""
    names = BASES if data in LOGS else BASES + HYBRIDS
    systems = {name: (name, FIXED.get(name, {})) for name in names}
    choices = {name: MLP_CHOICES if name in BASES else CHOICES for name in systems}
    return search_grid("plug-and-play", data, systems, choices, Protocol.named("qnn", data))


def chosen(data, name):
    """Settings and protocol of a network, the authors' or those of its search, and the search's validation AUC."""
    if data in LOGS and name in HYBRIDS:
        found = logged(data, name)
        return found.settings | FIXED.get(name, {}), found.protocol, None
    found = best_search(searched(search(data)), name, data)
    return dict(found["settings"]), Protocol(**found["protocol"]), 100 * found["valid"]["auc"]


def cells_of(name, settings):
    """The cells that share the settings found for one network."""
    if name in BASES:
        return {name: (name, settings), f"{name}+SE": (name, settings | SE)}
    if len(FORMS[name]) == 1:
        return {name: (name, settings)}
    return {f"{name}.{form}": (name, settings | {"form": form}) for form in FORMS[name]}


def full_grid(data, names=(*BASES, *HYBRIDS), seeds=range(1, 6), only=None, rows=None, **changes):
    """Every network at its chosen settings."""
    grid = Grid("plug-and-play")
    for name in names:
        settings, protocol, _ = chosen(data, name)
        cells = cells_of(name, settings)
        cells = {label: cell for label, cell in cells.items() if only is None or label in only}
        grid.add(data, cells, protocol.replace(**changes), seeds, rows=rows)
    return grid


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(search(data), device=device)
        run_grid(full_grid(data), device=device)

# %% tags=["hide-input"]
records = experiment_records("plug-and-play")
runs = {name: experiment_runs("plug-and-play", name, records) for name in RECORDED}
shown = measured_on("plug-and-play", runs)
views.waiting(RECORDED[1:], shown)

# %% tags=["hide-input"]
SETTINGS = ["layers", "rows", "hidden_units", "batch_norm", "dropout"]
for data in shown:
    lines = []
    for name in [*BASES, *HYBRIDS]:
        settings, protocol, valid = chosen(data, name)
        line = {"network": name, "validation AUC %": valid}
        line |= {key.replace("_", " "): str(views.setting(settings.get(key, ""))) for key in SETTINGS}
        lines.append(line | {"L2 strength": protocol.embedding_regularizer})
    digits = {"validation AUC %": ".2f"}
    display(figure_table(pd.DataFrame(lines), formats=digits, caption=f"The settings chosen on {data}."))

# %% [markdown]
# ## With the loss, and with the layers
#
# One block for each network: paired differences from the plain one. QNN-alpha is DNN's hybrid.

# %% tags=["hide-input"]
BLOCKS = {
    "DNN": {"DNN+SE": "DNN + SE", NAME: "QNN-alpha"},
    "DeepFM": {
        "DeepFM+SE": "DeepFM + SE",
        "DeepFM-QNN.written": "DeepFM with QNN-alpha, written",
        "DeepFM-QNN.released": "DeepFM with QNN-alpha, released",
    },
    "xDeepFM": {"xDeepFM+SE": "xDeepFM + SE", "xDeepFM-QNN": "xDeepFM with QNN-alpha"},
    "DCNv2": {
        "DCNv2+SE": "DCNv2 + SE",
        "DCNv2-QNN.written": "DCNv2 with QNN-alpha, written",
        "DCNv2-QNN.released": "DCNv2 with QNN-alpha, released",
    },
}
compared = {}
for name in shown:
    blocks = [views.against(runs[name], plain, {plain: plain} | cells) for plain, cells in BLOCKS.items()]
    compared[name] = pd.concat(blocks, ignore_index=True)
    caption = "Right of the dashed line: better than the plain network of the same name. QNN-alpha is compared with DNN."
    views.show(views.against_figure(compared[name], "the plain network", name), caption, "plugging-in-helps")
    display(
        views.comparison(compared[name], f"Table 5's networks on {name}. Tests are adjusted within a block.")
    )

# %% [markdown]
# ## Made in this build

# %% tags=["hide-input"]
names = [name for name in BASES if any(cell.split("+")[0] == name for cell in plan["cells"])]
changes = {"max_epochs": plan["max_epochs"]}
fresh = full_grid(EMBEDDED, names, plan["seeds"], plan["cells"], plan["rows"], **changes)
made = run_anew(fresh, device=device)
beside = views.made(made, runs[EMBEDDED] if plan["rows"] is None else None)
views.table(beside, views.MADE_COLUMNS, "Runs of this build, beside their records.")

# %% [markdown]
# ## Claims and verdicts

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, "plug-and-play", shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def said(name):
    """What loss and layers bring on one data set, finding by finding."""
    found, rows = verdicts[name], compared[name]
    return views.findings(
        name,
        [
            views.answer(
                "Do QNN-alpha's layers improve every network, as released?", found, "plugging-in-helps"
            ),
            views.answer(
                "And as written, where only the MLP is replaced?", found, "plugging-in-helps-written"
            ),
            f"By how much? In points of AUC: {views.listing(rows[~rows['label'].str.endswith('+SE')])}.",
            views.answer("Do they help more than the loss alone?", found, "plugging-in-beats-se"),
            views.answer("Does the loss alone improve every network?", found, "se-helps-every-network"),
        ],
    )


Markdown("\n\n".join(said(name) for name in shown))

# %% [markdown]
# **How sure are we.** Twelve random settings are few, and the best of twelve depends on luck.
# One network may have been luckier
# than another by a few tenths of a point; the intervals over seeds do not contain that.
#
# The search of a hybrid used its released form, so the written form runs at settings found for the other. The cells with
# the loss alone were not tuned again, which favours the hybrids over them.
#
# Dropout is searched for networks with an MLP
# and is 0.1 for the hybrids. All cross networks have three layers.
#
# ## Exercises
#
# **1.** The released DeepFM hybrid halves the FM term. Can the network undo this by training?
#
# ````{dropdown} A solution
# Yes: embeddings and first-order weights can grow. But the same embeddings feed the other part, and the L2 penalty holds them
# back, so the half acts like a prior that trusts FM less.
# ````
#
# **2.** Give the cells with the self-ensemble loss a search of their own. Does a verdict change?
#
# ````{dropdown} A solution
# ```python
# systems = {"DNN+SE": ("DNN", SE)}
# grid = search_grid("plug-and-play", "ml-100k", systems, {"DNN+SE": MLP_CHOICES}, Protocol.named("qnn", "ml-100k"))
# records = run_anew(grid)
# print(best_search(records, "DNN+SE", "ml-100k")["settings"])
# ```
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("plug-and-play", records, made, shown=shown)

# %% [markdown]
# **Next.** {doc}`/chapters/07_second_network` asks whether the loss replaces a second network.
