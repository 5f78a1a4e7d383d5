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
# (sec-align)=
# # Align
#
# After distillation the main MLP gets a partner: a parallel MLP with an embedding table of its own, which never sees the teacher.
# DS-MLP {cite:p}`ou2026dsmlp` then trains both together and takes care that neither drowns the other (section 3.2).
#
# The argument has a first link. In the teacher, the paper says, the explicit stream dominates; so the student learns that one; so
# another stream is needed; so the two must be balanced. We test each link, then take the method apart as Table 6 does.
#
# **Before you read on.** {doc}`/chapters/08_distil` explains the first stage and its readings.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.figures import INK, figure_table, levels, stacked
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.dual_stream import student, student_search, teacher_run, teacher_search
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.stats import summary
from ctrlib.lab.streams import measure_runs
from ctrlib.lab.tables import papers_table
from ctrlib.views.footer import footer

# %% [markdown]
# ## The stage
#
# The prediction is the sigmoid of the mean logit (Eq. 7), and the loss has three parts (Eq. 9 and 10):
#
# $$
# \begin{gathered}
# \hat y = \sigma\big(\tfrac12 (z_M + z_P)\big), \\
# \mathcal L = \overline{\mathrm{bce}(\hat y, y)} + \alpha\, \overline{\mathrm{bce}(\sigma(z_M), y)} + \beta\, \overline{\mathrm{bce}(\sigma(z_P), y)}.
# \end{gathered}
# $$
#
# The first part trains the pair. The other two, the *alignment losses*, make each stream a predictor of its own. Before the two heads the hidden states
# are normalised over the batch (Eq. 8), so that both streams start with numbers of one size.
#
# What the texts leave open, and our reading:
#
# | question | paper | released code | here |
# |---|---|---|---|
# | what is averaged | logits in Eq. 7, probabilities in Algorithm 1 | logits | logits; *probabilities* is a cell |
# | where hidden states are normalised | in this stage (section 3.2.2) | in stage I with GDCN and FinalMLP, elsewhere with other teachers | in this stage; the mode *released* has the other |
# | weights in that batch norm | none in Eq. 8 | has them | none |
# | branch losses in stage I | no | yes with GDCN and FinalMLP | no; *released* has them |
#
# ## What is taken away
#
# | cell | paper | what runs |
# |---|---|---|
# | no alignment loss | w/o alignment loss | $\alpha = \beta = 0$ |
# | no student | w/o student MLP | the teacher itself is the main stream and goes on learning, beside a fresh parallel MLP |
# | no parallel | w/o parallel MLP | one stream in both stages |
# | no MLPs | w/o dual MLP | a plain cross network in place of each MLP, in both stages |
# | no distillation | w/o KD | this stage alone, from fresh values |
#
# None of the five is in the released code. Whether the teacher goes on learning in *no student* is not said. Cells of our own stand beside
# them:
#
# | cell | what runs |
# |---|---|
# | two plain MLPs | from fresh values, the click loss of the mean, and nothing else |
# | two trained MLPs | the same, and each stream has the click loss of its own logit too |
# | no hidden alignment | the default without the batch norm of Eq. 8 |
# | released | both stages as in the authors' class with the GDCN teacher |
# | aligned | stage I with the main stream alone, as section 3.1.3 tells it |
# | two parallels | two parallel MLPs; section 3.4 says that there can be several |
# | one table | both streams read one embedding table |
#
# ## What we ran
#
# On MovieLens-100K the settings are those that DS-MLP's search chose on validation AUC, over both stages, with a seed that no result uses. On
# Frappe nothing was searched: the settings are those of the authors' configurations, with all loss weights 1. Every run starts
# from the distilled student of its own seed, and that one from the teacher of its seed. The full grid has ten seeds for DS-MLP, five for
# ablations and the first five cells of our own, three for the rest. What is recorded so far can be less: the tables tell the seeds of every cell.

# %%
# label -> (changes in both stages, changes in this stage only, the run of stage I that it starts from)
ABLATIONS = {
    "no-alignment-loss": ({}, {"alpha": 0.0, "beta": 0.0}, "distilled"),
    "no-student": ({}, {"main": "teacher"}, None),
    "no-parallel": ({"parallels": 0}, {}, "distilled-no-parallel"),
    "no-mlps": ({"main": "cross"}, {}, "distilled-no-mlps"),
    "no-distillation": ({}, {}, None),
}
OWN = {
    "two-plain-mlps": ({}, {"alpha": 0.0, "beta": 0.0, "hidden_alignment": "none"}, None),
    "two-trained-mlps": ({}, {"alpha": 1.0, "beta": 1.0, "hidden_alignment": "none"}, None),
    "no-hidden-alignment": ({}, {"hidden_alignment": "none"}, "distilled"),
    "released": ({"mode": "released"}, {}, "distilled-released"),
    "aligned": ({"mode": "aligned"}, {}, "distilled-aligned"),
}
SWEPT = {f"weights={a:g}": ({}, {"alpha": a, "beta": a}, "distilled") for a in (0.5, 0.7, 0.9, 1.1, 1.3, 1.5)}
VARIED = {
    "probabilities": ({"fusion": "probabilities"}, {}, "distilled-probabilities"),
    "two-parallels": ({"parallels": 2}, {}, "distilled-two-parallels"),
    "one-table": ({"shared_table": True}, {}, "distilled-one-table"),
}
PLANS = {
    "smoke": {"cells": ["DS-MLP"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"cells": ["DS-MLP", "two-plain-mlps"], "seeds": [1], "rows": 8000, "max_epochs": 3},
    "paper": {"cells": ["DS-MLP", "two-plain-mlps"], "seeds": [1], "rows": 8000, "max_epochs": 3},
}
TEACHER = "GDCN"
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def cells_of(default, cells, seed):
    """The runs of some cells with one seed."""
    return [
        default.align(label, seed, distilled=start, distil_changes=both, **both, **own)
        for label, (both, own, start) in cells.items()
    ]


def full_grid(name):
    """DS-MLP with ten seeds, what is taken away with five, what is varied with three."""
    default = student(name)
    grid = Grid("align", [default.align("DS-MLP", seed) for seed in range(1, 11)])
    for seed in range(1, 6):
        grid.runs += cells_of(default, ABLATIONS | OWN, seed)
    for seed in range(1, 4):
        grid.runs += cells_of(default, SWEPT | VARIED, seed)
    return grid


if profile == "paper":
    for name in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(name, [TEACHER, "MLP"]), device=device)
        run_grid(student_search(name), device=device)
        grid = full_grid(name)
        run_grid(grid, device=device)
        before = [student(name).distill("distilled", seed) for seed in range(1, 11)]
        pairs = [(run, teacher_run(name, TEACHER, run.seed)) for run in [*before, *grid.runs]]
        measure_runs(pairs, device=device)

# %% tags=["hide-input"]
records = experiment_records("align")
runs = {name: experiment_runs("align", name, records) for name in RECORDED}
shown = [name for name in measured_on("align", runs) if "DS-MLP" in set(runs[name]["label"])]
views.waiting(RECORDED[1:], shown)
measured = [name for name in shown if "main_share" in runs[name]]
if waits := [name for name in shown if name not in measured]:
    display(Markdown(f"The trained networks on {', '.join(waits)} are not measured yet."))
SETTINGS = {"dataset": ("data", ""), "settings.hidden_units": ("main MLP", "")}
SETTINGS |= {
    "settings.parallel_units": ("parallel MLP", ""),
    "settings.alpha": ("α", "g"),
    "settings.beta": ("β", "g"),
}
SETTINGS |= {"settings.dropout": ("dropout", "g"), "protocol.embedding_regularizer": ("L2 strength", "g")}
defaults = [runs[name].query("label == 'DS-MLP'").head(1) for name in shown]
if defaults:
    rows = pd.concat(defaults)
    rows = rows.assign(**{column: rows[column].map(views.setting) for column in SETTINGS if column in rows})
    display(
        views.table(
            rows,
            SETTINGS,
            "DS-MLP in this stage: on Frappe the authors' settings, elsewhere as its search chose them.",
        )
    )

# %% [markdown]
# ## Does the explicit stream dominate in the teacher?
#
# GDCN's logit is a sum of two parts, so its variance over test rows splits without a rest. The *share* of a part is its covariance with
# the sum, divided by the variance of the sum. Shares add to one; a part that works against the sum has a negative one.

# %% tags=["hide-input"]
for name in measured:
    rows = runs[name].query("label == 'distilled'").dropna(subset="explicit_share").sort_values("seed")
    if len(rows):
        found = summary(rows["explicit_share"])
        rows = rows.assign(
            teacher="seed " + rows["seed"].astype(str), implicit_share=1 - rows["explicit_share"]
        )
        figure = stacked(
            rows,
            "teacher",
            ["explicit_share", "implicit_share"],
            names={"explicit_share": "explicit (gated cross network)", "implicit_share": "implicit (MLP)"},
            x_title=f"share of the teacher's logit, {name}",
        )
        figure.add_vline(x=0.5, line={"dash": "dash", "width": 1, "color": INK})
        views.show(
            figure,
            "One bar for each trained teacher. Beyond the dashed line the explicit stream has the larger share.",
            "explicit-dominates-the-teacher",
        )
        spread = rows[["explicit_std", "implicit_std"]].mean()
        text = (
            f"On {name} the explicit share is {found.value:.3f}, interval {found.low:.3f} to {found.high:.3f}, over {found.n} "
            f"teachers. Standard deviations over rows: {spread['explicit_std']:.2f} of the explicit part, "
            f"{spread['implicit_std']:.2f} of the implicit one."
        )
        display(Markdown(text))

# %% [markdown]
# ## The ablations
#
# Paired differences from DS-MLP, by seed.

# %% tags=["hide-input"]
SHOWN = {
    "DS-MLP": "DS-MLP",
    "no-alignment-loss": "no alignment loss",
    "no-student": "no student",
    "no-parallel": "no parallel",
    "no-mlps": "no MLPs",
    "no-distillation": "no distillation",
}
ablations = {name: views.against(runs[name], "DS-MLP", SHOWN) for name in shown}
for name in shown:
    if ablations[name]["difference"].notna().any():
        caption = "Left of the dashed line: worse than DS-MLP. Which part costs most when it is taken away?"
        views.show(views.against_figure(ablations[name], "DS-MLP", name), caption, "distillation-costs-most")
    display(views.comparison(ablations[name], f"Ablations on {name}."))

# %% [markdown]
# The paper's Table 6, one figure each, as differences from its DS-MLP. Ours, means over seeds, stand beside it.

# %% tags=["hide-input"]
PRINTED = {
    "no-alignment-loss": "w/o alignment Loss",
    "no-student": "w/o student MLP",
    "no-parallel": "w/o parallel MLP",
    "no-mlps": "w/o dual MLP",
    "no-distillation": "w/o KD",
}


def beside(metric, column, scale, digits):
    """Table 6 in one metric as differences from DS-MLP, with our differences behind it."""
    table = papers_table("dsmlp_table6").query("metric == @metric")
    values = table.pivot(index="variant", columns="dataset", values="value")
    rows = (
        scale * (values - values.loc["DS-MLP"]).loc[list(PRINTED.values()), ["Criteo", "Avazu", "MovieLens"]]
    )
    for name in shown:
        ours = ablations[name].set_index("label")[column]
        rows[f"ours, {name}"] = [ours.get(label) for label in PRINTED]
    rows.columns.name = None
    rows = rows.astype(float).reset_index(names="ablation")
    return rows, dict.fromkeys(rows.columns[1:], digits)


rows, formats = beside("auc", "difference", 100, "+.2f")
display(figure_table(rows, formats=formats, caption="AUC less that of DS-MLP, points: Table 6 and ours."))
rows, formats = beside("logloss", "logloss_difference", 1, "+.4f")
figure_table(rows, formats=formats, caption="Logloss less that of DS-MLP: Table 6 and ours. More is worse.")

# %% [markdown]
# The text calls distillation the cornerstone. In its own table *w/o KD* costs most AUC on Criteo and least on Avazu and MovieLens.
#
# ## Beside simpler networks
#
# Is DS-MLP better than its own first stage, than its teacher, than two plain MLPs without any of this? And does the released class
# do what the text describes?
#
# Two MLPs that share nothing but the click loss of their mean need not both learn. One can carry the logit while the other stays
# silent; the shares of the streams below show whether it does. Then the pair is one MLP with noise added, and to beat it says little. In
# the fairer pair each stream has a click loss of its own, as DS-MLP's streams have.

# %% tags=["hide-input"]
BESIDE = {
    "DS-MLP": "DS-MLP, as written",
    "distilled": "its first stage",
    "GDCN": "its teacher",
    "MLP": "plain MLP",
    "two-plain-mlps": "two plain MLPs",
    "two-trained-mlps": "two trained MLPs",
    "no-hidden-alignment": "no hidden alignment",
    "released": "as released",
    "aligned": "stage I alone (3.1.3)",
}
rivals = {name: views.against(runs[name], "DS-MLP", BESIDE) for name in shown}
for name in shown:
    if rivals[name]["difference"].notna().any():
        caption = "Right of the dashed line: better than DS-MLP. Look first at what is simpler than it."
        views.show(views.against_figure(rivals[name], "DS-MLP", name), caption, "beats-two-plain-mlps")
    display(views.comparison(rivals[name], f"DS-MLP and simpler or other forms on {name}."))

# %% [markdown]
# ## What the norm before the heads does
#
# Eq. 8 normalises hidden states that have been through a ReLU. Some units are silent on nearly all rows. Their variance over a batch is then
# close to nothing, and the norm divides by its root. When such a unit answers to a new row, its answer is multiplied a hundredfold and more, and the logit
# with it. A norm with weights of its own, as in the code, can turn such a unit down. The one of Eq. 8 cannot.
#
# *Quiet units* are those with a variance below the norm's own $\epsilon$. *Extreme* rows have a logit beyond 6 either way, a near certain
# click or no click. *Clipped* is the logloss when logits are cut off there: if it is much lower, few rows make the loss.

# %% tags=["hide-input"]
TAILS = {
    "quiet": ("quiet units", ".1%"),
    "extreme": ("extreme rows", ".1%"),
    "test_logloss": ("logloss", ".4f"),
    "clipped_logloss": ("clipped", ".4f"),
    "whole_correlation": ("correlation with the teacher", ".2f"),
    "whole_rank": ("of ranks", ".2f"),
}
NORMED = {"DS-MLP": "DS-MLP: norm in this stage", "no-hidden-alignment": "no hidden alignment"}
NORMED |= {"released": "released: norm in stage I, with weights", "distilled": "first stage, without a norm"}
NORMED |= {"no-distillation": "no distillation", "two-plain-mlps": "two plain MLPs"}
for name in shown:
    if "quiet" in runs[name]:
        both = views.common_seeds(runs[name], NORMED, "quiet")
        means = both.groupby("label")[list(TAILS)].mean(numeric_only=True)
        rows = means.reindex(list(NORMED)).dropna().reset_index()
        rows.insert(0, "form", rows["label"].map(NORMED))
        caption = f"Tails of the predictions on {name}, means over {views.seeds_told(both)}."
        display(views.table(rows, {"form": ("form", ""), **TAILS}, caption))

# %% [markdown]
# ## The weights of the alignment losses
#
# The right half of Figure 5 varies $\alpha$ from 0.5 to 1.5 and keeps the variation of $\beta$ consistent; we set both to one value. The figure is a
# drawing without printed numbers. The text sees a peak near 1. Table 3 lists what was chosen:

# %% tags=["hide-input"]
table3 = papers_table("dsmlp_table3")[
    ["dataset", "teacher_model", "main_mlp_width", "lambda", "alpha", "beta"]
]
headings = {
    "teacher_model": "teacher",
    "main_mlp_width": "width of the student",
    "lambda": "λ",
    "alpha": "α",
    "beta": "β",
}
display(figure_table(table3, headings=headings, caption="The paper's Table 3."))
WEIGHTS = {label: own["alpha"] for label, (_, own, _) in SWEPT.items()}
sweeps = {name: views.sweep(runs[name], WEIGHTS, "weight") for name in shown}
for name in shown:
    if len(sweeps[name]) > 1:
        figure = views.sweep_figure(sweeps[name], "weight", name, "α = β")
        points = views.common_seeds(runs[name], WEIGHTS)
        chosen = views.reference_means(
            runs[name], {"DS-MLP": "DS-MLP's own"}, "test_auc", points["seed"], 100
        )
        levels(figure, chosen)
        views.show(
            figure,
            f"Is there a sweet spot near 1, or is the line flat within its bars? All over {views.seeds_told(points)}.",
            "weights-have-a-sweet-spot",
        )
        display(views.sweep_table(sweeps[name], "weight", f"Weights of the alignment losses on {name}."))

# %% [markdown]
# ## Fusion, streams and tables

# %% tags=["hide-input"]
FORMS = {
    "DS-MLP": "mean of logits, one parallel, two tables (DS-MLP)",
    "probabilities": "mean of probabilities",
    "two-parallels": "two parallel MLPs",
    "one-table": "one embedding table",
}
for name in shown:
    forms = views.against(runs[name], "DS-MLP", FORMS)
    if forms["difference"].notna().any():
        caption = (
            "Right of the dashed line: better than DS-MLP. Does a second parallel MLP cost anything, or help?"
        )
        views.show(views.against_figure(forms, "DS-MLP", name), caption, "several-parallel-mlps")
    display(views.comparison(forms, f"Other forms on {name}; differences from DS-MLP."))

# %% [markdown]
# ## Who makes the logit?
#
# The shares of the streams in the final logit, as for the teacher above. The first bar is the end of stage I, where the parallel stream is
# untrained. Without batch norm in the layers, as on MovieLens-100K, its share is about nothing there, by construction. With batch norm, as on
# Frappe, an untrained stream is not small, and the share is measured. The question is what the second stage makes of it, and whether it
# needs the alignment losses to do so.

# %% tags=["hide-input"]
BALANCE = {
    "distilled": "before (end of stage I)",
    "DS-MLP": "DS-MLP",
    "no-alignment-loss": "no alignment loss",
    "no-hidden-alignment": "no hidden alignment",
    "no-distillation": "no distillation",
    "two-plain-mlps": "two plain MLPs",
    "two-trained-mlps": "two trained MLPs",
    "no-student": "no student (main: the teacher)",
    "weights=0.5": "α = β = 0.5",
    "weights=1.5": "α = β = 1.5",
}
STREAMS = {
    "main_share": ("main share", ".3f"),
    "larger_share": ("larger share", ".3f"),
    "whole_auc": ("AUC %", ".2f"),
    "main_auc": ("main AUC %", ".2f"),
    "parallel_auc": ("parallel AUC %", ".2f"),
    "between_correlation": ("correlation of the two", ".3f"),
    "main_correlation": ("main with teacher", ".3f"),
    "parallel_correlation": ("parallel with teacher", ".3f"),
    "seeds": ("seeds", ""),
}


def balance(name):
    """What the streams of each cell do, means over the seeds that all cells share."""
    frame = views.common_seeds(runs[name], BALANCE, "main_share")
    frame = frame.assign(whole_auc=frame["test_auc"].astype(float))
    present = [column for column in STREAMS if column in frame]
    means = frame.groupby("label")[present].mean()
    means = means.assign(**{column: 100 * means[column] for column in present if column.endswith("_auc")})
    means = means.assign(seeds=frame.groupby("label").size(), parallel_part=1 - means["main_share"])
    means = means.loc[[label for label in BALANCE if label in means.index]]
    return means.assign(streams=[BALANCE[label] for label in means.index]).reset_index()


balances = {name: balance(name) for name in measured}
for name in measured:
    names = {"main_share": "main stream", "parallel_part": "parallel stream"}
    figure = stacked(
        balances[name], "streams", list(names), names=names, x_title=f"share of the final logit, {name}"
    )
    figure.add_vline(x=0.5, line={"dash": "dash", "width": 1, "color": INK})
    views.show(
        figure,
        "The nearer the border is to the dashed line, the more even the two. Compare the second bar with the third.",
        "more-even-than-the-teacher",
    )
    display(
        views.table(
            balances[name],
            {"streams": ("streams", ""), **STREAMS},
            f"The streams on {name}, means over the seeds that all of these cells share.",
        )
    )

# %% [markdown]
# The last columns tell more than shares. Two streams with equal shares may say the same thing; then the pair is one network drawn twice. Section
# 4.3.6 expects this of large weights.
#
# ## Made in this build
#
# A small copy of all stages, few rows and few epochs. It shows that the code runs; its figures are not those of the records.


# %% tags=["hide-input"]
asked = [run for run in full_grid(EMBEDDED).runs if run.label in plan["cells"] and run.seed in plan["seeds"]]
made = run_anew(
    Grid("align", [run.smaller(plan["rows"], plan["max_epochs"]) for run in asked]), device=device
)
views.table(views.made(made, None), views.MADE_COLUMNS, "Runs of this build.")

# %% [markdown]
# ## Verdicts
#
# The claims of section 3.2, of Table 6 and of the right half of Figure 5. Those about two plain MLPs and about the released class are our
# own questions, decided by the same rules.

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, "align", shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def of_shares(name):
    """The larger share of the two streams with and without the alignment loss, in words."""
    if name not in measured:
        return ""
    shares = balances[name].set_index("label")["larger_share"]
    if not {"no-alignment-loss", "DS-MLP"} <= set(shares.index):
        return ""
    return (
        f"The larger share is {shares['no-alignment-loss']:.2f} without it and {shares['DS-MLP']:.2f} with it"
    )


def of_weights(name):
    """The best and the worst of the swept weights, in words."""
    if len(sweeps[name]) < 2:
        return ""
    auc = sweeps[name].set_index("weight")["test_auc"]
    return f"Of those swept {auc.idxmax():g} is best ({auc.max():.2f} %) and {auc.idxmin():g} lowest ({auc.min():.2f} %)"


def said(name):
    """What the second stage does on one data set, finding by finding."""
    found, others = verdicts[name], rivals[name]
    others = others[~others["label"].isin(["two-plain-mlps", "distilled"])]
    return views.findings(
        name,
        [
            views.answer("Does DS-MLP beat two plain MLPs?", found, "beats-two-plain-mlps"),
            views.answer("Does DS-MLP beat its own first stage?", found, "second-stage-lifts"),
            f"What does each part cost when it goes? In points of AUC: {views.listing(ablations[name])}.",
            views.answer("Does distillation cost most when it goes?", found, "distillation-costs-most"),
            f"How far are other forms and networks from DS-MLP? In points of AUC: {views.listing(others)}.",
            views.answer(
                "Does the explicit stream dominate in the teacher?",
                found,
                "explicit-dominates-the-teacher",
                lead="Its share is",
            ),
            views.answer(
                "Does one stream dominate without the alignment loss?",
                found,
                "one-stream-dominates-without-alignment",
                told=of_shares(name),
            ),
            views.answer(
                "Can the student be joined with two parallel MLPs without loss?",
                found,
                "several-parallel-mlps",
                lead="Two less one:",
            ),
            views.answer(
                "Are weights near 1 best for the alignment losses?",
                found,
                "weights-have-a-sweet-spot",
                told=of_weights(name),
            ),
        ],
    )


Markdown("\n\n".join(said(name) for name in shown))

# %% [markdown]
# **What an ablation is compared with.** Each starts from the student that fits it: *no parallel* and *no MLPs* have a first stage of their own, so
# they lose or win over both stages.
#
# *No distillation* also loses the teacher's table and the epochs of stage I. *No parallel* also loses the partner's parameters;
# the table has both counts.
#
# **How sure are we.** The intervals are over seeds on one split. A seed fixes the teacher too: where teachers differ much, so does all that starts from
# them. Cells that start from fresh values do not share that luck.
#
# All settings were chosen for the full model, on Frappe by its authors and for other data; part of each loss is a loss of tuning. Every stage stops by itself on validation AUC, so
# cells differ in how long they train.
#
# The share is one number for the
# balance, and says nothing about what a stream knows: {doc}`/chapters/08_distil` has the agreement with the teacher.
#
# ## Exercises
#
# **1.** Show that at $\alpha = \beta = 0$ a stream can grow while the other shrinks without any change in the loss. What does $\alpha > 0$ change?
#
# ````{dropdown} A solution
# The click loss sees $z_M + z_P$ only. Add any $f(x)$ to one logit that both streams can express and take it from the other: the loss
# stays. With $\alpha > 0$ the main stream must predict by itself, and $\mathrm{bce}(\sigma(z_M), y)$ is strictly convex in $z_M$, which fixes it.
# ````
#
# **2.** Eq. 7 averages logits, Algorithm 1 probabilities. Take logits of 2 and -4. What does each predict, and when do they agree?
#
# ````{dropdown} A solution
# ```python
# import torch
# z = torch.tensor([2.0, -4.0])
# print(torch.sigmoid(z.mean()), torch.sigmoid(z).mean())
# ```
# The mean logit gives the surer stream more say. The two agree when the streams do, or when their logits are opposite; for a small distance $2h$
# around $z$ they differ by about $\tfrac12 h^2 \sigma''(z)$.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("align", records, made, shown=shown)

# %% [markdown]
# **Next.** {doc}`/chapters/10_teachers` changes the teacher.
