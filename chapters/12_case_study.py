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
# (sec-case-study)=
# # Case study
#
# A student learns its teacher's errors too. DS-MLP {cite:p}`ou2026dsmlp` shows it on two rows of data (section 4.3.4, Figure 4). On
# sample 3, no click, the teacher is sure of one; on sample 18, a click, it is sure of none. The student says the same. After alignment the
# parallel stream, which has never seen the teacher, pulls both right.
#
# Two chosen rows show that this can happen. They cannot show that it usually does, for among some thousand rows there is an example of
# almost anything. So this chapter draws the picture and then counts all rows of its kind.
#
# **Before you read on.** You need the streams of {doc}`/chapters/09_align`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" runs the grid on a GPU
dataset = ""  # paper profile: run one data set only, for example "ml-100k"

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.figures import figure_table, intervals, scatter
from ctrlib.lab import Grid, run_grid
from ctrlib.lab.case_study import (
    GROUPS,
    PLACES,
    measure_cases,
    measured_runs,
    predicted,
    stored_cases,
    train_in_memory,
)
from ctrlib.lab.dual_stream import student, student_search, teacher_run, teacher_search
from ctrlib.lab.experiments import experiment_records
from ctrlib.lab.fidelity import over_seeds
from ctrlib.lab.streams import measure_runs
from ctrlib.views.footer import footer

# %% [markdown]
# ## A trap
#
# Take the rows on which one model errs worst. On these rows *any other* model errs less, on average: part of the first model's error
# was bad luck of its own, its seed and its noise, and the second does not share it. The same holds the other way round. This is
# regression to the mean. It looks exactly like correction.
#
# So "DS-MLP is right where its teacher was wrong" needs something to compare with:
#
# - *two trained MLPs*, two streams as in DS-MLP, each with a click loss of its own, without teacher and alignment;
# - *two aligned MLPs without distillation*, which differ from DS-MLP in the first stage alone;
# - a *plain MLP*.
#
# None has seen the teacher. What they mend, they mend by being another model. Only what DS-MLP mends beyond them is a correction.
#
# ## What is counted
#
# A *confident error* gives the wrong class a probability above 0.9. The paper says that scores are close to 1 and to 0; the bound is
# our choice. Of the teacher's confident errors on test rows:
#
# | count | meaning |
# |---|---|
# | kept | the other model errs confidently too |
# | wrong | it is on the wrong side of one half |
# | mended | it is on the right side of one half |
#
# And on all other rows: *new*, where it errs confidently and the teacher does not. *Student* is the main stream after distillation. What a
# student or stream says is judged by its own logit.
#
# After Algorithm 1 the student's own logit is longer than a prediction ({doc}`/chapters/08_distil` tells why). So it errs confidently more
# often, whatever it has learned. *Kept* and *new* feel that; *wrong* and *mended* do not.

# %%
PLANS = {
    "smoke": {"seed": 1, "rows": 3000, "max_epochs": 2},
    "quick": {"seed": 1, "rows": 8000, "max_epochs": 3},
    "paper": {"seed": 1, "rows": 8000, "max_epochs": 3},
}
EMBEDDED, RECORDED = "ml-100k", ["frappe_x1", "frappe_x1-rebuilt", "ml-100k"]
RECORDED += [dataset] if dataset and dataset not in RECORDED else []
plan = views.plan(profile, PLANS, device=device)


# %%
def measured_grid(data):
    """The runs whose errors are counted: ten seeds of DS-MLP, five of its controls."""
    tuned = student(data)
    runs = []
    for seed in range(1, 11):
        runs += [tuned.distill("distilled", seed), tuned.align("DS-MLP", seed)]
    for seed in range(1, 6):
        runs += [tuned.two_trained(seed), tuned.align("no-distillation", seed, distilled=None)]
        runs.append(teacher_run(data, "MLP", seed))
    return Grid("case-study", runs)


def pictured(data, seed):
    """The runs of one seed that the picture shows."""
    aligned = student(data).align("DS-MLP", seed)
    found = {"teacher": teacher_run(data, "GDCN", seed), "student": aligned.parent, "DS-MLP": aligned}
    return found | {"two trained MLPs": student(data).two_trained(seed)}


if profile == "paper":
    for data in [dataset] if dataset else views.at_hand(RECORDED[1:]):
        run_grid(teacher_search(data, ["GDCN", "MLP"]), device=device)
        run_grid(student_search(data), device=device)
        run_grid(measured_grid(data), device=device)
        pairs = [(run, teacher_run(data, "GDCN", run.seed)) for run in measured_grid(data).runs]
        measure_runs(pairs, device=device)
        measure_cases(pictured(data, 1), device=device)

# %% [markdown]
# ## The picture
#
# The test rows on which the teacher errs most, as many clicks as others, and as many rows drawn at random. One seed, trained
# to the end.

# %% tags=["hide-input"]
DRAWN = ["label", "teacher", "student", "DS-MLP, parallel", "DS-MLP", "two trained MLPs"]


def show_cases(cases, title):
    """What the models say of each row, one figure for each group of rows."""
    captions = {
        GROUPS[
            0
        ]: "Chosen because the teacher is wrong. The open circle is what happened. Which marks leave the wrong end?",
        GROUPS[1]: "Drawn at random: here nobody was chosen to be wrong.",
    }
    for group, caption in captions.items():
        part = cases[(cases["group"] == group) & cases["model"].isin(DRAWN)]
        part = part.assign(place=part["model"].map(DRAWN.index)).sort_values(["place", "clicked", "sample"])
        order = {
            sample: k for k, sample in enumerate(part["sample"].unique(), start=1)
        }  # those without a click first
        beside = (
            (part["place"] - len(DRAWN) / 2) * 0.12 * (part["place"] > 0)
        )  # the models stand beside each other
        part = part.assign(across=part["sample"].map(order) + beside)
        figure = scatter(
            part,
            "across",
            "probability",
            "model",
            color="model",
            names=False,
            x_title="sample, those without a click first",
            y_title="probability of a click",
            title=f"{title}: {group}",
        )
        figure.update_traces(marker={"symbol": "circle-open", "size": 22}, selector={"name": "label"})
        figure.update_xaxes(tickvals=[*order.values()])
        figure.update_yaxes(range=[-0.08, 1.08])
        views.show(figure, caption, "ds-mlp-mends-errors")


cases = {name: stored_cases(name) for name in RECORDED}
for name in RECORDED:
    if len(cases[name]):
        show_cases(cases[name], name)
if not any(map(len, cases.values())):
    display(Markdown("No rows of fully trained networks are recorded yet; see *Made in this build*."))

# %% [markdown]
# ## The population
#
# All test rows on which the teacher errs confidently, seed by seed, over the seeds that all models have: a seed fixes the teacher.

# %% tags=["hide-input"]
TITLES = {"teacher": "teacher", "student": "student", "DS-MLP": "DS-MLP", "DS-MLP, main": "its main stream"}
TITLES |= {"DS-MLP, parallel": "its parallel stream", "no distillation": "two aligned MLPs, no distillation"}
TITLES |= {"two trained MLPs": "two trained MLPs", "MLP": "plain MLP"}
KINDS = {"kept": "kept, %", "wrong": "wrong, %", "mended": "mended, %", "unshared": "errors of its own, %"}
runs = {name: measured_runs(name) for name in RECORDED}
shown = [name for name in RECORDED if len(runs[name])]
if missing := [name for name in RECORDED[1:] if name not in shown]:
    display(Markdown(f"No errors are counted on {', '.join(missing)} yet."))


def counted(name):
    """Means in percent with 95 % intervals over the seeds that all models share, a row for each model."""
    metrics = [*KINDS, "new", "confident", "logloss"]
    shared = views.common_seeds(runs[name], PLACES)
    rows = over_seeds(shared.reindex(columns=[*shared.columns.union(metrics)]), [*PLACES], metrics)
    shares = [column for column in rows if column.startswith((*KINDS, "new", "confident"))]
    return rows.assign(model=rows["label"].map(TITLES), **{column: 100 * rows[column] for column in shares})


population = {name: counted(name) for name in shown}
for name, rows in population.items():
    others = rows[rows["label"] != "teacher"].dropna(subset="kept_low")
    long = pd.concat(
        [
            others[["model"]].assign(
                count=kind,
                share=others[kind],
                low=others[f"{kind}_low"].clip(0, 100),
                high=others[f"{kind}_high"].clip(0, 100),
            )
            for kind in ("kept", "mended")
        ]
    )
    captions = {
        "kept": (
            "Whose dot is as far right as the student's makes the teacher's errors too.",
            "student-inherits-errors",
        ),
        "mended": (
            "Is DS-MLP's dot right of the two trained MLPs', which never saw the teacher?",
            "ds-mlp-mends-more-than-plain",
        ),
    }
    for kind, (caption, claim) in captions.items():
        titles = {"x_title": f"{kind} of the teacher's confident errors (%)", "title": f"{name}: {kind}"}
        part = long[long["count"] == kind]
        figure = intervals(part, "share", "model", "low", "high", format=".1f", **titles)
        views.show(figure, caption, claim)

# %% tags=["hide-input"]
for name, rows in population.items():
    columns = {"model": ("model", "")}
    for kind, heading in KINDS.items():
        rows[f"{kind}_half"] = (rows[f"{kind}_high"] - rows[f"{kind}_low"]) / 2
        columns |= {kind: (heading, ".1f"), f"{kind}_half": ("±", ".1f")}
    columns |= {"new": ("new, % of all rows", ".2f"), "confident": ("confident errors, % of all rows", ".2f")}
    caption = (
        f"Confident errors on {name}. Kept, wrong and mended: of the teacher's; errors of its own: of the model's confident errors, "
        "those that the teacher does not make."
    )
    display(views.table(rows, columns | {"seeds": ("seeds", "")}, caption))

# %% [markdown]
# The column *errors of its own* turns the selection round. Choose the rows on which the other model errs, and ask how often the teacher does not err there
# confidently. Where a model keeps few of the teacher's errors and has as many of its own, the two differ and neither corrects the
# other. *Confident errors* is the sum: those kept and those new.
#
# ## Made in this build
#
# All stages in small, whenever this page is executed: few rows and passes, and a larger learning rate so that something is learnt in
# them. The networks are far from trained, so the figures show how the page comes about and nothing else.

# %% tags=["hide-input"]
small = pictured(EMBEDDED, plan["seed"])
changes = {"learning_rate": 1e-2, "batch_size": 512, "embedding_regularizer": 0.01}
models, data = train_in_memory(
    small.values(), rows=plan["rows"], device=device, max_epochs=plan["max_epochs"], **changes
)
now = predicted({name: models[run.path] for name, run in small.items()}, data)
show_cases(now.cases(), f"{EMBEDDED}, small")
figure_table(now.errors(), caption="Counts of rows in this build; confident: the teacher's confident errors.")

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
verdicts = views.verdicts(runs, "case-study", shown)

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def share(name, label, kind):
    """A mean count of one model with its interval, in percent and in words; None where it is not counted."""
    rows = population[name].set_index("label")
    if label not in rows.index or pd.isna(rows.loc[label, kind]):
        return None
    row = rows.loc[label]
    digits = ".2f" if kind == "confident" else ".1f"
    low, high = (min(max(row[f"{kind}_{end}"], 0), 100) for end in ("low", "high"))
    return views.estimate(row[kind], low, high, digits, " %")


def counts(name, kind, *labels):
    """A count of several models, in words; nothing where one is not counted."""
    found = {label: share(name, label, kind) for label in labels}
    if None in found.values():
        return ""
    told = "; ".join(f"{TITLES[label]} {count}" for label, count in found.items())
    return told[0].upper() + told[1:]


def said(name):
    """What the counts on one data set show, finding by finding."""
    found = verdicts[name]
    return views.findings(
        name,
        [
            views.answer(
                "Does DS-MLP mend more than networks that never saw the teacher?",
                found,
                "ds-mlp-mends-more-than-plain",
                told=counts(name, "mended", "DS-MLP", "two trained MLPs", "no distillation"),
            ),
            views.answer("Does DS-MLP mend more than its student?", found, "ds-mlp-mends-errors"),
            views.answer(
                "Does the student keep its teacher's confident errors more than others do?",
                found,
                "student-inherits-errors",
                told=counts(name, "kept", "student", "MLP", "two trained MLPs"),
            ),
            views.answer(
                "Is the student on its teacher's wrong side of one half more than others are?",
                found,
                "student-inherits-wrong-side",
                told=counts(name, "wrong", "student", "MLP", "two trained MLPs"),
            ),
            views.answer(
                "Does DS-MLP keep fewer of its teacher's confident errors than its student?",
                found,
                "ds-mlp-softens-errors",
            ),
            views.answer("Does the parallel stream mend more than the main one?", found, "parallel-corrects"),
            views.answer(
                "Does DS-MLP make fewer confident errors in all than its teacher and than two trained MLPs?",
                found,
                "fewer-confident-errors",
                told=counts(name, "confident", "DS-MLP", "teacher", "two trained MLPs"),
            ),
        ],
    )


Markdown("\n\n".join(said(name) for name in shown) or "Nothing is counted yet.")

# %% [markdown]
# **Less sure or more right.** A model that is less sure makes fewer confident errors and fewer confident hits. To mend is to
# cross one half, and a mean of two logits crosses it only where the parallel stream outweighs the main one. So *kept* can
# fall far while *mended* stays small.
#
# Whether less confidence was a gain is what logloss says, over all rows.
#
# **How sure are we.** The intervals are over seeds, each with its own teacher, so rows and their number change from seed to
# seed.
#
# The bound of 0.9 is one of many. On data where one class is rare, most confident errors are rows of that class, and
# they may be wrong labels as well as wrong predictions; no model should mend those.
#
# ## Exercises
#
# **1.** How much do two teachers mend of each other's confident errors? Predict it before you count.
#
# ````{dropdown} A solution
# ```python
# first, second = (teacher_run("ml-100k", "GDCN", seed) for seed in (1, 2))
# models, data = train_in_memory([first, second])
# found = predicted({"teacher": models[first.path], "another teacher": models[second.path]}, data)
# print(found.errors())
# ```
# Two networks that differ in their seed alone cannot correct each other. What one mends of the other is the regression to the mean of this chapter.
# ````
#
# **2.** Sample 3 of the paper's picture is one of how many? Of all rows that the small pipeline of this page predicts, count those on which the teacher is wrong,
# the student is wrong and DS-MLP is right. Count also those on which teacher and student are right and DS-MLP is wrong.
#
# ````{dropdown} A solution
# ```python
# right = {name: (z > 0) == (now.labels > 0.5) for name, z in now.logits.items()}
# both = right["teacher"] & right["student"]
# neither = ~right["teacher"] & ~right["student"]
# print(int((neither & right["DS-MLP"]).sum()), int((both & ~right["DS-MLP"]).sum()))
# ```
# A picture of the second kind could be drawn as easily as one of the first.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
measured = [
    {"data": name, "model": TITLES[label], "seeds": ", ".join(str(seed) for seed in sorted(part["seed"]))}
    for name in shown
    for label, part in runs[name].groupby("label", sort=False)
]
if measured:
    display(figure_table(pd.DataFrame(measured), caption="Networks whose errors are counted on test rows."))
names = {cell for _, cell, _ in PLACES.values()} | {"GDCN"}
records = [record for record in experiment_records("case-study") if record["label"] in names]
footer("case-study", records, shown=shown, caption="The runs that left these networks.")

# %% [markdown]
# **Next.** {doc}`/chapters/13_scaling` makes teacher and streams wider.
