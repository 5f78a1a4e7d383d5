"""What the model gallery says: a card for every registered system, from its docstring, its code and what is recorded.

A system's docstring is the single source of its card. It begins with what the model gives and its equation, and goes on
with paragraphs that begin with `LABELS`: the structure (see `ctrlib.views.diagrams`), the parameters, the source and
the differences between paper and public code. All else is computed when the page is built.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ctrlib import eckd
from ctrlib.bench import tables as speed
from ctrlib.data import Field, Schema
from ctrlib.data.synthetic import criteo_schema
from ctrlib.errors import CtrlibError, unknown
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records, experiment_runs
from ctrlib.lab.leaderboard import DATASETS, FRAPPE
from ctrlib.lab.overall import EXPERIMENT, SYSTEMS, system_run
from ctrlib.lab.records import load_records
from ctrlib.lab.search import SEARCH
from ctrlib.lab.tables import cell_table
from ctrlib.models import MODELS, CTRModel, build_model
from ctrlib.neurons import FORMATS
from ctrlib.views.runs import FEWEST

NEURONS = "neuron formats"
FAMILIES: dict[str, tuple[str, ...]] = {
    "linear and FM": ("LR", "FM", "FwFM", "FmFM", "AFM"),
    "MLP": ("DNN", "Wide&Deep", "DeepFM", "PNN", "DLRM", "DualMLP", "CL4CTR"),
    "cross network": ("DCN", "DCNv2", "GDCN", "EDCN", "xDeepFM", "ECN", "FCN", "WuKong"),
    "attention": ("AutoInt", "FiGNN", "RFM"),
    "gated": ("FiBiNET", "MaskNet", "FinalMLP", "SFG"),
    "learned orders": ("AFN", "EulerNet"),
    "quadratic": (
        *(NEURONS, "FINAL", "QNN-alpha", "DeepFM-QNN", "xDeepFM-QNN", "DCNv2-QNN"),
        *("T19-lifted", "QNN-alpha-ensemble"),
    ),
    "distilled": ("DS-MLP", eckd.NAME),
}
"""What the page groups systems by. The neuron formats, all of one class, have one card."""

LABELS = ("Structure", "Parameters", "Source", "Paper and code")
COUNTED: dict[str, dict[str, Any]] = {"DS-MLP": {"stage": "align"}}
"""Settings other than the defaults that a card's network has: DS-MLP as it is used in the end."""
ELSEWHERE: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("activation", (f"{name}.none", f"{name}.relu")) for name in FORMATS},
    "DeepFM-QNN": ("plug-and-play", ("DeepFM-QNN.released", "DeepFM-QNN.written")),
    "xDeepFM-QNN": ("plug-and-play", ("xDeepFM-QNN",)),
    "DCNv2-QNN": ("plug-and-play", ("DCNv2-QNN.released", "DCNv2-QNN.written")),
    "T19-lifted": ("second-network", ("T19-lifted",)),
    "QNN-alpha-ensemble": ("second-network", ("ensemble", "ensemble-shared", "ensemble+SE")),
}
"""System that the overall table lacks -> the experiment that ran it, and its cells there, the default form's first."""
CONDITIONS = ["device_name", "precision", "threads"]
"""Columns that say under what a time was measured."""
DEFAULT_LABELS = {"AutoInt": "AutoInt+", "AFN": "AFN+"} | {name: found[1][0] for name, found in ELSEWHERE.items()}
"""System -> label of its default form in the results, where that has another name."""
OF_OTHERS = ("teachers", "teacher_settings")
"""Settings that are those of another model; a card does not list them."""
UNCOUNTED = ("contexts",)
"""Settings that are left out when parameters are counted: FinalMLP's gates have tables of the fields that they read."""
RESULT_COLUMNS = [
    *("dataset", "label", "system", "chapter", "settings"),
    *("test_auc", "test_auc_low", "test_auc_high", "seeds", "failed"),
]


def _schema(fields: int, ids: int) -> Schema:
    """Return a schema with that many fields and table rows; how they are spread does not change a count."""
    sizes = [ids // fields + (k < ids % fields) for k in range(fields)]
    return Schema(tuple(Field(f"f{k}") for k in range(fields)), tuple(sizes))


def schemas() -> dict[str, Schema]:
    """Return name -> a schema with a data set's numbers of fields and ids.

    They are those of the preset `bars`; for Criteo_x4 those that the QNN-alpha authors logged.
    """
    return {"Frappe_x1": _schema(10, 5399), "MovieLens-100K": _schema(7, 2736), "Criteo_x4": criteo_schema()}


@dataclass(frozen=True)
class Description:
    """A class's docstring, taken apart. prose: the paragraphs without a label. Absent parts are empty."""

    prose: tuple[str, ...]
    structure: str
    parameters: str
    source: str
    differences: str

    @property
    def equations(self) -> list[str]:
        """The displayed equations, LaTeX without dollar signs."""
        return re.findall(r"\$\$(.*?)\$\$", "\n\n".join(self.prose), re.DOTALL)


def describe(cls: type[nn.Module]) -> Description:
    """Return the docstring of a class, taken apart."""
    text = inspect.cleandoc(cls.__doc__ or "")
    parts = dict.fromkeys(LABELS, "")
    prose = []
    for paragraph in filter(None, re.split(r"\n\s*\n", text)):
        label, colon, rest = paragraph.partition(": ")
        if colon and label in parts:
            parts[label] = rest
        else:
            prose.append(paragraph)
    return Description(tuple(prose), *parts.values())


def system_of(label: str) -> str:
    """Return the registered system behind a label of the overall table."""
    return FRAPPE[label].model if label in FRAPPE else label


def family_of(name: str) -> str:
    """Return the family of a card. Raises `SettingError` for a system that no family lists."""
    for family, names in FAMILIES.items():
        if name in names:
            return family
    raise unknown("card of the gallery", name, [n for names in FAMILIES.values() for n in names])


def card_of(name: str) -> str:
    """Return the card on which a registered system stands."""
    return NEURONS if name in FORMATS else name


def counted_settings(name: str) -> dict[str, Any]:
    """Return the settings at which a system's parameters are counted: those of the overall table on Frappe.

    Without those that are `UNCOUNTED`. They are the defaults, an empty dict, for systems that are not in that table.
    """
    return {key: value for key, value in _listed(name).items() if key not in UNCOUNTED}


def left_out(name: str) -> list[str]:
    """Return the names of the settings that a system has in the overall table and `counted_settings` leaves out."""
    return [key for key in UNCOUNTED if key in _listed(name)]


def _listed(name: str) -> Mapping[str, Any]:
    """Return a system's settings in the overall table on Frappe; none for a system that is not in it."""
    label = DEFAULT_LABELS.get(name, name)
    return system_run(DATASETS[0], label, 1).settings if label in SYSTEMS else {}


@cache
def parameters(name: str) -> tuple[int, ...]:
    """Return a system's parameters at `counted_settings` for each of `schemas`.

    Every id adds the same number of them, so two networks with small tables tell the size of one with a large table.
    """

    def count(fields: int, ids: int) -> int:
        return build_model(name, _schema(fields, ids), **settings).num_parameters

    settings, found = counted_settings(name), []
    for schema in schemas().values():
        fields = schema.num_fields
        small = count(fields, 2 * fields)
        each = (count(fields, 3 * fields) - small) // fields
        found.append(small + each * (schema.table_rows - 2 * fields))
    return tuple(found)


@dataclass(frozen=True)
class Card:
    """One system. counts: its parameters for each schema, at `counted_settings`. chapters: those with runs of it.

    results, steps, latencies: rows of what was measured.
    """

    name: str
    model: CTRModel
    counts: tuple[int, ...]
    results: pd.DataFrame
    steps: pd.DataFrame
    latencies: pd.DataFrame
    chapters: tuple[str, ...]

    @cached_property
    def description(self) -> Description:
        """The docstring. Raises `CtrlibError` naming what it lacks."""
        found = describe(type(self.model))
        values = (found.structure, found.parameters, found.source, found.differences)
        missing = [label for label, value in zip(LABELS, values, strict=True) if not value]
        missing += [] if found.equations else ["an equation"]
        if missing:
            raise CtrlibError(f"The docstring of {type(self.model).__name__} lacks {', '.join(missing)}; see its card.")
        return found

    @property
    def parts(self) -> list[type[nn.Module]]:
        """Classes of ctrlib that the model is made of and that have an equation."""
        classes = dict.fromkeys(type(module) for module in self.model.modules())
        own = [cls for cls in classes if cls.__module__.startswith("ctrlib.") and not issubclass(cls, CTRModel)]
        return [cls for cls in own if describe(cls).equations]

    @property
    def path(self) -> str:
        """The file of its class, relative to the repository."""
        return Path(inspect.getfile(type(self.model))).resolve().relative_to(_package().parent).as_posix()

    @property
    def label(self) -> str:
        """Its label in the results."""
        return DEFAULT_LABELS.get(self.name, self.name)


def _package() -> Path:
    return Path(inspect.getfile(CtrlibError)).resolve().parent


def results() -> pd.DataFrame:
    """Return the recorded results: those of the overall table, then of systems that it lacks those of `ELSEWHERE`.

    Columns: dataset, label, system, chapter (file name without suffix), settings (those that differ from
    `counted_settings`, or the defaults), test_auc and its interval (fractions, none from fewer seeds than `FEWEST`),
    seeds, failed.
    """
    systems = {EXPERIMENT: {label: system_of(label) for label in SYSTEMS}}
    for name, (experiment, labels) in ELSEWHERE.items():
        systems.setdefault(experiment, {}).update(dict.fromkeys(labels, name))
    found = [row for experiment, labels in systems.items() for row in _results(experiment, labels)]
    frame = pd.DataFrame(found, columns=RESULT_COLUMNS)
    frame.loc[frame["seeds"] < FEWEST, ["test_auc_low", "test_auc_high"]] = math.nan
    return frame


def _results(experiment: str, systems: Mapping[str, str]) -> Iterator[dict[Any, Any]]:
    """Yield the rows of `results` for cells of an experiment. systems: label of a cell -> its system."""
    records = experiment_records(experiment)
    for dataset in sorted({record["dataset"] for record in records}):
        runs = experiment_runs(experiment, dataset, records, measured=False)
        if runs.empty:
            continue
        settings = {r["label"]: r["settings"] for r in records if r["dataset"] == dataset}
        for row in cell_table(runs[runs["label"].isin(list(systems))]).reset_index().to_dict("records"):
            system = systems[row["label"]]
            told = {"system": system, "settings": changed(system, settings[row["label"]])}
            yield row | told | {"dataset": dataset, "chapter": EXPERIMENTS[experiment].chapter}


def changed(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a run's settings that are not the ones at which the system's parameters are counted.

    What they say of other models, such as teachers, is left out.
    """
    usual = _usual(name)
    own = {key: value for key, value in settings.items() if key not in OF_OTHERS}
    return {key: value for key, value in own.items() if _plain(value) != _plain(usual.get(key))}


@cache
def _usual(name: str) -> dict[str, Any]:
    """Return all settings at which a system's parameters are counted, as the network itself has them."""
    return dataclasses.asdict(build_model(name, _schema(4, 20), **counted_settings(name)).settings)


def _plain(value: Any) -> Any:
    """Return a setting with lists for tuples, as records hold it."""
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def steps() -> pd.DataFrame:
    """Return the measured training steps on Frappe: at the overall table's settings, and at those of the benchmark.

    settings: those that were given, the width of the embedding, and the passes where the model has several by default.
    """
    found = speed.steps()
    if found.empty:
        columns = ["system", "label", "group", "settings", "batch", *CONDITIONS, "step", "low", "high"]
        return pd.DataFrame(columns=columns)
    found = found[found["group"].isin(["overall", "systems"])]
    settings = pd.Series(list(map(_with_passes, found["model"], found["settings"])), index=found.index)
    return found.assign(system=found["model"], label=found["name"].str.removesuffix(", overall"), settings=settings)


def _with_passes(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the model's default number of passes where they name none and it is more than one."""
    default = MODELS[model].settings().passes
    return settings | ({"passes": settings.get("passes", default)} if default > 1 else {})


def latencies() -> pd.DataFrame:
    """Return the measured latencies of systems at batches of 4,096 rows."""
    found = speed.system_latency()
    if found.empty:
        columns = ["system", "label", "data", "batch", "parameters", *CONDITIONS, "latency", "low", "high"]
        return pd.DataFrame(columns=columns)
    found = found[found["batch"] == 4096]
    return found.assign(label=found["system"], system=found["system"].map(system_of))


def chapters_of() -> dict[str, tuple[str, ...]]:
    """Return system -> the chapters whose experiments have completed runs of it."""
    found: dict[str, dict[str, None]] = {}
    for record in load_records():
        if not record["label"].startswith(SEARCH) and record["experiment"] in EXPERIMENTS:
            chapters = found.setdefault(card_of(record["model"]), {})
            chapters[EXPERIMENTS[record["experiment"]].chapter] = None
    return {name: tuple(sorted(chapters)) for name, chapters in found.items()}


def cards() -> list[Card]:
    """Return the cards of all registered systems, family by family."""
    small = _schema(4, 20)
    scores, measured, latency, chapters = results(), steps(), latencies(), chapters_of()
    listed = [name for names in FAMILIES.values() for name in names]
    forgotten = [name for name in MODELS if card_of(name) not in listed]
    if forgotten:
        raise CtrlibError(f"No family of the gallery lists {', '.join(forgotten)}: add it to FAMILIES.")
    found = []
    for name in listed:
        first = next(iter(FORMATS)) if name == NEURONS else name
        found.append(
            Card(
                name,
                build_model(first, small, **COUNTED.get(name, {})),
                () if name == NEURONS else parameters(name),
                _of(scores, name),
                _of(measured, name),
                _of(latency, name),
                chapters.get(name, ()),
            )
        )
    return found


def _of(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows["system"].map(card_of) == name] if len(rows) else rows
