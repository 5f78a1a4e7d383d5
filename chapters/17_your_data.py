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
# (sec-your-data)=
# # Your data
#
# The other chapters ask whether the papers' claims hold. This one hands you the tools. A table of clicks goes in. Out come a
# baseline, both papers' systems beside it, and an answer to three questions: is the difference real, can the probabilities
# be believed, and which fields work together?
#
# So that it runs for everybody, the chapter writes a table of its own, ratings of films from MovieLens-100K. Change one line
# and it reads yours.
#
# **You need** a CSV, TSV or Parquet file with a row for each impression and a column that says whether it was clicked.
# Reading Parquet takes `pyarrow`, which Binder does not bring: `%pip install pyarrow` in a cell, or save the table as CSV.
#
# The profile `quick` is for a first look: of a large table it takes a sample of the rows, and it trains few epochs. Set
# `profile = "paper"` in the next cell for all rows and full training.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # "cuda" trains on a GPU

# %% tags=["hide-input"]
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ctrlib import CTRClassifier, views
from ctrlib.data import Field, load_table, read_raw
from ctrlib.data.read import separator
from ctrlib.figures import curves, figure_table, intervals
from ctrlib.lab.calibration import calibration_error, chance_error, reliability
from ctrlib.lab.interactions import interaction_map
from ctrlib.lab.runner import classifier_record
from ctrlib.lab.stats import summary
from ctrlib.views.footer import footer

PLANS = {
    "smoke": {"rows": 1500, "seeds": [1], "max_epochs": 2, "strengths": [1e-2]},
    "quick": {"rows": 10000, "seeds": [1, 2, 3], "max_epochs": 6, "strengths": [1e-3, 1e-2, 1e-1]},
    "paper": {
        "rows": None,
        "seeds": list(range(1, 11)),
        "max_epochs": 100,
        "strengths": [1e-3, 1e-2, 3e-2, 1e-1],
    },
}
plan = views.plan(profile, PLANS, device=device)
folder = Path(mkdtemp())
example = folder / "films.csv"

# %% [markdown]
# ## A table
#
# The next cell writes the example into a temporary folder. You can skip it.

# %%
read_raw("ml-100k")["all"].to_csv(example, index=False)

# %% [markdown]
# **This is the line to change.** `FILE` is the table. `LABEL` is the column with the answer: any two values will do, and the
# one that sorts last counts as the click. `FIELDS` are the columns to learn from. `None` takes all others. A text table may
# be separated by commas, semicolons or tabs.

# %%
FILE, LABEL, FIELDS = example, "click", None

# %%
FILE = Path(FILE)
if FILE.suffix.lower() in (".parquet", ".pq"):
    table = pd.read_parquet(FILE)
else:
    table = pd.read_csv(FILE, sep=separator(FILE))
if plan["rows"] and len(table) > plan["rows"]:
    print(
        f"A sample of {plan['rows']:,} of {len(table):,} rows, as in the profile {profile}; paper takes all."
    )
    table = table.sample(plan["rows"], random_state=0)
X, y = table.drop(columns=LABEL), table[LABEL]
table.head()

# %% [markdown]
# ## Declare the fields
#
# A click model looks values up in a table, so every column becomes a field with a vocabulary:
#
# | kind | for | what happens |
# |---|---|---|
# | categorical | names, numbers that are names | one token a cell |
# | numeric | prices, ages, counts | a rule puts the number into a bucket, which is the token |
# | sequence | tags, genres | several tokens a cell, their vectors are averaged |
#
# Left alone, columns of floats are numeric, all others categorical. A name in the list is categorical, too; for anything
# else write a `Field`. Values that were not met in training share one vector, as missing cells do.
#
# A numeric field must have no gaps. Fill them, or name the column in the list: as a category a gap has the vector of unseen
# values. This concerns whole numbers, too, since pandas reads a column of them with gaps as floats.
#
# Make columns such as hour and weekday of a date first, and seconds of a duration. `fit` warns of times, and where most values
# of a field are new to it, as those of ids are.

# %%
if example == FILE:
    FIELDS = [
        "user",
        "gender",
        Field("age", kind="numeric", buckets="quantile:8"),
        "occupation",
        "movie",
        "release_year",
        Field("genres", kind="sequence", max_len=5, splitter=" "),
    ]

# %% [markdown]
# A fifth of the rows is set aside for the test, the same for every system and seed. If your rows have a date, cut by date
# in place of this line: a model is used on what comes later.

# %%
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)

# %% [markdown]
# ## Four systems
#
# `LR` is logistic regression on the same fields: it adds up one weight for each value and knows no interaction. `DNN` is a
# plain network. Both papers' systems have to beat it. `DS-MLP` trains its teacher, then distils, then aligns: one `fit`, three
# stages.
#
# The settings are small versions of those that the searches of the other chapters chose on this data set. They are no law. On
# your data the strength of L2 on the embedding matters most, and {ref}`a grid search <your-grid-search>` finds it.

# %%
WIDTHS = (64, 64)
TEACHER = {"teacher": "GDCN", "teacher_settings": {"hidden_units": WIDTHS, "dropout": 0.0, "cross_layers": 2}}
STREAMS = {"hidden_units": (96, 96), "parallel_units": WIDTHS, "batch_norm": False, "distill_weight": 0.5}
SYSTEMS = {
    "LR": CTRClassifier("LR", learning_rate=2e-2, embedding_regularizer=1e-4),
    "DNN": CTRClassifier("DNN", {"hidden_units": WIDTHS}, embedding_regularizer=1e-2),
    "QNN-alpha": CTRClassifier("QNN-alpha", {"layers": 1, "rows": 4}, embedding_regularizer=1e-2),
    "DS-MLP": CTRClassifier("DS-MLP", TEACHER | STREAMS, preset="bars", embedding_regularizer=3e-2),
}
for system in SYSTEMS.values():
    system.set_params(fields=FIELDS, max_epochs=plan["max_epochs"], device=device)

# %% [markdown]
# Each system runs with several seeds. A seed fixes which training rows choose the epoch, the order of the batches and the
# first embedding, and it does so for all systems alike. Differences of one seed are therefore paired.


# %%
def trained(name, seed):
    """One system with one seed, trained."""
    return clone(SYSTEMS[name]).set_params(random_state=seed).fit(X_train, y_train)


fitted = {(name, seed): trained(name, seed) for name in SYSTEMS for seed in plan["seeds"]}
probability = {key: model.predict_proba(X_test)[:, 1] for key, model in fitted.items()}
clicked = (y_test == fitted[("LR", plan["seeds"][0])].classes_[1]).to_numpy().astype(int)

# %% tags=["hide-input"]
runs = pd.DataFrame(
    [
        {
            "label": name,
            "seed": seed,
            "status": "completed",
            "test_auc": roc_auc_score(clicked, probability[name, seed]),
            "test_logloss": log_loss(clicked, probability[name, seed]),
            "num_epochs": model.n_iter_,
            "best_epoch": model.best_epoch_,
            "epoch_seconds": np.median(
                [epoch.train_seconds + epoch.evaluate_seconds for epoch in model.epochs_]
            ),
            "parameters": model.model_.num_parameters,
        }
        for (name, seed), model in fitted.items()
    ]
)
against = views.against(runs, "DNN", {name: name for name in SYSTEMS})
if len(plan["seeds"]) > 1:
    caption = "Paired differences from the plain network, with 95 % intervals over seeds. Right of the line is better."
    views.show(views.against_figure(against, "DNN", "Four systems on this table"), caption)
display(views.comparison(against, "Test rows. Of DS-MLP the epochs are those of its last stage."))

# %% [markdown]
# An interval that covers zero does not say that two systems are equal. It says that these seeds cannot tell. With three
# seeds there is an interval and no test; {doc}`/chapters/15_noise_floor` shows how many seeds a difference needs.
#
# ## Can the probabilities be believed?
#
# AUC asks whether clicks rank above the rest. It does not ask whether a click that is announced with a probability of one half
# comes half of the time. For bidding that is what counts.
#
# Test rows are put into bins of equal size by their predicted probability. On the dashed diagonal, clicks come as often as
# announced. Below it the system promises too much, above it too little.

# %% tags=["hide-input"]
BINS = 10 if len(clicked) >= 1000 else 5
first = plan["seeds"][0]
bins = {name: reliability(probability[name, first], clicked, BINS) for name in SYSTEMS}
lines = pd.concat([rows.assign(system=name) for name, rows in bins.items()])
titles = {"x_title": "mean predicted probability", "y_title": "share of clicks"}
figure = curves(lines, "predicted", "observed", "system", **titles)
for trace, rows in zip(figure.data, bins.values(), strict=True):
    above, below = rows["high"] - rows["observed"], rows["observed"] - rows["low"]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    trace.error_y = bars | {"thickness": 1, "width": 2}
figure.add_shape(type="line", x0=0, x1=1, y0=0, y1=1, line={"dash": "dash", "width": 1, "color": "#767676"})
caption = (
    f"Reliability, seed {first}: a point is a bin, its bar a 95 % interval. Does the bar meet the diagonal?"
)
views.show(figure, caption)

# %% [markdown]
# The expected calibration error is the mean distance from the diagonal. It cannot be negative, so noise alone makes it positive.
# The last column says by how much: it is what a perfectly calibrated model with the same predictions would show.

# %% tags=["hide-input"]
errors = []
for name in SYSTEMS:
    found = calibration_error(probability[name, first], clicked, BINS)
    errors.append(
        {
            "system": name,
            "error": 100 * found.value,
            "low": 100 * found.low,
            "high": 100 * found.high,
            "by chance": 100 * chance_error(probability[name, first], BINS),
            "mean predicted": 100 * probability[name, first].mean(),
            "clicks": 100 * clicked.mean(),
        }
    )
errors = pd.DataFrame(errors)
digits = dict.fromkeys(["error", "low", "high", "by chance", "mean predicted", "clicks"], ".1f")
caption = f"Expected calibration error in percent, seed {first}. Low and high: 95 % over test rows."
figure_table(errors, formats=digits, caption=caption)

# %% [markdown]
# ## Which fields matter, and which of them together?
#
# First each field alone. Its column is shuffled among the test rows, and the logloss rises by what the model took from it.
# This is scikit-learn's own function, for the classifier is one of its own.

# %% tags=["hide-input"]
NAMES = [field.name for field in fitted["QNN-alpha", first].encoder_.fields]
part = X_test.sample(min(1000, len(X_test)), random_state=0)
rows = []
for name in ("DNN", "QNN-alpha"):
    model = fitted[name, first]
    told = permutation_importance(
        model, part, y_test[part.index], scoring="neg_log_loss", n_repeats=5, random_state=0
    )
    for field in NAMES:
        found = summary(told.importances[list(X_test).index(field)])
        rows.append(
            {"system": name, "field": field, "rise": found.value, "low": found.low, "high": found.high}
        )
rises = pd.DataFrame(rows)
axes = {
    "color": "system",
    "reference": 0.0,
    "x_title": "rise of the logloss (nats)",
}
caption = "One field at a time: the further right, the more it is needed. Intervals over five shuffles."
views.show(intervals(rises, "rise", "field", "low", "high", **axes), caption)

# %% [markdown]
# Now pairs. Take two test rows and swap in one field's value, the other's, and both. If the model only adds up, the change by
# both is the sum of the changes by each. What is left over is the interaction, in the unit of the logit:
#
# $$I_{ij} = \mathbb E\big|f(a, b) - f(a', b) - f(a, b') + f(a', b')\big|.$$
#
# {doc}`/chapters/11_fidelity` uses the same measure. For logistic regression it is zero by construction, which checks the
# code.


# %% tags=["hide-input"]
@torch.no_grad()
def interactions(model):
    """The interaction of each pair of fields, one row a pair."""
    ids = torch.from_numpy(model.encoder_.ids(X_test))
    network = model.model_.cpu()
    found = interaction_map(lambda rows: network(rows)[None], ids, model.encoder_.schema)[0]
    pairs = [(i, j) for i in range(len(NAMES)) for j in range(i)]
    return pd.Series({f"{NAMES[j]} × {NAMES[i]}": float(found[i, j]) for i, j in pairs})


maps = {
    name: pd.DataFrame({seed: interactions(fitted[name, seed]) for seed in plan["seeds"]}) for name in SYSTEMS
}
by_strength = maps["QNN-alpha"].mean(axis=1).sort_values(ascending=False)
order = by_strength.index[:10]
rows = []
for name in ("QNN-alpha", "DNN", "DS-MLP"):
    for pair in order:
        found = summary(maps[name].loc[pair])
        bounds = (found.low, found.high) if found.n > 1 else (found.value, found.value)
        rows.append(
            {"system": name, "pair": pair, "strength": found.value, "low": bounds[0], "high": bounds[1]}
        )
if rows:
    axes = {"color": "system", "reference": 0.0, "x_title": "interaction (logit)"}
    caption = (
        "The ten pairs that interact most in QNN-alpha, and the same pairs elsewhere. Intervals over seeds."
    )
    views.show(intervals(pd.DataFrame(rows), "strength", "pair", "low", "high", **axes), caption)
else:
    print("A single field has no other to work with, so there is no pair to show.")

# %% [markdown]
# A point far to the right says that the model uses the pair, not that the world does. Compare it over seeds and over systems: what only one
# network sees may be noise that it learnt.
#
# ## Keep a model
#
# A file holds weights, vocabularies, bucket edges and settings. It is read without pickle, so opening a stranger's file runs no
# code. A file that is damaged, or that another version wrote, is refused with the reason.

# %%
kept = folder / "model.safetensors"
fitted["QNN-alpha", first].save(kept)
again = CTRClassifier.load(kept)
assert np.array_equal(again.predict_proba(X_test)[:, 1], probability["QNN-alpha", first])
stranger = X_test.head(1).assign(**{NAMES[0]: "never seen"})
print(
    f"{kept.stat().st_size / 1e3:,.0f} kB; a row with an unseen {NAMES[0]}: {again.predict_proba(stranger)[0, 1]:.3f}"
)

# %% [markdown]
# (your-grid-search)=
# ## In a pipeline, in a grid search
#
# What comes before the classifier, and which settings it takes, is scikit-learn's affair. Here a step makes spellings
# alike, and a search by two folds chooses the strength of L2. To merge rare values no step is needed: `min_count=3` sends
# those seen fewer than three times in training to the vector of unseen ones.
#
# A model's own settings are searched as whole dicts, for scikit-learn does not look into them:
# `{"ctrclassifier__settings": [{"hidden_units": (64,)}, {"hidden_units": (64, 64)}]}`.


# %%
def spelt_alike(rows):
    """Strip and lower-case text, so that "Drama" and "drama " are one value."""
    text = [name for name in rows if pd.api.types.is_string_dtype(rows[name])]
    return rows.assign(**{name: rows[name].str.strip().str.lower() for name in text})


pipeline = make_pipeline(
    FunctionTransformer(spelt_alike), clone(SYSTEMS["DNN"]).set_params(random_state=first)
)
search = GridSearchCV(
    pipeline,
    {"ctrclassifier__embedding_regularizer": plan["strengths"]},
    scoring="neg_log_loss",
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
    refit=False,  # True trains the best once more, on all training rows
).fit(X_train, y_train)

# %% tags=["hide-input"]
columns = {"param_ctrclassifier__embedding_regularizer": "L2 strength", "mean_test_score": "logloss"}
searched = pd.DataFrame(search.cv_results_)[list(columns)].rename(columns=columns)
searched["L2 strength"] = searched["L2 strength"].astype(float)
searched["logloss"] *= -1
caption = "Mean logloss over two folds of the training rows; the test rows take no part."
figure_table(searched, formats={"L2 strength": "g", "logloss": ".4f"}, caption=caption)

# %% [markdown]
# ## What we saw

# %% tags=["hide-input"]
best = against.sort_values("test_auc", ascending=False).iloc[0]
worst = errors.sort_values("error").iloc[-1]
points = [
    f"Highest mean AUC: {best['name']}, {best['test_auc']:.2f} %.",
    f"Differences from the plain network, in points of AUC: {views.listing(against)}.",
    f"Worst calibrated: {worst['system']}. Its error is {worst['error']:.1f} % where {worst['by chance']:.1f} % would come "
    "by chance.",
    f"The search chose an L2 strength of {search.best_params_['ctrclassifier__embedding_regularizer']:g}.",
]
if len(order):
    pair = f"The strongest interaction in QNN-alpha: {order[0]}, {by_strength.iloc[0]:.2f} of logit"
    points.insert(-1, f"{pair}; in logistic regression it is {maps['LR'].abs().to_numpy().max():.0e}.")
Markdown(views.findings(f"{FILE.name}, {len(X_train):,} training rows", points))

# %% [markdown]
# **How sure are we.** The intervals of the first table are over seeds, on one set of test rows. Other rows would move all systems
# together. Those of the calibration error are over rows, for one seed.
#
# None of these runs is recorded, and no claim of the papers rests on them: the table is a sample and the settings are small.
#
# ## Exercises
#
# **1.** A system with a good AUC and a bad calibration need not be thrown away. Mend DS-MLP's probabilities without training it
# again on other settings, and see what becomes of its AUC.
#
# ````{dropdown} A solution
# ```python
# from sklearn.calibration import CalibratedClassifierCV
#
# mended = CalibratedClassifierCV(SYSTEMS["DS-MLP"].set_params(random_state=1), method="sigmoid", cv=2)
# p = mended.fit(X_train, y_train).predict_proba(X_test)[:, 1]
# print(calibration_error(p, clicked, BINS), roc_auc_score(clicked, p))
# ```
# A sigmoid of the logit keeps the order of the rows, so each network keeps its AUC. Here two networks, each trained on half
# of the rows, are averaged, which moves it a little.
# ````
#
# **2.** How does the model treat users it has never met? Set all rows of a tenth of the users aside in place of random rows.
#
# ````{dropdown} A solution
# ```python
# from sklearn.model_selection import GroupShuffleSplit
#
# split = GroupShuffleSplit(1, test_size=0.1, random_state=0)
# train, test = next(split.split(X, y, groups=X["user"]))
# for name in ("LR", "QNN-alpha"):
#     model = SYSTEMS[name].set_params(random_state=1).fit(X.iloc[train], y.iloc[train])
#     print(name, roc_auc_score(y.iloc[test], model.predict_proba(X.iloc[test])[:, 1]))
# ```
# Every such user is out-of-vocabulary and shares one vector, so only the other fields speak. The vector was never trained, since
# no training row is out-of-vocabulary: try `min_count=3`, which sends rare users there in training, too.
# ````
#
# ## Where the numbers come from
#
# All of them were computed while this page was built, in the profile that the table at the top names. Nothing is read from
# records and nothing is written. The fingerprint is that of the whole table: where it is equal, so are rows, fields and labels.

# %% tags=["hide-input"]
told = fitted["LR", first]
labelled = table.assign(**{LABEL: (y == told.classes_[1]).astype(int)})
data = load_table(labelled, label=LABEL, fields=told.encoder_.fields, name=FILE.stem)
made = [
    classifier_record(
        "your-data",
        run["label"],
        fitted[run["label"], run["seed"]],
        data,
        {"auc": run["test_auc"], "logloss": run["test_logloss"]},
    )
    for run in runs.to_dict("records")
]
caption = "The networks of the first table. Those of the grid search come on top."
footer("your-data", made=made, caption=caption)

# %% [markdown]
# **Next.** {doc}`/book/gallery` shows every system that you can train here, {doc}`/book/data` the data sets of this book.
