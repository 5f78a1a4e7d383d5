"""The training protocol that both papers share, as one settings object with two presets.

Source: the authors' run logs and the libraries they name (FuxiCTR 2.0.1 and 2.3.4). See the book's page on how
the numbers come about.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ctrlib.data import DATASETS
from ctrlib.errors import SettingError, unknown
from ctrlib.layers.precision import PRECISIONS
from ctrlib.typed import typed

POSITIVE = (
    "learning_rate",
    "batch_size",
    "max_gradient_norm",
    "learning_rate_factor",
    "patience",
    "max_epochs",
    "embedding_dim",
    "min_count",
)


@dataclass(frozen=True)
class Protocol:
    """How a model is trained.

    preset: name of the preset it came from. learning_rate: Adam's, with the framework's other defaults.
    embedding_regularizer: adds (value / 2) * squared L2 norm of every embedding table, whole, at every step.
    network_regularizer: the same for all other parameters. max_gradient_norm: global norm, regulariser included.
    learning_rate_factor: multiplies the rate after an epoch whose validation AUC does not exceed the best by
    min_delta; patience: such epochs in a row that end training. The best epoch's weights are restored.
    embedding_dim, min_count: the data settings that belong to the preset. precision: of matrix products, "fp32" or
    "bf16"; see `ctrlib.layers.precision`.
    """

    preset: str = "qnn"
    learning_rate: float = 1e-3
    batch_size: int = 4096
    embedding_regularizer: float = 0.0
    network_regularizer: float = 0.0
    max_gradient_norm: float = 10.0
    learning_rate_factor: float = 0.1
    min_learning_rate: float = 1e-6
    min_delta: float = 1e-6
    patience: int = 2
    max_epochs: int = 100
    embedding_dim: int = 16
    min_count: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name, value in typed("the protocol", Protocol, vars(self)).items():
            object.__setattr__(self, name, value)
            if name in POSITIVE and value <= 0:
                raise SettingError(f"Protocol setting {name} is {value}; it must be positive.")
            if not isinstance(value, str) and value < 0:
                raise SettingError(f"Protocol setting {name} is {value}; it cannot be negative.")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    @classmethod
    def named(cls, preset: str, dataset: str | None = None, **changes: Any) -> Protocol:
        """Return a preset for a data set, with `changes`.

        Raises `SettingError` for an unknown preset or setting. A data set that the preset does not know takes
        the preset's general values, and the minimum count of its card.
        """
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        names = [f.name for f in dataclasses.fields(cls) if f.name != "preset"]
        for name in changes:
            if name not in names:
                raise unknown("protocol setting", name, names)
        published = (dataset or "").removesuffix("-rebuilt").removesuffix("-part").removesuffix("-released")
        counted = {"min_count": DATASETS[dataset].min_count} if dataset in DATASETS else {}
        general = {"preset": preset} | counted | PRESETS[preset][""]
        return cls(**general | PRESETS[preset].get(published, {}) | changes)

    def replace(self, **changes: Any) -> Protocol:
        """Return a copy with `changes`."""
        return dataclasses.replace(self, **changes)

    def changes(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, for records."""
        return dataclasses.asdict(self)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "qnn": {  # the QNN-alpha authors' logs; "" holds what a data set without a log gets
        "": {"embedding_dim": 16, "batch_size": 4096},
        "criteo_x4": {"embedding_regularizer": 1e-5, "batch_size": 10_000, "min_count": 10},
        "frappe_x1": {"embedding_regularizer": 0.1, "min_count": 2},
        "ipinyou_x1": {"embedding_regularizer": 1e-3, "min_count": 2},
        "kkbox_x1": {"embedding_dim": 128, "embedding_regularizer": 5e-4, "batch_size": 10_000, "min_count": 10},
        "ml-1m": {"embedding_regularizer": 1e-2},
        "ml-100k": {"embedding_regularizer": 1e-2, "batch_size": 1024},  # no log: ML-1M's, smaller batches
        "tenrec_x1": {"embedding_regularizer": 1e-5, "batch_size": 10_000, "min_count": 10},
    },
    "bars": {  # the open benchmark's settings, those of the DS-MLP configs and of the overall tables
        "": {"embedding_dim": 10, "batch_size": 4096},
        "frappe_x1": {"embedding_regularizer": 0.05, "min_count": 1},
        "ml-100k": {"embedding_regularizer": 1e-2, "batch_size": 1024},  # no leaderboard: then a search
    },
}
