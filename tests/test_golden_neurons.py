"""The authors' layers, case by case: logits and gradients of the test harness."""

from __future__ import annotations

from typing import Any

import pytest
from golden_files import arrays, assert_close, cases, double

from ctrlib.data import Field, Schema
from ctrlib.models import build_model
from ctrlib.models.neuron_network import NeuronNetwork
from ctrlib.neurons import FORMATS

NAME = "neuron_formats"
CASES = cases(NAME)

# The fixture's name of a map -> ours. Formats with one affine map call it "linear" there and W here.
RENAMED = {
    "linear": "W",
    "bi_linear": "B",
    "linear1": "W1",
    "linear2": "W2",
    "linear.0": "W1",
    "linear.2": "W2",
    "downsize": "W2",
}


def our_name(form: str, theirs: str) -> str:
    """Translate a weight's name, for example layer.0.linear.weight -> layers.0.W.weight."""
    if not theirs.startswith("layer."):
        return theirs.replace("compressed", "compress").replace("fc", "head")
    layer, name = theirs.removeprefix("layer.").split(".", 1)
    if name == "alpha":
        return f"layers.{layer}.alpha"
    part, kind = name.rsplit(".", 1)
    ours = "W1" if part == "linear" and "W1" in FORMATS[form].maps else RENAMED[part]
    return f"layers.{layer}.{ours}.{kind}"


def network(case: str, settings: dict[str, Any]) -> NeuronNetwork:
    form, _ = case.split(".")
    schema = Schema((Field("x"),), (3,))  # one field as wide as the input
    model = build_model(
        form,
        schema,
        embedding_dim=settings["width"],
        layers=settings["layers"],
        post_activation=settings["post_activation"].lower(),
        compressed_width=settings["compressed_width"] or 100,
        dropout=settings["dropout"],
    ).double()
    assert isinstance(model, NeuronNetwork)
    weights = {our_name(form, key): double(value) for key, value in arrays(NAME, f"{case}/w/").items()}
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("embedding")}
    assert state.keys() == weights.keys()
    model.load_state_dict(model.state_dict() | weights)
    return model


@pytest.mark.parametrize("case", CASES)
def test_golden_logits_and_gradients(case: str) -> None:
    model, values = network(case, CASES[case]), arrays(NAME, f"{case}/")
    x = double(values["x"]).requires_grad_()
    logits = model.interact(x[:, None, :])
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert_close(logits[:, None], values["logit"], f"{case} logit")
    assert x.grad is not None
    assert_close(x.grad, values["grad_x"], f"{case} grad_x")


@pytest.mark.parametrize("case", CASES)
def test_golden_parameter_count(case: str) -> None:
    model = network(case, CASES[case])
    assert model.num_parameters - model.embedding.weight.numel() == CASES[case]["parameters"]
