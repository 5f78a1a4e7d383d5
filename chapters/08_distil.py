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
# (sec-distil)=
# # Distil
#
# DS-MLP {cite:p}`ou2026dsmlp` ends as two plain MLPs. Its strength is to come from how they are trained. In the first stage one of
# them, the *main MLP*, learns from a trained teacher with a cross network (section 3.1). In the second a *parallel MLP* joins it
# (section 3.2, {doc}`/chapters/09_align`).
#
# This chapter stays in the first stage. Does the student learn the teacher? Does it predict better for it? And does it matter
# which distillation loss one takes? The paper names three, and the released code has a fourth.
#
# **Before you read on.** You need cross entropy and logits. The cross network is the one of {doc}`/chapters/01_activation`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]
import pandas as pd
import torch
from IPython.display import Markdown, display

from ctrlib import load_dataset, views
from ctrlib.figures import INK, figure_table, levels, scatter
from ctrlib.lab import Grid, run_anew, run_grid
from ctrlib.lab.dual_stream import NAME, student, student_search, teacher_run, teacher_search
from ctrlib.lab.experiments import experiment_records, experiment_runs, measured_on
from ctrlib.lab.judged import with_every_name
from ctrlib.lab.streams import measure_runs
from ctrlib.lab.tables import by_seed, papers_table
from ctrlib.losses import distillation_loss
from ctrlib.models import build_model
from ctrlib.views.footer import footer

# %% [markdown]
# ## The stage
#
# The teacher is GDCN: a gated cross network, called the *explicit* stream, and an MLP, the *implicit* one. Its logit is the sum of
# both (Eq. 2). It is trained first and then frozen. The student's stage minimises (Eq. 6)
#
# $$
# \mathcal L = \mathcal L_{CTR} + \lambda\, \mathcal L_{KD},
# $$
#
# the click loss of the stage's prediction and a distillation loss between the logit $z_M$ of the main MLP and the teacher's $z_T$.
# With $p = \sigma(z)$, what the texts offer for $\mathcal L_{KD}$:
#
# | name here | $\mathcal L_{KD}$ | where it stands |
# |---|---|---|
# | cross entropy | $\overline{\mathrm{bce}\big(\sigma(z_M/\tau), \sigma(z_T/\tau)\big)}$ | section 3.1.3; the value of $\tau$ is not given |
# | KL | $\overline{\mathrm{kl}(p_T \Vert p_M)}$ | Algorithm 1, step 8, between hidden states |
# | squared | $\overline{(z_T - z_M)^2}$ | section 3.5, between outputs in $[0, 1]$ |
# | squared mean | $\big(\overline{z_T - z_M}\big)^2$ | the released code, on probabilities with GDCN and on logits with DCNv2 |
#
# Hidden states of the two networks have different widths and are no distributions, so the KL is taken between predictions here.
# Cross entropy at $\tau = 1$ is our default. The two squared losses compare logits where nothing else is said; cells of their own compare
# probabilities, as section 3.5 has it and the released class with GDCN.
#
# **A sign.** Eq. 5 has a minus before the sum over rows. With $L(t, s) = t \log s + (1 - t) \log(1 - s)$ that is the cross entropy and all is well.
# The text calls $L$ a loss that measures a difference. Then the minus is one too many: to minimise it would drive student and teacher
# apart. We read it so that they come closer, as is surely meant.
#
# ## Which streams learn
#
# Section 3.1.3 distils the main MLP by itself, and section 3.2 adds the parallel one later. In Algorithm 1 both streams make the
# prediction of stage I and only the main one is updated. In the released code both are updated. We run all three; the default is
# Algorithm 1. With the fusion of Eq. 7 its stage I is
#
# $$
# \hat y = \sigma\big(\tfrac12 (z_M + z_P)\big), \qquad z_P \text{ untrained}.
# $$
#
# The cell asks how much an untrained parallel stream says: at the settings that the search on MovieLens-100K chose, and with the batch norm in
# the layers switched the other way. On Frappe the settings are those of the authors' configurations, which have it.

# %%
EMBEDDED = "ml-100k"
chosen = student(EMBEDDED)
data = load_dataset(EMBEDDED)
normed = bool(chosen.settings["batch_norm"])
told = []
for batch_norm in (normed, not normed):
    settings = chosen.cell_settings("distill", batch_norm=batch_norm)
    network = build_model(NAME, data.schema, seed=1, **settings).train()
    with torch.no_grad():
        untrained = network.stream_logits(data.train.ids[:4096])[1]
    told.append(
        f"{'with' if batch_norm else 'without'} batch norm a standard deviation of {untrained.std():.1e} and a mean of "
        f"{untrained.mean():.1e}"
    )
Markdown(
    f"Over {len(untrained):,} rows the logit of the untrained parallel stream has {told[0]}, as chosen; {told[1]}."
)

# %% [markdown]
# Without batch norm it adds about nothing. So the click loss wants $\tfrac12 z_M$ to be the right logit, and $z_M$ twice as large. The
# distillation loss wants $z_M = z_T$. The two pull at different lengths of one logit, and $\lambda$ decides who wins. The order of the
# rows, and with it AUC, is the same at either length. Logloss is not. A stage I with the main stream *alone* has no such conflict.
#
# With batch norm the untrained stream is a random function of the row that is not small. Then the main stream must also undo it, and
# half its logit is not the prediction of the stage.
#
# ## What the released loss sees
#
# The mean of squares splits in two:
#
# $$
# \overline{(z_T - z_M)^2} = \big(\overline{z_T - z_M}\big)^2 + \mathrm{var}(z_T - z_M).
# $$
#
# The released loss keeps the first part. Its gradient on row $i$ is $-\tfrac2B\, \overline{(z_T - z_M)}$, the same for each of the
# $B$ rows of a batch. Here it is on random logits, taken from the code:


# %%
def pull(name, teacher, own):
    """Force on each row's logit, the negative gradient of a distillation loss times the number of rows."""
    own = own.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(name, own, teacher), own)
    return -len(own) * gradient


generator = torch.Generator().manual_seed(1)
teacher, own = 2 * torch.randn(2, 60, generator=generator, dtype=torch.float64)
PULLS = {"cross-entropy": "cross entropy", "squared": "squared", "squared-mean": "squared mean"}
points = pd.concat(
    [
        pd.DataFrame(
            {"gap": (teacher - own).numpy().round(3), "pull": pull(name, teacher, own).numpy().round(3)}
        )
        .assign(loss=shown_as)
        .sort_values("gap")
        for name, shown_as in PULLS.items()
    ]
)
titles = {"x_title": "teacher's logit less student's", "y_title": "pull on the student's logit (times B)"}
views.show(
    scatter(points, "gap", "pull", "loss", color="loss", names=False, **titles),
    "Each point is a row. Squared error and cross entropy pull a row up where the teacher is above it and down where it is below. "
    "The squared mean gives all rows the same push.",
)

# %% tags=["hide-input"]
gap = teacher - own
whole, mean_part = float(gap.square().mean()), float(gap.mean().square())
one_sign = pull("squared-mean", teacher, own)
same = (pull("cross-entropy", teacher, own) - pull("kl", teacher, own)).abs().max()
Markdown(
    f"Mean of squares {whole:.3f} = square of the mean {mean_part:.3f} + variance {float(gap.var(correction=0)):.3f}: the released "
    f"loss sees {100 * mean_part / whole:.1f} % of the squared error of these logits. Of its {len(one_sign)} gradients "
    f"{int((one_sign > 0).sum())} point up and {int((one_sign < 0).sum())} down. Cross entropy and KL have the same gradient, up to "
    f"{same:.0e}: they differ by the entropy of a frozen teacher."
)

# %% [markdown]
# A push that is the same for all rows can move the average prediction. The click loss already sets that. So we expect the released
# loss to leave the student about as free as no teacher at all. On probabilities each push is also scaled by $p_M (1 - p_M)$; the sign is still
# the same for all. Below is the test.
#
# ## What we ran
#
# The student starts from the teacher's embedding table, as section 3.2.3 implies. So does the cell *no teacher*, with
# $\lambda = 0$: what separates it from the others is the loss alone. The *plain MLP* has the main stream's size and starts from nothing.
#
# On MovieLens-100K the settings of teacher and plain MLP were chosen by twelve random tries each, those of DS-MLP by twelve tries through both
# stages, all on validation AUC with a seed that no result uses. On Frappe nothing was searched. The teacher and DS-MLP have the settings of the
# authors' configurations there, all loss weights 1, and the plain MLP those of the leaderboard's MLP at the main stream's width. The full grid has ten seeds for the default and three for its variants. What is recorded so
# far can be less: the tables tell the seeds of every cell.

# %%
LAMBDAS = {
    "cross-entropy": (0.1, 0.5, 1.0, 1.5, 10.0),
    "kl": (0.1, 1.0, 10.0),
    "squared": (0.1, 1.0, 10.0),
    "squared-mean": (0.1, 1.0, 10.0),
}
WEIGHTED = {
    f"{loss}={weight:g}": {"distillation": loss, "distill_weight": weight}
    for loss, weights in LAMBDAS.items()
    for weight in weights
}
OTHERS = {
    "temperature=2": {"temperature": 2.0},
    "temperature=4": {"temperature": 4.0},
    "no-teacher": {"distill_weight": 0.0},
    "main-alone": {"distill_streams": "alone"},
    "both-learn": {"distill_streams": "both"},
}
ON_PROBABILITIES = {
    f"{loss}-probabilities={weight:g}": {
        "distillation": loss,
        "distill_on": "probabilities",
        "distill_weight": weight,
    }
    for loss in ("squared", "squared-mean")
    for weight in (1.0, 10.0)
}
BOTH = {"no-teacher-both": {"distill_weight": 0.0, "distill_streams": "both"}}
BOTH |= {
    f"squared-mean-both={weight:g}": {
        "distillation": "squared-mean",
        "distill_on": "probabilities",
        "distill_weight": weight,
        "distill_streams": "both",
    }
    for weight in (1.0, 10.0)
}
PLANS = {
    "smoke": {"cells": ["distilled"], "seeds": [1], "rows": 3000, "max_epochs": 2},
    "quick": {"cells": ["distilled", "no-teacher"], "seeds": [1], "rows": 8000, "max_epochs": 3},
    "paper": {"cells": ["distilled", "no-teacher"], "seeds": [1], "rows": 8000, "max_epochs": 3},
}
TEACHER, RECORDED = "GDCN", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def full_grid(name):
    """Stage I as chosen with ten seeds, its variants with three."""
    default = student(name)
    grid = Grid("distil", [default.distill("distilled", seed) for seed in range(1, 11)])
    cells = default.variants("distill", WEIGHTED | OTHERS | ON_PROBABILITIES | BOTH)
    grid.runs += [default.distill(label, seed, **cells[label]) for seed in range(1, 4) for label in cells]
    return grid


if profile == "paper":
    for name in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(name, [TEACHER, "MLP"]), device=device)
        run_grid(student_search(name), device=device)
        run_grid(Grid("teachers", [teacher_run(name, "MLP", seed) for seed in range(1, 6)]), device=device)
        grid = full_grid(name)
        run_grid(grid, device=device)
        measure_runs([(run, teacher_run(name, TEACHER, run.seed)) for run in grid.runs], device=device)

# %% tags=["hide-input"]
records = experiment_records("distil")
runs = {name: experiment_runs("distil", name, records) for name in RECORDED}
shown = [name for name in measured_on("distil", runs) if "distilled" in set(runs[name]["label"])]
views.waiting(RECORDED[1:], shown)
weights = {
    name: float(runs[name].query("label == 'distilled'")["settings.distill_weight"].iloc[0]) for name in shown
}
batch_normed = {
    name: bool(runs[name].query("label == 'distilled'")["settings.batch_norm"].iloc[0]) for name in shown
}
unmeasured = [name for name in shown if "main_auc" not in runs[name]]
if unmeasured:
    display(Markdown(f"The trained networks on {', '.join(unmeasured)} are not measured yet."))
settings = pd.DataFrame(
    [
        {
            "data": name,
            "main MLP": views.setting(row["settings.hidden_units"]),
            "λ": row["settings.distill_weight"],
            "dropout": row["settings.dropout"],
            "batch norm": views.setting(row["settings.batch_norm"]),
            "L2 strength": row["protocol.embedding_regularizer"],
        }
        for name in shown
        for _, row in runs[name].query("label == 'distilled'").head(1).iterrows()
    ],
    columns=["data", "main MLP", "λ", "dropout", "batch norm", "L2 strength"],
)
figure_table(
    settings, caption="The default: on Frappe the authors' settings, elsewhere as its search chose them."
)

# %% [markdown]
# ## Teacher, student and plain MLP
#
# Paired differences from stage I without the distillation loss. AUC and logloss are those of the stage's prediction, columns with *main* those of
# the main stream taken by itself. Correlation is between the logits of main stream and teacher, the squared difference between
# their probabilities, both over test rows. A seed fixes the teacher. So these last columns are means over the seeds that all students of a
# table share, and all lines below are over the seeds that all their points share.

# %% tags=["hide-input"]
RIVALS = {
    "no-teacher": "no teacher (λ = 0)",
    "distilled": "distilled, as Algorithm 1",
    "main-alone": "distilled, main stream alone (3.1.3)",
    "both-learn": "distilled, both streams learn (code)",
    "MLP": "plain MLP",
    "GDCN": "the teacher",
}
MEASURED = {
    "main_auc": ("main AUC %", ".2f"),
    "main_logloss": ("main logloss", ".4f"),
    "main_correlation": ("correlation", ".3f"),
    "main_squared": ("squared difference", ".4f"),
}


def with_measured(rows, frame, columns=MEASURED):
    """The rows with what was measured on the trained networks, means over the seeds that they share; AUC in percent."""
    for column in columns:
        scale = 100 if column.endswith("_auc") else 1
        found = views.seed_means(views.common_seeds(frame, rows["label"], column), column, scale)
        if len(found):
            rows = rows.merge(
                found[["label", "value"]].rename(columns={"value": column}), on="label", how="left"
            )
    return rows


rivals = {name: with_measured(views.against(runs[name], "no-teacher", RIVALS), runs[name]) for name in shown}
for name in shown:
    if rivals[name]["difference"].notna().any():
        caption = "Right of the dashed line: better than without the distillation loss. How far is the student from its teacher?"
        views.show(
            views.against_figure(rivals[name], "stage I without teacher", name),
            caption,
            "distillation-lifts-the-student",
        )
    display(views.comparison(rivals[name], f"Stage I, its teacher and a plain MLP on {name}.", MEASURED))

# %% [markdown]
# A teacher is trained anew for each seed, and its student starts from it. So the seeds also ask: does a better teacher make a better student?

# %% tags=["hide-input"]
FROM = {
    "distilled": "distilled",
    "main-alone": "main stream alone",
    "both-learn": "both streams learn",
    "no-teacher": "no teacher",
}


def seed_by_seed(name):
    """AUC of each student beside that of the teacher with its seed, in percent."""
    values = 100 * by_seed(runs[name])
    parts = []
    for label in FROM:
        if {label, TEACHER} <= set(values.index):
            both = values.loc[[TEACHER, label]].T.dropna().reset_index().round(3)
            both = both.rename(columns={TEACHER: "teacher", label: "student"})
            parts.append(both.assign(cell=label, shown=FROM[label], name="seed " + both["seed"].astype(str)))
    return (
        pd.concat(parts) if parts else pd.DataFrame(columns=["teacher", "student", "cell", "shown", "name"])
    )


for name in shown:
    rows = seed_by_seed(name)
    if len(rows):
        titles = {
            "x_title": "test AUC of the teacher (%)",
            "y_title": "test AUC after stage I (%)",
            "title": name,
        }
        figure = scatter(rows, "teacher", "student", "name", color="shown", names=False, **titles)
        low, high = rows["teacher"].min(), rows["teacher"].max()
        line = {"dash": "dash", "width": 1, "color": INK}
        figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=line)
        caption = "On the dashed line the student is as good as its teacher. Points along it share their teacher's luck."
        views.show(figure, caption)
        own = rows[rows["cell"] == "distilled"]
        text = f"On {name} the teachers lie between {own['teacher'].min():.2f} and {own['teacher'].max():.2f} % AUC"
        display(
            Markdown(
                f"{text}, their distilled students between {own['student'].min():.2f} and {own['student'].max():.2f} %."
            )
        )

# %% [markdown]
# The paper prints no plain MLP. The nearest that it has to a student by itself is the row *w/o parallel MLP* of Table 6, where the
# distilled main MLP goes through the second stage alone. Beside it the teacher that Table 3 names for each set:

# %% tags=["hide-input"]
teachers = papers_table("dsmlp_table3").set_index("dataset")["teacher_model"]
table5 = (
    papers_table("dsmlp_table5")
    .query("variant == 'teacher'")
    .set_index(["teacher", "dataset", "metric"])["value"]
)
table6 = (
    papers_table("dsmlp_table6")
    .query("variant == 'w/o parallel MLP'")
    .set_index(["dataset", "metric"])["value"]
)
printed = pd.DataFrame(
    [
        {
            "data": name,
            "teacher": taught_by,
            "AUC % of the teacher": 100 * table5[taught_by, name, "auc"],
            "of the student": 100 * table6[name, "auc"],
            "difference": 100 * (table6[name, "auc"] - table5[taught_by, name, "auc"]),
            "logloss of the teacher": table5[taught_by, name, "logloss"],
            "of the student ": table6[name, "logloss"],
        }
        for name, taught_by in teachers.items()
    ]
)
digits = {"AUC % of the teacher": ".2f", "of the student": ".2f", "difference": "+.2f"}
digits |= {"logloss of the teacher": ".4f", "of the student ": ".4f"}
figure_table(printed, formats=digits, caption="The student by itself in the paper: Tables 3, 5 and 6.")

# %% [markdown]
# ## The weight of the teacher
#
# The left half of the paper's Figure 5 varies $\lambda$ from 0.1 to 10. It is a drawing without printed numbers, and the text leaves open whether
# it shows the model after stage I or after both. Here it is after stage I, for each of the four losses.


# %% tags=["hide-input"]
def by_weight(name, loss):
    """The labels of one loss with their weights; the default stands for cross entropy at its own."""
    found = {f"{loss}={weight:g}": weight for weight in LAMBDAS[loss]}
    if loss == "cross-entropy":
        found = {label: weight for label, weight in found.items() if weight != weights[name]}
        found["distilled"] = weights[name]
    return found


def swept(name, metric):
    """The runs of all losses and weights with the seeds that all of them share."""
    labels = [label for loss in LAMBDAS for label in by_weight(name, loss)]
    return views.common_seeds(runs[name], labels, metric)


def over_weights(name, metric, losses=tuple(LAMBDAS), scale=1.0):
    """Mean of a metric and half of its interval over the shared seeds, for each loss and weight that is measured."""
    points = [
        {"loss": loss.replace("-", " "), "label": label, "weight": weight}
        for loss in losses
        for label, weight in sorted(by_weight(name, loss).items(), key=lambda item: item[1])
    ]
    return pd.DataFrame(points).merge(
        views.seed_means(swept(name, metric), metric, scale).round({"value": 5}), on="label"
    )


def in_two_figures(rows):
    """The rows of a figure, and those of the squared mean apart: its largest weight would flatten all other lines."""
    alone = rows["loss"] == "squared mean"
    return [part for part in (rows[~alone], rows[alone]) if len(part) > 1]


def weight_figure(rows, title, y_title, references, color="loss"):
    """A metric over λ on a logarithmic axis; broken lines are the references (name -> value)."""
    titles = {"x_title": "λ", "y_title": y_title, "title": title}
    figure = scatter(
        rows, "weight", "value", "label", color=color, y_error="half", joined=True, names=False, **titles
    )
    figure.update_xaxes(
        type="log", tickvals=[0.1, 0.5, 1, 1.5, 10], ticktext=["0.1", "0.5", "1", "1.5", "10"]
    )
    return levels(figure, references)


def levels_of(name, metric, labels, scale=1.0):
    """The means of a metric for some cells (label -> name shown) over the seeds of the points."""
    return views.reference_means(runs[name], labels, metric, swept(name, metric)["seed"], scale)


LEVELS = {"no-teacher": "no teacher", "GDCN": "teacher", "MLP": "plain MLP"}
NO_TEACHER = {"no-teacher": "no teacher"}


def apart(name):
    """How far the mean AUC of the main stream by itself lies from that of the stage, over the points above, in words."""
    rows = over_weights(name, "test_auc", scale=100).merge(
        over_weights(name, "main_auc", scale=100), on="label", suffixes=("", "_main")
    )
    if rows.empty:
        return f"The main stream by itself is not measured on {name} yet."
    gap = (rows["value"] - rows["value_main"]).abs().max()
    return (
        f"For the main stream taken by itself, over {len(rows)} points, the mean AUC is never further than {gap:.4f} points from "
        "the one above."
    )


for name in shown:
    for rows in in_two_figures(over_weights(name, "test_auc", scale=100)):
        figure = weight_figure(rows, name, "test AUC (%)", levels_of(name, "test_auc", LEVELS, 100))
        views.show(
            figure,
            "AUC of the stage's prediction. Does more weight help, and can it be too much? Bars: 95 % over "
            f"{views.seeds_told(swept(name, 'test_auc'))}, which all points and dotted lines share.",
            "larger-lambda-helps",
        )
    if told := apart(name):
        display(Markdown(told))

# %% [markdown]
# Now the conflict. The figure shows the logloss of cross entropy's cells twice: of the stage's prediction and of the main stream. Without
# batch norm in the layers the prediction is half the main stream's logit. With little weight the click loss then sets the length of the logit
# and the main stream alone is too sure of itself. With much weight the teacher sets it and the stage's prediction is too cautious. Where there is
# batch norm, as on Frappe, the prediction also holds the untrained stream, and this reading does not carry over.

# %% tags=["hide-input"]
for name in shown:
    parts = [
        over_weights(name, metric, ("cross-entropy",)).assign(prediction=told)
        for metric, told in (("test_logloss", "the stage's prediction"), ("main_logloss", "the main stream"))
    ]
    rows = pd.concat([part for part in parts if len(part)]) if any(map(len, parts)) else parts[0]
    if rows["weight"].nunique() > 1:
        references = levels_of(name, "test_logloss", {"main-alone": "main stream alone", "GDCN": "teacher"})
        figure = weight_figure(rows, name, "test logloss (nats)", references, color="prediction")
        views.show(
            figure,
            "Do the lines cross? A line that rises where the other falls is the conflict of Algorithm 1."
            if not batch_normed[name]
            else "Here the layers have batch norm, so the prediction is not half the main stream's logit.",
        )

# %% [markdown]
# ## Does the student agree with the teacher?

# %% tags=["hide-input"]
AGREEMENT = {
    "main_correlation": (
        "correlation with the teacher's logit",
        "Higher is closer. The dotted line is the student without a teacher.",
    ),
    "main_squared": (
        "squared difference of probabilities",
        "Lower is closer. A logit of the wrong length counts here, and did not above.",
    ),
}
for name in shown:
    for metric, (y_title, caption) in AGREEMENT.items():
        for rows in in_two_figures(over_weights(name, metric)):
            figure = weight_figure(rows, name, y_title, levels_of(name, metric, NO_TEACHER))
            views.show(figure, caption, "agreement-grows-with-lambda")

# %% tags=["hide-input"]
COLUMNS = {"loss": ("loss", ""), "λ": ("λ", "g"), "test_auc": ("AUC %", ".2f")}
COLUMNS |= {"test_logloss": ("logloss", ".4f"), **MEASURED}
COLUMNS |= {"seeds": ("seeds", ""), "failed": ("failed", ""), "num_epochs": ("epochs", ".1f")}
for name in shown:
    parts = [
        views.sweep(runs[name], by_weight(name, loss), "λ").assign(loss=loss.replace("-", " "))
        for loss in LAMBDAS
    ]
    parts.insert(0, views.sweep(runs[name], {"no-teacher": 0.0}, "λ").assign(loss="none"))
    rows = with_measured(pd.concat(parts), runs[name])
    display(views.table(rows, COLUMNS, f"All losses and weights on {name}."))

# %% [markdown]
# ## Temperature, and where the squares are taken
#
# A temperature divides both logits. The loss is not multiplied by its square, so a temperature of 2 also makes the term about four
# times weaker. Squared errors can compare logits or probabilities; a difference of probabilities is at most a quarter of that of
# logits. The squared mean of probabilities has a section of its own below.

# %% tags=["hide-input"]
DETAILS = {
    "distilled": "cross entropy, temperature 1",
    "temperature=2": "temperature 2",
    "temperature=4": "temperature 4",
    "squared=1": "squared, on logits, λ = 1",
    "squared-probabilities=1": "squared, on probabilities, λ = 1",
    "squared=10": "squared, on logits, λ = 10",
    "squared-probabilities=10": "squared, on probabilities, λ = 10",
}
for name in shown:
    rows = with_measured(views.against(runs[name], "distilled", DETAILS), runs[name])
    display(
        views.comparison(rows, f"Temperature and squares on {name}; differences from the default.", MEASURED)
    )

# %% [markdown]
# ## The loss as released
#
# With a GDCN teacher the released class takes the squared mean of *probabilities*, and both streams learn. So there are two comparisons. The
# first keeps Algorithm 1, where only the main stream learns, and changes the loss alone: it tells what the loss does by itself. In
# the second both streams learn, with the loss and without, as the class does. The squared mean of logits, in the figures above, is
# what the class has with DCNv2. The code has no $\lambda$, so its weight is 1; a weight of 10 shows what more of the loss would do. What else
# the class changes in this stage, such as a table that teacher and student share, is in the cell
# *as released* of {doc}`/chapters/09_align`.

# %% tags=["hide-input"]
RELEASED = {
    "no-teacher": {
        "no-teacher": "no teacher (λ = 0)",
        "squared-mean-probabilities=1": "squared mean of probabilities, λ = 1",
        "squared-mean-probabilities=10": "squared mean of probabilities, λ = 10",
        "squared-mean=1": "squared mean of logits, λ = 1",
        "squared-mean=10": "squared mean of logits, λ = 10",
    },
    "no-teacher-both": {
        "no-teacher-both": "no teacher (λ = 0), both streams learn",
        "squared-mean-both=1": "squared mean of probabilities, both learn, λ = 1",
        "squared-mean-both=10": "squared mean of probabilities, both learn, λ = 10",
    },
}
FAITHFUL = (*ON_PROBABILITIES, *BOTH)
for name in shown:
    if waits := [label for label in FAITHFUL if label not in set(runs[name]["label"])]:
        display(Markdown(f"On {name} these cells have no run yet: {', '.join(waits)}."))
    for reference, cells in RELEASED.items():
        if len(set(cells) & set(runs[name]["label"])) > 1:
            rows = with_measured(views.against(runs[name], reference, cells), runs[name])
            caption = f"The squared mean on {name}; differences from {cells[reference]}."
            display(views.comparison(rows, caption, MEASURED))

# %% [markdown]
# ## Which part of the teacher does it learn?
#
# Section 3.2.1 says that the student mainly learns the explicit stream, since that dominates the teacher's logit. We correlate the
# main stream's logit with each of the teacher's two parts. A student that never saw the teacher's predictions stands beside it: a high
# correlation of its own would show what any good network of these data has in common with the cross network.

# %% tags=["hide-input"]
PARTS = {
    "explicit_correlation": ("with the explicit stream", ".3f"),
    "implicit_correlation": ("with the implicit stream", ".3f"),
    "explicit_minus_implicit": ("difference", "+.3f"),
    "main_correlation": ("with the whole teacher", ".3f"),
    "explicit_share": ("explicit share in the teacher", ".3f"),
}
TAUGHT = {
    "no-teacher": "no teacher",
    "distilled": "distilled",
    "main-alone": "main stream alone",
    "squared=10": "squared, λ = 10",
    "squared-mean=10": "squared mean, λ = 10",
}
for name in shown:
    if "explicit_correlation" in runs[name]:
        rows = pd.DataFrame({"label": list(TAUGHT), "student": list(TAUGHT.values())})
        rows = with_measured(rows, runs[name], PARTS).dropna(subset="explicit_correlation")
        caption = (
            f"Correlation of the main stream's logit with the teacher's parts on {name}, means over seeds."
        )
        display(views.table(rows, {"student": ("student", ""), **PARTS}, caption))

# %% [markdown]
# The share is the part that the explicit stream has in the variance of the teacher's logit. {doc}`/chapters/09_align` looks at it
# closely.
#
# ## Made in this build
#
# A small copy of the stage, few rows and few epochs, with a teacher of its own. It shows that the code runs; its figures
# are not those of the records.


# %% tags=["hide-input"]
asked = [run for run in full_grid(EMBEDDED).runs if run.label in plan["cells"] and run.seed in plan["seeds"]]
asked = [teacher_run(EMBEDDED, TEACHER, seed) for seed in plan["seeds"]] + asked
made = run_anew(
    Grid("distil", [run.smaller(plan["rows"], plan["max_epochs"]) for run in asked]), device=device
)
views.table(views.made(made, None), views.MADE_COLUMNS, "Runs of this build.")

# %% [markdown]
# ## Verdicts
#
# The claims of section 3.1 and of Figure 5, and our own question about the four losses.

# %% tags=["hide-input"]
verdicts = views.verdicts({name: with_every_name(runs[name]) for name in shown}, "distil", shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def ends(name, metric, loss, scale=1.0):
    """A metric of one loss at its smallest and its largest measured weight; None when unmeasured."""
    rows = over_weights(name, metric, (loss,), scale)
    return (rows.iloc[0], rows.iloc[-1]) if len(rows) > 1 else None


def of_weights(name):
    """Where cross entropy has its best and its lowest mean AUC over λ, in words."""
    rows = over_weights(name, "test_auc", ("cross-entropy",), 100)
    if len(rows) < 2:
        return ""
    best, worst = (rows.loc[pick] for pick in (rows["value"].idxmax(), rows["value"].idxmin()))
    return (
        f"Cross entropy is best at λ = {best['weight']:g} ({best['value']:.2f} %) and lowest at λ = {worst['weight']:g} "
        f"({worst['value']:.2f} %)"
    )


def of_agreement(name):
    """The correlation of cross entropy's students with their teachers at both ends of λ, in words."""
    if not (found := ends(name, "main_correlation", "cross-entropy")):
        return ""
    each = (f"{row['value']:.3f} at λ = {row['weight']:g}" for row in found)
    return f"The correlation of their logits is {' and '.join(each)}"


def of_binding(name):
    """The correlation with the teacher at the largest weight of both squared losses of probabilities, in words."""
    cells = ["squared-probabilities=10", "squared-mean-probabilities=10"]
    if "main_correlation" not in runs[name]:
        return ""
    values = by_seed(runs[name], "main_correlation").reindex(cells).dropna(axis=1)
    if values.empty:
        return ""
    squared, mean = values.mean(axis=1)
    return f"At λ = 10 the correlation with the teacher is {squared:.3f}, with the squared mean {mean:.3f}"


def of_squared_mean(name):
    """What the squared mean of logits, at the code's weight and at ten times that, does to AUC, in words."""
    cells = ["squared-mean=1", "squared-mean=10", "no-teacher"]
    values = 100 * by_seed(runs[name]).reindex(cells).dropna(axis=1)
    if values.empty:
        return ""
    as_there, heavy, without = values.mean(axis=1)
    return (
        f"And the squared mean of logits, as the class has it with DCNv2? At λ = 1, the weight there, the AUC is {as_there:.2f} %, at "
        f"λ = 10 {heavy:.2f} %, without teacher {without:.2f} %."
    )


def of_seeds(name):
    """How the AUC of students goes with that of their teachers over seeds, in words."""
    taught = seed_by_seed(name).query("cell == 'distilled'")
    if len(taught) < 3 or taught["teacher"].nunique() < 2:
        return ""
    together = taught["teacher"].corr(taught["student"])
    return f"Do student and teacher share their luck? Over {len(taught)} seeds their AUC has a correlation of {together:.2f}."


def said(name):
    """What distillation does on one data set, finding by finding."""
    found = verdicts[name]
    return views.findings(
        name,
        [
            views.answer(
                "Does the distillation loss lift the student?", found, "distillation-lifts-the-student"
            ),
            views.answer("Is the student better than a plain MLP?", found, "student-beats-a-plain-mlp"),
            f"How far are others from stage I without the loss? In points of AUC: {views.listing(rivals[name])}.",
            views.answer("Does a larger weight help?", found, "larger-lambda-helps", told=of_weights(name)),
            views.answer("Can the weight be too large?", found, "too-large-lambda-hurts"),
            views.answer(
                "Does a larger weight bring the student nearer to its teacher?",
                found,
                "agreement-grows-with-lambda",
                told=of_agreement(name),
            ),
            views.answer("Can the losses stand for each other?", found, "losses-interchangeable"),
            views.answer(
                "Does the squared error bind more than the released squared mean?",
                found,
                "released-loss-binds-less",
                told=of_binding(name),
            ),
            views.answer("Does the released loss add nothing to AUC?", found, "released-loss-adds-nothing"),
            of_squared_mean(name),
            of_seeds(name),
        ],
    )


Markdown("\n\n".join(said(name) for name in shown))

# %% [markdown]
# **What the comparison holds fixed.** *Distilled* against *no teacher* is the effect of the loss. *No teacher* against the plain MLP is the
# effect of the teacher's embedding table and of the settings, which were chosen for each by itself.
#
# The paper's sentence, that the student
# is largely improved by learning from the teacher, can mean either.
#
# **How sure are we.** Intervals are over seeds on one split. A seed fixes the teacher too: where teachers differ much from seed to seed, so do
# all that start from them, and intervals are wide. Variants have three seeds, so there is an interval and no test.
#
# The search tries each setting with one seed. Where seeds differ more than settings, it can choose luck. The settings were
# chosen for the model after both stages with cross entropy, on Frappe for other data; another loss might gain from settings of its own.
#
# Agreement is measured on test rows, and chooses nothing.


# %% tags=["hide-input"]
def of_copies(name):
    """How far the teachers that measured students stood beside are from their records, in words."""
    if "teacher_auc" not in runs[name]:
        return ""
    own = runs[name].query("experiment == 'distil'").dropna(subset="teacher_auc")
    recorded = by_seed(runs[name]).loc[TEACHER]
    gaps = 100 * (own["teacher_auc"].astype(float) - own["seed"].map(recorded)).abs()
    others = int((gaps > 1e-4).sum())  # what is stored has six digits
    return (
        f"On {name} {others} of {len(gaps)} measured students stood beside a teacher that had been made again and is not quite "
        f"the recorded one: its AUC differs by up to {gaps.max():.2f} points."
        if others
        else ""
    )


copies = [told for name in shown if (told := of_copies(name))]
about = "Weights are not stored, so a teacher can be made again, and another processor rounds otherwise. "
Markdown(about + " ".join(copies) if copies else "")

# %% [markdown]
# ## Exercises
#
# **1.** Compare the gradients on one row's logit: cross entropy, squared error of logits, squared error of probabilities. Which of them
# can grow without bound, and which vanishes when the student is sure and wrong?
#
# ````{dropdown} A solution
# Cross entropy gives $p_M - p_T$, between -1 and 1. The squared error of logits gives $2 (z_M - z_T)$, without bound. That of probabilities
# gives $2 (p_M - p_T)\, p_M (1 - p_M)$, which vanishes as $p_M$ goes to 0 or 1, even where the teacher says the opposite.
# ````
#
# **2.** Without batch norm the untrained parallel stream added about nothing, with it much more. Look at both in training mode. What becomes
# of the conflict?
#
# ````{dropdown} A solution
# ```python
# for batch_norm in (False, True):
#     settings = chosen.cell_settings("distill", batch_norm=batch_norm)
#     network = build_model(NAME, data.schema, seed=1, **settings).train()
#     with torch.no_grad():
#         print(network.stream_logits(data.train.ids[:4096])[1].std())
# ```
# Batch norm stretches the tiny embeddings to unit variance, so the stream becomes a random function of the row that is not small. The
# main stream then has to undo it, and the click loss wants $z_M = 2 z - z_P$.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
footer("distil", records, made, shown=shown)

# %% [markdown]
# **Next.** {doc}`/chapters/09_align` adds the parallel MLP.
