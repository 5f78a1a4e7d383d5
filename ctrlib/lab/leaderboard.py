"""Settings of every system on Frappe_x1: those of the open benchmark's leaderboard, or of the system's authors.

Source of the listed ones: BARS, ranking/ctr, the runs of data/papers/bars_frappe_x1.csv. All have embeddings of width
10, batches of 4,096 and patience 2 but PNN, which has 3 there and 2 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DATASETS = ("frappe_x1", "frappe_x1-rebuilt")


@dataclass(frozen=True)
class Listing:
    """model: a name in the registry. settings: the model's. strength: L2 of the embedding table.

    source: "board" where the leaderboard lists the system; "authors" where the settings are from its authors' public
    configurations, on Frappe or on the data nearest to it; "ours" where neither has any: then they follow DCNv2, or the
    listed system that they are a part of.
    """

    model: str
    settings: dict[str, Any]
    strength: float
    source: str = "board"


MLP: dict[str, Any] = {"hidden_units": (400,) * 3}
DEEP: dict[str, Any] = {**MLP, "batch_norm": True, "dropout": 0.2}
ATTENTION = {"attention_layers": 5, "attention_dim": 128, "heads": 4, "scaled": True, "layer_norm": True}
GATES = {"second_units": (100,), "gate_units": (400,), "contexts": (("user",), ("item",)), "heads": 5}
NEURONS = {"neurons": 1000, "neuron_units": (400,), "neuron_dropout": 0.4}
BLOCKS = {"hidden_units": (400, 400), "second_units": (400,), "blocks": 2, "gate": True, "batch_norm": True}

FRAPPE: dict[str, Listing] = {
    # first and second order
    "LR": Listing("LR", {}, 1e-5),
    "FM": Listing("FM", {}, 5e-6),
    "FwFM": Listing("FwFM", {"linear": "FeLV"}, 5e-6),
    "FmFM": Listing("FmFM", {"form": "vectorized"}, 1e-5),
    "AFM": Listing("AFM", {"attention_dim": 128, "dropout": 0.1}, 1e-5),
    # MLPs, alone and beside other parts
    "DNN": Listing("DNN", DEEP, 0.05),
    "MLP": Listing("DNN", {**DEEP, "hidden_units": (600,) * 3}, 0.05, "ours"),  # as wide as DS-MLP's main stream
    "PNN": Listing("PNN", {**MLP, "product": "inner", "dropout": 0.3}, 0.05),
    "Wide&Deep": Listing("Wide&Deep", {**DEEP, "dropout": 0.6}, 0.1),
    "DeepFM": Listing("DeepFM", DEEP, 0.05),
    "DCN": Listing("DCN", {**DEEP, "cross_layers": 3}, 0.05),
    "DCNv2": Listing("DCNv2", {**DEEP, "dropout": 0.4, "cross_layers": 4}, 0.05),
    "GDCN": Listing("GDCN", DEEP, 0.05, "authors"),  # the DS-MLP authors' teacher
    "EDCN": Listing("EDCN", {"cross_layers": 3, "dropout": 0.3, "temperature": 5.0}, 0.05),
    "xDeepFM": Listing("xDeepFM", {**DEEP, "cin_units": (64,)}, 0.1),
    "AutoInt": Listing(
        "AutoInt", {"hidden_units": (), "attention_layers": 6, "attention_dim": 128, "heads": 4, "dropout": 0.0}, 0.05
    ),
    "AutoInt+": Listing("AutoInt", {**DEEP, **ATTENTION, "dropout": 0.1}, 0.1),
    "AFN": Listing("AFN", {**NEURONS, "hidden_units": (), "dropout": 0.0}, 1e-3),
    "AFN+": Listing("AFN", {**NEURONS, **MLP, "dropout": 0.2}, 1e-3),
    "FiBiNET": Listing("FiBiNET", {**DEEP, "dropout": 0.3, "maps": "all", "shared_maps": True, "reduction": 2.0}, 0.05),
    "FiGNN": Listing("FiGNN", {"graph_layers": 17, "gru": False}, 1e-3),
    "MaskNet": Listing("MaskNet", {**MLP, "dropout": 0.1, "field_norm": False}, 0.1),
    "DLRM": Listing("DLRM", {**DEEP, "dropout": 0.4, "interaction": "cat"}, 0.1),
    "FinalMLP": Listing("FinalMLP", {**DEEP, **GATES, "hidden_units": (400,), "dropout": 0.4}, 0.05),
    "DualMLP": Listing(  # FinalMLP's two streams alone
        "DualMLP", {**DEEP, "hidden_units": (400,), "second_units": (100,), "dropout": 0.4}, 0.05, "ours"
    ),
    "FINAL": Listing("FINAL", {**BLOCKS, "dropout": 0.1}, 0.1),
    # not on the board
    "CL4CTR": Listing("CL4CTR", DEEP, 0.05, "ours"),
    "EulerNet": Listing("EulerNet", {"order_vectors": (52,), "dropout": 0.0}, 0.05, "authors"),
    "RFM": Listing("RFM", {"dropout": 0.2}, 0.05, "ours"),
    "ECN": Listing("ECN", {"cross_layers": 2, "dropout": 0.2}, 0.01, "authors"),  # their ML-1M
    "FCN": Listing("FCN", {"cross_layers": 2, "linear_layers": 2, "dropout": 0.2}, 0.01, "ours"),
    "WuKong": Listing("WuKong", {"hidden_units": (400, 400), "fmb_units": (400,), "dropout": 0.2}, 0.05, "ours"),
    "SFG": Listing("SFG", {**DEEP, "host": "DCNv2"}, 0.05, "ours"),
    "QNN-alpha": Listing(
        "QNN-alpha", {"layers": 2, "rows": 13, "heads": 1, "batch_norm": True, "dropout": 0.1}, 0.1, "authors"
    ),
}
