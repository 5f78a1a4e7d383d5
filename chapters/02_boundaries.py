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
# (sec-boundaries)=
# # Sharp and smooth boundaries
#
# Where does a network change its mind? In the plane one can look. The QNN-alpha paper {cite:p}`li2025qnn` draws decision
# boundaries on two toy sets (section 2.1.2, Figure 2) and reads three things off the pictures: quadratic layers bend
# without an activation, a ReLU network has sharp corners, and a network with both kinds of boundary is the most accurate.
#
# One picture is one seed. This chapter trains each network from many seeds, measures how a boundary turns, and scores
# every network on fresh points.
#
# **Before you read on.** You need the formats T9 and T19 from {doc}`/chapters/01_activation`.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper
device = "cpu"  # these networks are too small for a GPU to help
networks = "T9, T19"  # more formats to train with and without SE loss, for example "T9, T19, T23"

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown, display

from ctrlib import views
from ctrlib.errors import unknown
from ctrlib.figures import boundaries, figure_table, intervals
from ctrlib.lab.boundaries import PANELS, boundary_runs, trained, with_losses
from ctrlib.lab.made import leave
from ctrlib.lab.stats import summary
from ctrlib.lab.tables import paired_table
from ctrlib.neurons import FORMATS
from ctrlib.plane import BOX, EPOCHS, NETWORKS, points
from ctrlib.views.footer import footer

# %% [markdown]
# ## The networks
#
# A point $(u, v)$ is lifted to 20 coordinates by an affine map. Two layers follow, then one affine map to the logit.
# So a quadratic format sees products of affine features of the point:
#
# $$
# \begin{gathered}
# x_0 = A\,(u, v)^\top + a, \\
# x_{l+1} = \phi(T_l(x_l)), \\
# \hat y = \sigma(w^\top x_2 + b).
# \end{gathered}
# $$
#
# Width, depth, the learning rate of 0.01 and the epochs (500 on the moons, 100 on the circles) are the paper's. It does
# not say how points enter the network, how many there are or how noisy they are, and no code is published. Our lift,
# 400 noisy points drawn anew for each seed and full batches are choices. We chose enough noise that no network is
# right everywhere.

# %% tags=["hide-input"]
PLANS = {
    "smoke": {"seeds": 2, "other_seeds": 2, "menu_seeds": 1, "menu": ["T9", "T2"], "epochs": 12},
    "quick": {"seeds": 20, "other_seeds": 10, "menu_seeds": 1, "menu": [*FORMATS], "epochs": None},
    "paper": {"seeds": 100, "other_seeds": 100, "menu_seeds": 10, "menu": [*FORMATS], "epochs": None},
}
plan = views.plan(profile, PLANS)

# %%
wanted = [name.strip() for name in networks.split(",") if name.strip()]
for name in wanted:
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
LOSSES = with_losses(["MLP", *wanted])
MOMENTS = {"moons": [0, 5, 10, 20, 40, 80, 160, 320, 500], "circles": [0, 2, 5, 10, 20, 30, 50, 75, 100]}

frames_of = {shape: [e for e in MOMENTS[shape] if e <= (plan["epochs"] or e)] for shape in EPOCHS}
results = trained(PANELS, plan["seeds"], plan["epochs"], frames_of)
consistent = trained(LOSSES, plan["other_seeds"], plan["epochs"])
runs = boundary_runs(results, consistent)
leave("boundaries", runs)  # the page of all claims reads them

# %% [markdown]
# ## What they look like
#
# The first seed of each network. Move the slider to go through training. Orange: the network says the
# class of the diamonds; blue: that of the circles; the line: it cannot say.


# %% tags=["hide-input"]
TITLES = {"MLP.relu": "MLP with ReLU", "MLP.none": "MLP without ReLU"}


def drawn_points(shape):
    """The first seed's training points, as a panel shows them."""
    x, y = points(shape, 1)
    return pd.DataFrame({"x": x[:120, 0], "y": x[:120, 1], "label": y[:120].int()})


for shape in EPOCHS:
    panels = {
        TITLES.get(label, label): {str(epoch): z for epoch, z in result.frames.items()}
        for label, result in results[shape].items()
    }
    shown = dict.fromkeys(panels, drawn_points(shape))
    figure = boundaries(panels, BOX, points=shown, columns=3, slider="epoch")
    caption = f"The {shape}. Look for straight pieces that meet in corners, and for where they come from."
    views.show(figure, caption, "quadratic-bends")

# %% [markdown]
# Any other format: pick it from the list.

# %% tags=["hide-input"]
menu_cells = {name: (name, {"post_activation": "relu"} if name == "MLP" else {}) for name in plan["menu"]}
ends = {shape: [plan["epochs"] or EPOCHS[shape]] for shape in EPOCHS}
menu = trained(menu_cells, plan["menu_seeds"], plan["epochs"], ends)
panels = {
    shape: {label: next(iter(result.frames.values())) for label, result in menu[shape].items()}
    for shape in EPOCHS
}
shown = {shape: drawn_points(shape) for shape in EPOCHS}
views.show(
    boundaries(panels, BOX, points=shown, columns=2, menu=True),
    "Left the moons, right the circles, at the end of training; the MLP with its ReLU.",
)

# %% [markdown]
# ## How a boundary turns
#
# A picture shows corners but does not count them. We trace the line where the probability is one half and walk along it in
# small steps. At every step the gradient of the logit stands at a right angle to the line. The angle between neighbouring
# gradients is how far the boundary turns there. Two figures sum this up:
#
# - **turning**: the angle for each unit of length, in radians. A circle of radius one has 1.
# - **concentration**: the share of all turning that falls on the tenth of the length that turns most. An evenly
#   curved line has 0.1. A polygon has 1, for it turns at its corners alone.
#
# Sharp in the paper's sense is a high concentration.


# %% tags=["hide-input"]
def table_of(shape, labels):
    """Means over seeds with half the width of their 95 % interval."""
    lines = []
    for label in labels:
        part = runs[(runs["dataset"] == shape) & (runs["label"] == label)]
        line = {"network": label, "seeds": len(part)}
        for metric, scale in (("accuracy", 100), ("turning", 1), ("concentration", 1)):
            found = summary(scale * part[metric])
            half = (found.high - found.low) / 2
            line |= {
                metric: found.value,
                f"{metric} ±": half,
                f"{metric} low": found.low,
                f"{metric} high": found.high,
            }
        lines.append(line)
    return pd.DataFrame(lines)


HEADINGS = {f"{metric} ±": "± 95 %" for metric in ("accuracy", "turning", "concentration")}
FORMATS_SHOWN = {"accuracy": ".2f", "accuracy ±": ".2f", "turning": ".2f", "turning ±": ".2f"}
FORMATS_SHOWN |= {"concentration": ".3f", "concentration ±": ".3f"}


def show_networks(labels, caption):
    """Show accuracy and turning of some networks, one table for each shape."""
    for shape in EPOCHS:
        found = table_of(shape, labels)[["network", "seeds", *FORMATS_SHOWN]]
        title = f"The {shape}{caption}"
        display(figure_table(found, formats=FORMATS_SHOWN, headings=HEADINGS, caption=title))


show_networks(PANELS, ": accuracy on fresh points in percent, and how the boundary turns.")

# %% tags=["hide-input"]
both = pd.concat([table_of(shape, PANELS).assign(shape=shape) for shape in EPOCHS])
figure = intervals(
    both,
    "concentration",
    "network",
    "concentration low",
    "concentration high",
    color="shape",
    x_title="share of all turning on the sharpest tenth of the boundary",
    format=".3f",
)
caption = "Right: corners. Left: even curves. A straight boundary does not turn and has no dot."
views.show(figure, caption, "relu-is-sharper")

# %% [markdown]
# ## With and without the self-ensemble loss
#
# Section 3.3 expects the self-ensemble loss to give smoother boundaries. It needs dropout, so we compare three networks
# at dropout 0.1 with the usual loss and with the self-ensemble loss over two passes.

# %% tags=["hide-input"]
show_networks(LOSSES, ", dropout 0.1, with the usual and with the self-ensemble loss (SE).")
fewer = (
    f"These runs have {plan['other_seeds']} seeds for each network, those above {plan['seeds']}."
    if plan["other_seeds"] < plan["seeds"]
    else ""
)
if fewer:
    display(Markdown(fewer))

# %% [markdown]
# ## Does the order depend on the noise?
#
# The paper does not say how noisy its points are. So the networks run once more at half the noise. The differences are
# accuracies less that of T9, paired by seed.

# %% tags=["hide-input"]
CALM_COLUMNS = {"shape": ("shape", ""), "pair": ("network", ""), "left_mean": ("accuracy %", ".2f")}
CALM_COLUMNS |= {"difference": ("less T9, points", "+.2f"), "outcome": ("outcome", "")}
CALM_COLUMNS |= {"seeds": ("seeds", ""), "p_holm": ("p (Holm)", ".3f")}
calm_results = trained(PANELS, plan["other_seeds"], plan["epochs"], noise=0.5)
rows = [
    {"label": f"{shape} {label}", "seed": number + 1, "status": "completed", "accuracy": accuracy}
    for shape in EPOCHS
    for label, result in calm_results[shape].items()
    for number, accuracy in enumerate(result.accuracy)
]
pairs = {
    f"{shape} {label}": (f"{shape} {label}", f"{shape} T9")
    for shape in EPOCHS
    for label in PANELS
    if label != "T9"
}
calm = paired_table(pd.DataFrame(rows), pairs, "accuracy", margin=0.001).reset_index()
calm[["shape", "pair"]] = [pair.split(" ") for pair in calm["pair"]]
calm[["left_mean", "difference", "low", "high"]] *= 100
if fewer:
    display(Markdown(fewer))
caption = "Accuracy on fresh points at half the noise, and paired differences from T9. Tests after Holm over all rows."
views.table(calm, CALM_COLUMNS, caption)

# %% [markdown]
# ## Claims and verdicts
#
# The claims in our words, each decided by paired differences over seeds, at the first noise. All runs were made in this
# build.

# %% tags=["hide-input"]
verdicts = views.verdicts(dict.fromkeys(EPOCHS, runs), "boundaries", [*EPOCHS])

# %% [markdown]
# ## What we saw


# %% tags=["hide-input"]
def beside_t9(shape):
    """Which networks a test finds above or below T9 at half the noise, in words."""
    rows = calm[calm["shape"] == shape]
    sides = {"above": rows[rows["outcome"] == "better"], "below": rows[rows["outcome"] == "worse"]}
    told = [
        f"{' and '.join(TITLES.get(label, label) for label in part['pair'])} {'is' if len(part) == 1 else 'are'} {side} T9"
        for side, part in sides.items()
        if len(part)
    ]
    return f"By a test {'; '.join(told)}" if told else "No test tells any network from T9"


# %% tags=["hide-input"]
def said(shape):
    """What the networks of one shape show, finding by finding."""
    means = runs[runs["dataset"] == shape].groupby("label")["accuracy"].mean()[list(PANELS)]
    best, found = means.sort_values(ascending=False), verdicts[shape]
    first, second = (f"{label} with {100 * best[label]:.1f} %" for label in best.index[:2])
    return views.findings(
        f"The {shape}",
        [
            views.answer("Is the MLP with ReLU sharper than CrossNetV2 and T9?", found, "relu-is-sharper"),
            views.answer("Do T19 and DCNv2 lie between the MLP and T9 in sharpness?", found, "t19-between"),
            views.answer("Is T9 more accurate than the MLP with ReLU?", found, "t9-more-accurate"),
            f"Who is the most accurate? {first}, before {second}.",
            f"And at half the noise? {beside_t9(shape)}.",
            views.answer("Is T19 the most accurate?", found, "t19-most-accurate"),
            views.answer("Does the self-ensemble loss make T19 smoother?", found, "se-is-smoother"),
        ],
    )


Markdown("\n\n".join(said(shape) for shape in EPOCHS))

# %% [markdown]
# **How to read it.** A ReLU makes corners. Between them the boundary of the MLP is straight, that of T19 and DCNv2
# curved. Whether this makes the MLP sharper by our measure is the first verdict above.
#
# It says nothing about which boundary is better. The two shapes are smooth by construction, so smooth networks have it easy here, and a ReLU network may fit
# single noisy points.
#
# **How sure are we.** Seeds draw new points and new weights, so the intervals hold for this noise and this number of
# points; the table at half the noise shows how far they carry.
#
# Nothing here speaks about clicks: embeddings have
# hundreds of coordinates and no two of them form a moon.
#
# ## Exercises
#
# **1.** T4 is a square: its output is never negative. Can two layers of it separate the circles? Look at the picture, then
# at its accuracy.
#
# ````{dropdown} A solution
# ```python
# from ctrlib.plane import train_plane
#
# result = train_plane("T4", "circles", range(1, 21))
# print(result.accuracy.mean())
# ```
# It can: a circle is where a sum of squares has one value, and the last map may weigh the squares with either sign.
# ````
#
# **2.** And with more noise, or fewer points? Train the MLP and T9 on moons with twice the noise.
#
# ````{dropdown} A solution
# ```python
# from ctrlib.plane import train_plane
#
# for name, settings in (("MLP", {"post_activation": "relu"}), ("T9", {})):
#     print(name, train_plane(name, "moons", range(1, 21), noise=0.5, **settings).accuracy.mean())
# ```
# Compare the two gaps: a network that can carve around single points may lose more to noise.
# ````
#
# ## Where the numbers come from

# %% tags=["hide-input"]
figure_table(
    runs.groupby("dataset")
    .agg(networks=("label", "nunique"), seeds=("seed", "nunique"), runs=("seed", "size"))
    .reset_index(),
    caption="All runs behind this page were made in this build. The runs at half the noise come on top.",
)

# %% tags=["hide-input"]
footer("boundaries")

# %% [markdown]
# **Next.** {doc}`/chapters/03_khatri_rao` asks what more than one row adds to the product.
