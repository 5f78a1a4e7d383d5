"""The authors' DS-MLP with its GDCN teacher, phase by phase: losses in training, probabilities and stream logits.

Driven by the JSON: phases, widths and weights are its own. Fixtures hold one table for each field; here they are the
rows of one table.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import arrays, assert_close, cases, double
from numpy.typing import NDArray
from torch import Tensor

from ctrlib.data import Field, Schema
from ctrlib.ds_mlp import DSMLP
from ctrlib.models import CTRModel, build_model
from ctrlib.models.base import Origin

NAME = "ds_mlp"
CASES = cases(NAME)
STAGES = {"distillation": "distill", "finetuning": "align"}  # the fixture's phase -> our stage

# Beginnings of the fixture's names -> ours in DSMLP, the first that fits. The norm before a head has a name of its own.
RENAMED = [
    (r"embedding_layer\.", "embedding."),
    (r"embedding_layer_mlp\.", "parallel_embeddings.0."),
    (r"teacher_net\.cross_net\.w\.", "teacher.cross.maps."),
    (r"teacher_net\.cross_net\.wg\.", "teacher.cross.gates."),
    (r"teacher_net\.cross_net\.b\.", "teacher.cross.biases."),
    (r"teacher_net\.parallel_dnn\.", "teacher.mlp."),
    (r"teacher_net\.fc\.", "teacher.head."),
    (r"student_net\.", "main.body."),
    (r"parallel_dnn\.", "parallels.0.body."),
]


def schema_of(values: dict[str, Any]) -> Schema:
    sizes = tuple(values["vocab_sizes"])
    return Schema(tuple(Field(f"f{k}") for k in range(len(sizes))), sizes)


def our_weights(case: str) -> dict[str, Tensor]:
    """Translate the names, join the fields' tables and number the maps of each MLP."""
    values, renamed = CASES[case], {}
    own = {values["student_norm"]: "main.norm", values["parallel_norm"]: "parallels.0.norm"}
    own |= {values["student_head"]: "main.head", values["parallel_head"]: "parallels.0.head"}
    for name, value in arrays(NAME, f"{case}/w/").items():
        first = name.split(".")[0]
        if first in own:
            renamed[name.replace(first, own[first], 1)] = value
            continue
        pattern, ours = next((p, o) for p, o in RENAMED if re.match(p, name))
        renamed[re.sub(f"^{pattern}", ours, name)] = value
    tables: dict[str, dict[int, NDArray[Any]]] = {}
    weights: dict[str, Tensor] = {}
    positions: dict[str, list[int]] = {}
    for name in renamed:
        if found := re.match(r"(.*)\.mlp\.(\d+)\.weight", name):
            positions.setdefault(found[1], []).append(int(found[2]))
    for name, value in renamed.items():
        if found := re.match(r"(.*?)\.embedding_layer\.embedding_layers\.f(\d+)\.weight", name):
            tables.setdefault(found[1], {})[int(found[2])] = value
        elif found := re.match(r"(.*)\.mlp\.(\d+)\.(.*)", name):
            layer = sorted(positions[found[1]]).index(int(found[2]))
            weights[f"{found[1]}.linears.{layer}.{found[3]}"] = double(value)
        else:
            weights[name] = double(value)
    for name, fields in tables.items():
        weights[f"{name}.weight"] = double(np.concatenate([fields[k] for k in sorted(fields)]))
    return weights


def teacher_settings(values: dict[str, Any]) -> dict[str, Any]:
    settings = {"hidden_units": values["teacher_widths"], "cross_layers": values["cross_layers"]}
    return settings | {"batch_norm": values["batch_norm"], "dropout": values["dropout"]}


def teacher_of(case: str) -> CTRModel:
    values, weights = CASES[case], our_weights(case)
    schema, settings = schema_of(values), teacher_settings(values)
    model = build_model(values["teacher"], schema, embedding_dim=values["embedding_dim"], **settings).double()
    own = {k.removeprefix("teacher."): v for k, v in weights.items() if k.startswith("teacher.")}
    model.load_state_dict(own | {"embedding.weight": weights["embedding.weight"]})
    return model


def model_of(case: str, stage: str) -> DSMLP:
    """Return the stage's model with the case's weights. A norm that the stage does not use has no place here."""
    values, weights = CASES[case], our_weights(case)
    model = build_model(
        "DS-MLP",
        schema_of(values),
        mode="released",
        stage=stage,
        embedding_dim=values["embedding_dim"],
        teacher=values["teacher"],
        teacher_settings=teacher_settings(values),
        hidden_units=values["student_widths"],
        parallel_units=values["parallel_widths"],
        **{name: values[name] for name in ("batch_norm", "dropout", "alpha", "beta")},
    ).double()
    assert isinstance(model, DSMLP)
    if stage == "distill":
        teacher = teacher_of(case)
        settings = {"embedding_dim": values["embedding_dim"], **teacher_settings(values)}
        model.start_from(Origin(values["teacher"], settings, model.schema, dict(teacher.state_dict())))
        weights["teacher.embedding.weight"] = weights["embedding.weight"]
    used = set(model.state_dict())
    assert used <= set(weights)
    unused = {n for n in weights if n not in used}
    assert all(".norm." in n or n.startswith("teacher.") for n in unused), unused
    model.load_state_dict({name: weights[name] for name in used})
    return model


def batch(case: str, schema: Schema) -> tuple[Tensor, Tensor]:
    values = arrays(NAME, f"{case}/")
    ids = torch.from_numpy(values["ids"]).long() + torch.tensor(schema.offsets)
    return ids, double(values["label"]).flatten()


@pytest.mark.parametrize("case", [c for c in CASES if c not in STAGES])
def test_golden_teacher(case: str) -> None:
    model, values = teacher_of(case), arrays(NAME, f"{case}/")
    ids, labels = batch(case, model.schema)
    assert_close(model.train().training_loss(ids, labels), values["loss_train"], "loss")
    assert_close(torch.sigmoid(model.eval()(ids)), values["probability_eval"], "probability")


@pytest.mark.parametrize("case", [c for c in CASES if c in STAGES])
def test_golden_stage(case: str) -> None:
    """The weights are those after the training pass: batch statistics then are the batch's, whatever is stored."""
    model, values = model_of(case, STAGES[case]), arrays(NAME, f"{case}/")
    ids, labels = batch(case, model.schema)
    model.eval()
    streams = model.stream_logits(ids)
    assert_close(streams[0], values["student_logit_eval"], "student logit")
    assert_close(streams[1], values["parallel_logit_eval"], "parallel logit")
    assert_close(torch.sigmoid(model(ids)), values["probability_eval"], "probability")
    assert_close(model.train().training_loss(ids, labels), values["loss_train"], "loss")
