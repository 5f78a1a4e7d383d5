"""The runs of the DS-MLP chapters: teachers, distilled students, aligned streams, and what each starts from.

A teacher is trained once for each seed, and all students of that seed start from it. Its settings are those of the
open benchmark's leaderboard where the data set has one, else those that a recorded search found on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlib.ds_mlp import DSMLPSettings
from ctrlib.errors import unknown
from ctrlib.lab.grid import Cell, Grid
from ctrlib.lab.leaderboard import DATASETS as LISTED
from ctrlib.lab.leaderboard import FRAPPE
from ctrlib.lab.run import Run
from ctrlib.lab.search import SEARCH, best_search, draw_settings, search_grid, searched
from ctrlib.models.base import checked
from ctrlib.train import Protocol

TEACHERS, DISTIL, ALIGN = "teachers", "distil", "align"  # experiments
NAME = "DS-MLP"
DISTILLED = "distilled"
TWO_TRAINED = "two-trained-mlps"


@dataclass(frozen=True)
class Sizes:
    """Widths on one data set: of the teacher's and the parallel MLP, and of the main one, half again as wide."""

    teacher: tuple[int, ...]
    main: tuple[int, ...]


SIZES = {"": Sizes((400,) * 3, (600,) * 3), "ml-100k": Sizes((200,) * 3, (300,) * 3)}  # "" for all others
REGULARISERS = (1e-3, 1e-2, 3e-2, 1e-1)
CHOICES: dict[str, Sequence[Any]] = {
    "embedding_regularizer": REGULARISERS,
    "dropout": (0.0, 0.1, 0.2, 0.4),
    "batch_norm": (True, False),
}
OWN_CHOICES: dict[str, Sequence[Any]] = {
    **CHOICES,
    "distill_weight": (0.1, 0.5, 1.0, 1.5, 10.0),
    "alpha": (0.5, 0.8, 1.0, 1.2, 1.5),
    "beta": (0.5, 0.8, 1.0, 1.2, 1.5),
}


def sizes(dataset: str) -> Sizes:
    """Return the widths used on a data set."""
    return SIZES.get(dataset, SIZES[""])


def systems(dataset: str) -> dict[str, Cell]:
    """Return the teachers and the plain MLP: name in the tables -> model and what is not searched."""
    teacher, wide = sizes(dataset).teacher, sizes(dataset).main
    return {
        "GDCN": ("GDCN", {"hidden_units": teacher}),
        "DCNv2": ("DCNv2", {"hidden_units": teacher}),
        "xDeepFM": ("xDeepFM", {"hidden_units": teacher}),
        "AutoInt+": ("AutoInt", {"hidden_units": teacher}),
        "FinalMLP": ("FinalMLP", {"hidden_units": teacher, "second_units": teacher, "gate_units": teacher[:1]}),
        "QNN-alpha": ("QNN-alpha", {"layers": 1, "rows": 4}),
        "MLP": ("DNN", {"hidden_units": wide}),
    }


def base_protocol(dataset: str) -> Protocol:
    """Return the protocol of both stages and of the teachers, before the search."""
    return Protocol.named("bars", dataset)


def teacher_search(dataset: str, names: Sequence[str] | None = None) -> Grid:
    """Return the search of the teachers and the plain MLP: 12 settings each, chosen on validation.

    On a data set with a leaderboard only those are searched that are not listed.
    """
    listed = FRAPPE if dataset in LISTED else {}
    asked = [name for name in systems(dataset) if name not in listed and (names is None or name in names)]
    cells = {name: cell for name, cell in systems(dataset).items() if name in asked}
    return search_grid(TEACHERS, dataset, cells, dict.fromkeys(cells, CHOICES), base_protocol(dataset))


STUDENT: dict[str, Any] = {"dropout": 0.2, "batch_norm": True}  # the authors' configurations; all loss weights 1


@dataclass(frozen=True)
class Tuned:
    """Chosen settings: the model, all its settings, and the protocol."""

    model: str
    settings: dict[str, Any]
    protocol: Protocol


def tuned(dataset: str, name: str) -> Tuned:
    """Return a teacher or the plain MLP at its chosen settings.

    Raises `RecordError` where there is neither a leaderboard nor a whole search, `SettingError` for an unknown name.
    """
    if dataset in LISTED and name in FRAPPE:
        found = FRAPPE[name]
        protocol = base_protocol(dataset).replace(embedding_regularizer=found.strength)
        return Tuned(found.model, {"embedding_dim": protocol.embedding_dim, **found.settings}, protocol)
    if name not in systems(dataset):
        raise unknown("teacher", name, systems(dataset))
    record = best_search(searched(teacher_search(dataset, [name])), name, dataset)
    return Tuned(record["model"], dict(record["settings"]), Protocol(**record["protocol"]))


def teacher_run(
    dataset: str, name: str, seed: int, *, label: str = "", experiment: str = TEACHERS, **changes: Any
) -> Run:
    """Return the run of a teacher at its tuned settings; with changed settings it needs a label of its own."""
    found = tuned(dataset, name)
    label = label or (SEARCH + name if seed == 0 else name)  # seed 0 is the search's
    return Run(experiment, dataset, label, found.model, found.settings | changes, found.protocol, seed, keep=True)


def student_search(dataset: str) -> Grid:
    """Return the search of DS-MLP with its GDCN teacher: 12 settings, both stages, chosen after alignment.

    On a data set with a leaderboard it is empty: there the authors' settings are taken.
    """
    grid = Grid(ALIGN)
    if dataset in LISTED:
        return grid
    for drawn in draw_settings(OWN_CHOICES, 12):
        protocol = base_protocol(dataset).replace(embedding_regularizer=drawn["embedding_regularizer"])
        own = {name: value for name, value in drawn.items() if name != "embedding_regularizer"}
        student = Student(dataset, own, protocol)
        grid.runs.append(student.align(SEARCH + NAME, 0, distilled=SEARCH + DISTILLED))
    return grid


def student(dataset: str) -> Student:
    """Return DS-MLP at its chosen settings. Raises `RecordError` where a search is needed and not recorded."""
    if dataset in LISTED:
        return Student(dataset, STUDENT, base_protocol(dataset))
    record = best_search(searched(student_search(dataset)), NAME, dataset)
    chosen = {name: record["settings"][name] for name in OWN_CHOICES if name != "embedding_regularizer"}
    return Student(dataset, chosen, Protocol(**record["protocol"]))


@dataclass(frozen=True)
class Student:
    """DS-MLP on one data set: the model's settings beyond its sizes, the protocol of its stages, its teacher's name."""

    dataset: str
    settings: Mapping[str, Any]
    protocol: Protocol
    teacher: str = "GDCN"

    def cell_settings(self, stage: str, **changes: Any) -> dict[str, Any]:
        """Return the model's settings in a stage."""
        size = sizes(self.dataset)
        full: dict[str, Any] = {
            "embedding_dim": self.protocol.embedding_dim,
            "hidden_units": size.main,
            "parallel_units": size.teacher,
            **self.settings,
            **changes,
            "stage": stage,
        }
        if stage == "distill" or full.get("main") == "teacher":
            found = tuned(self.dataset, self.teacher)
            full |= {"teacher": found.model, "teacher_settings": found.settings}
        return full

    def variants(self, stage: str, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return those changes of settings (label -> changes) that change something in a stage."""
        unchanged = checked(DSMLPSettings, NAME, self.cell_settings(stage))
        return {
            label: dict(change)
            for label, change in changes.items()
            if checked(DSMLPSettings, NAME, self.cell_settings(stage, **change)) != unchanged
        }

    def distill(self, label: str, seed: int, *, experiment: str = DISTIL, **changes: Any) -> Run:
        """Return a run of the distillation stage, which starts from the teacher of that seed."""
        settings = self.cell_settings("distill", **changes)
        parents = (teacher_run(self.dataset, self.teacher, seed),)
        return Run(experiment, self.dataset, label, NAME, settings, self.protocol, seed, parents=parents, keep=True)

    def align(
        self,
        label: str,
        seed: int,
        *,
        experiment: str = ALIGN,
        distilled: str | None = DISTILLED,
        distil_experiment: str = DISTIL,
        distil_changes: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Run:
        """Return a run of the alignment stage.

        distilled: the label of the distillation run that it starts from, with `distil_changes` of its settings; None
        starts from fresh values. With main="teacher" it starts from the teacher.
        """
        settings = self.cell_settings("align", **changes)
        parents: tuple[Run, ...] = ()
        if changes.get("main") == "teacher":
            parents = (teacher_run(self.dataset, self.teacher, seed),)
        elif distilled is not None:
            parents = (self.distill(distilled, seed, experiment=distil_experiment, **(distil_changes or {})),)
        return Run(experiment, self.dataset, label, NAME, settings, self.protocol, seed, parents=parents, keep=True)

    def two_trained(self, seed: int) -> Run:
        """Return a run of two MLPs without teacher and hidden alignment, in which each has a click loss of its own.

        With the click loss of their mean alone one of the two stays silent, and the pair is one MLP.
        """
        changes: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "hidden_alignment": "none"}
        return self.align(TWO_TRAINED, seed, distilled=None, **changes)
