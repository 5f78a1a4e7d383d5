"""The first 100 losses of a tiny run of every system, in float64 on one thread.

If one of these moves, results move: raise `ctrlib.train.NUMERICS` and write the file anew with
`python tests/test_golden_runs.py`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.ds_mlp import DSMLP
from ctrlib.eckd import ECKD
from ctrlib.models import MODELS, CTRModel, build_model
from ctrlib.models.base import Origin
from ctrlib.train import NUMERICS, Protocol, fit

FILE = Path(__file__).parent / "golden" / "losses.json"
PROTOCOL = Protocol(batch_size=60, max_epochs=10, patience=99, embedding_regularizer=0.01, embedding_dim=4)
# Settings that keep a run tiny; each system takes those that it has.
SMALL = {
    "embedding_dim": 4,
    "compressed_width": 6,
    "hidden_width": 8,
    "hidden_units": (8, 6),
    "second_units": (4,),
    "parallel_units": (7, 5),
    "gate_units": (5,),
    "cin_units": (5, 3),
    "attention_dim": 6,
    "neurons": 5,
    "neuron_units": (6,),
    "fmb_units": (5,),
    "fmb_rows": 3,
    "lcb_rows": 2,
    "rank": 2,
    "block_width": 6,
    "order_vectors": (5, 3),
    "rotation_width": 6,
    "amplifier_units": (8,),
    "group_width": 4,
    "encoder_units": 7,
}
TAUGHT = {"hidden_units": (6, 5), "attention_dim": 6}
# With small embeddings their logarithms and norms magnify rounding, which differs between processors.
STEADY = {"embedding_std": 0.5}
OWN = {
    "AFN": STEADY,
    "RFM": STEADY,
    "WuKong": STEADY,
    "DS-MLP": {"stage": "align"},
    "ECKD": {"teachers": (("AutoInt", TAUGHT), ("DCNv2", {"hidden_units": (6, 5), "batch_norm": True}))},
}
SYSTEMS = {name: (name, OWN.get(name, {})) for name in MODELS} | {
    "ECKD mean": ("ECKD", {**OWN["ECKD"], "weighting": "mean", "temperature": 2.0, "distill_weight": 0.5}),
    "DS-MLP written, distilled": ("DS-MLP", {"stage": "distill"}),
    "DS-MLP released, distilled": ("DS-MLP", {"stage": "distill", "mode": "released"}),
    "T19 self-ensemble": ("T19", {"loss": "self-ensemble", "passes": 2}),
    "QNN-alpha written, 2 heads": ("QNN-alpha", {"mode": "written", "heads": 2}),
    "QNN-alpha aligned, 2 heads": ("QNN-alpha", {"mode": "aligned", "heads": 2, "batch_norm": False}),
    "T9 batch norm, ReLU": ("T9", {"batch_norm": True, "post_activation": "relu"}),
    "DNN batch norm": ("DNN", {"batch_norm": True}),
    "DeepFM self-ensemble": ("DeepFM", {"loss": "self-ensemble", "passes": 2}),
    "DCNv2 stacked": ("DCNv2", {"structure": "stacked"}),
    "GDCN stacked": ("GDCN", {"structure": "stacked"}),
    "FinalMLP contexts, 2 heads": ("FinalMLP", {"contexts": (("a",), ("b", "c")), "heads": 2, "batch_norm": True}),
    "AFN without the ensemble": ("AFN", {**STEADY, "hidden_units": (), "batch_norm": True}),
    "EDCN attention, batch norm": ("EDCN", {"bridge": "attention", "batch_norm": True, "residual": True}),
    "FiBiNET all, shared": ("FiBiNET", {"maps": "all", "shared_maps": True}),
    "FiBiNET each": ("FiBiNET", {"maps": "each"}),
    "FiGNN without GRU": ("FiGNN", {"gru": False, "shared_layer": True}),
    "FINAL one block, sum": ("FINAL", {"blocks": 1, "join": "sum", "gate": False}),
    "ECN 2 heads": ("ECN", {"heads": 2, "batch_norm": True}),
    "SFG FmFM": ("SFG", {"host": "FmFM"}),
    "SFG DCNv2": ("SFG", {"host": "DCNv2"}),
    "MaskNet serial": ("MaskNet", {"structure": "serial", "field_norm": False}),
    "RFM 2 heads, no residual": ("RFM", {"heads": 2, "residual": False, "rotations": 1}),
    "CL4CTR FM, batch": ("CL4CTR", {"hidden_units": (), "constraints": "batch", "mask": "feature"}),
    "AutoInt wide, layer norm": ("AutoInt", {"wide": True, "layer_norm": True, "scaled": True}),
}


def small_model(system: str, schema: Schema) -> CTRModel:
    """Return a tiny network of the system, its teachers at hand."""
    name, settings = SYSTEMS[system]
    known = [field.name for field in dataclasses.fields(MODELS[name].settings)]
    small = {key: value for key, value in SMALL.items() if key in known}
    model = build_model(name, schema, seed=1, **small | settings)
    if isinstance(model, DSMLP) and model.teacher is not None:  # an untrained teacher will do
        teacher = build_model("GDCN", schema, seed=2, embedding_dim=SMALL["embedding_dim"])
        values = dataclasses.asdict(teacher.settings)
        model.start_from(Origin("GDCN", values, schema, dict(teacher.state_dict())))
    if isinstance(model, ECKD):
        for k in range(len(model.teachers)):
            origin = model.teacher(k).origin()
            origin.tensors["embedding.weight"] *= 1e4  # so that the teachers disagree
            model.start_from(origin)
    return model


def losses(system: str, data: CTRDataset, nudge: float = 0.0) -> list[float]:
    """Train the system for 10 epochs of 10 steps and return the loss of every step.

    nudge: size of a random relative change of each initial value.
    """
    torch.set_num_threads(1)
    model = small_model(system, data.schema).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + nudge * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    seen: list[float] = []
    original = model.training_loss

    def recorded(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = original(ids, labels.double())
        seen.append(loss.item())
        return loss

    model.training_loss = recorded  # type: ignore[method-assign]
    fit(model, data, PROTOCOL, seed=1)
    return seen


@pytest.mark.parametrize("system", SYSTEMS)
def test_golden_losses(system: str, tiny: CTRDataset) -> None:
    stored = json.loads(FILE.read_text())
    assert stored["numerics"] == NUMERICS, "NUMERICS was raised: write the golden losses anew"
    assert losses(system, tiny) == pytest.approx(stored["losses"][system], rel=1e-9, abs=0)


def main() -> None:
    from conftest import random_split

    generator = torch.Generator().manual_seed(0)
    schema = Schema((Field("a"), Field("b"), Field("c")), (7, 9, 5))
    data = CTRDataset("tiny", schema, *[random_split(n, schema, generator) for n in (600, 200, 200)], "0" * 16, {})
    values = {system: losses(system, data) for system in SYSTEMS}
    for system, row in values.items():
        assert losses(system, data, nudge=1e-13) == pytest.approx(row, rel=1e-9, abs=0), f"{system} magnifies rounding"
    stored = json.loads(FILE.read_text()) if FILE.exists() else {"numerics": None, "losses": {}}
    if stored["numerics"] == NUMERICS:  # a line that still holds stays as it is, to the letter
        for system, row in stored["losses"].items():
            if system in values and values[system] == pytest.approx(row, rel=1e-9, abs=0):
                values[system] = row
    lines = [f'  "{system}": {json.dumps(row)}' for system, row in values.items()]
    text = f'{{\n "numerics": {NUMERICS},\n "losses": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    FILE.write_text(text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
