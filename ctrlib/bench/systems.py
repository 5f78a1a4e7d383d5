"""The systems whose speed is measured, and the settings that every side of a comparison trains them with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ctrlib.errors import unknown


@dataclass(frozen=True)
class System:
    """One system. model, settings: for `build_model`. width: embedding dimension. regularizer: L2 on the table."""

    name: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    width: int = 16
    regularizer: float = 0.1
    batch_size: int = 4096
    min_count: int = 2

    def to_dict(self) -> dict[str, Any]:
        """Return the system as a plain dict, the form in which it goes to another process."""
        return asdict(self)


_MLP: dict[str, Any] = {"hidden_units": [400, 400, 400], "dropout": 0.0}
_BARS: dict[str, Any] = {"width": 10, "regularizer": 0.05, "min_count": 1}
_QNN: dict[str, Any] = {"layers": 2, "rows": 13, "batch_norm": True}

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System("T9", "T9", {"layers": 3, "dropout": 0.0}),
        System("DNN", "DNN", _MLP, **_BARS),
        System("DCNv2", "DCNv2", _MLP | {"cross_layers": 3}, **_BARS),
        System("QNN-alpha", "QNN-alpha", _QNN),
    )
}
"""What the peers are measured with. T9 runs without dropout, as the cross networks of FuxiCTR do."""


def system(name: str) -> System:
    """Return the system called `name`; raise `SettingError` naming the nearest for an unknown one."""
    if name not in SYSTEMS:
        raise unknown("benchmark system", name, SYSTEMS)
    return SYSTEMS[name]
