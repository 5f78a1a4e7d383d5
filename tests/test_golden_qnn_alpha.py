"""The authors' QNN-alpha, case by case: logits in training and evaluation mode, and gradients."""

from __future__ import annotations

from typing import Any

import pytest
from golden_files import arrays, assert_close, cases, double

from ctrlib.data import Field, Schema
from ctrlib.models import build_model
from ctrlib.models.qnn_alpha import QNNAlpha

NAME = "qnn_alpha"
CASES = cases(NAME)


def our_name(theirs: str) -> str:
    """Translate a weight's name, for example layer.0.linear.1.weight -> trunk.layers.0.norm.weight."""
    name = theirs.replace("layer.", "trunk.layers.", 1).replace("fc", "head")
    return name.replace("linear.0", "map").replace("linear.1", "norm")


def network(case: str, settings: dict[str, Any]) -> QNNAlpha:
    schema = Schema(tuple(Field(f"f{k}") for k in range(settings["fields"])), (3,) * settings["fields"])
    shared = ("embedding_dim", "layers", "rows", "heads", "batch_norm", "mode", "dropout")
    model = build_model(
        "QNN-alpha",
        schema,
        mid_activation=settings["mid_activation"].lower(),
        **{name: settings[name] for name in shared},
    ).double()
    assert isinstance(model, QNNAlpha)
    load(model, case)
    return model


def load(model: QNNAlpha, case: str) -> None:
    weights = {our_name(key): double(value) for key, value in arrays(NAME, f"{case}/w/").items()}
    state = model.state_dict()
    assert {key for key in state if not key.startswith("embedding")} == weights.keys()
    model.load_state_dict(state | weights)


@pytest.mark.parametrize("case", CASES)
def test_golden_logits_and_gradients(case: str) -> None:
    settings = CASES[case]
    model, values = network(case, settings), arrays(NAME, f"{case}/")
    x = double(values["x"]).requires_grad_()
    fields = x.unflatten(1, (settings["fields"], -1)) if x.ndim == 2 else x
    logits = model.interact(fields)
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert_close(logits.view(values["logit_train"].shape), values["logit_train"], f"{case} logit_train")
    assert_close(x.grad, values["grad_x"], f"{case} grad_x")
    load(model, case)  # the training pass moved the running statistics
    model.eval()
    assert_close(model.interact(fields).view(values["logit_eval"].shape), values["logit_eval"], f"{case} logit_eval")


@pytest.mark.parametrize("case", CASES)
def test_golden_parameter_count(case: str) -> None:
    model = network(case, CASES[case])
    assert model.num_parameters - model.embedding.weight.numel() == CASES[case]["parameters"]
