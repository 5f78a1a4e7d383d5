"""The multi-head Khatri-Rao product and QNN-alpha, against golden vectors, float64 references and its own laws."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctrlib.data import Field, Schema
from ctrlib.errors import SettingError
from ctrlib.khatri_rao import MODES, MultiHeadKhatriRao
from ctrlib.layers import ACTIVATIONS, dropout, row_gate
from ctrlib.models import build_model
from ctrlib.models.qnn_alpha import QNNAlpha

F, D, B = 3, 4, 11


@pytest.fixture(params=["numba", "blocks"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with the compiled loops and with the blocks that stand in for them."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: the compiled loops are not used")
    else:
        monkeypatch.setattr(row_gate, "_numba_loops", lambda: None)


def layer(seed: int = 1, **settings: object) -> MultiHeadKhatriRao:
    """A layer in float64 whose batch norm, where it has one, is not at its initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = MultiHeadKhatriRao(F, D, **({"rows": 3} | settings)).double()  # type: ignore[arg-type]
        if made.norm is not None:
            nn.init.uniform_(made.norm.weight, 0.5, 1.5)
            nn.init.normal_(made.norm.bias)
    return made


def inputs(streams: int = 1, seed: int = 2) -> Tensor:
    return torch.randn(streams, B, F * D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow(made: MultiHeadKhatriRao, x_Bd: Tensor) -> np.ndarray:
    """The layer sample by sample, head by head, coordinate by coordinate, without dropout."""
    h, r, g, dh = made.heads, made.rows, F * D // made.heads, D // made.heads
    x = x_Bd.detach().numpy()
    place = [(f * D + k * dh + j) for k in range(h) for f in range(F) for j in range(dh)]  # head-major -> field-major
    if made.mode == "written":
        z = np.zeros((B, h * r * g))
        for k in range(h):
            weight, bias = made.maps[k].weight.detach().numpy(), made.maps[k].bias.detach().numpy()  # type: ignore[union-attr, operator]
            own = x[:, place[k * g : (k + 1) * g]]
            z[:, k * r * g : (k + 1) * r * g] = own @ weight.T + bias
    else:
        z = x @ made.map.weight.detach().numpy().T + made.map.bias.detach().numpy()
    if made.norm is not None:
        mean, var = z.mean(axis=0), z.var(axis=0)
        z = (z - mean) / np.sqrt(var + made.norm.eps)
        z = z * made.norm.weight.detach().numpy() + made.norm.bias.detach().numpy()
    gate = np.maximum(z, 0.0)
    out = x.copy() if made.residual else np.zeros_like(x)
    for b in range(B):
        for k in range(h):
            for i in range(g):
                total = sum(gate[b, k * r * g + row * g + i] for row in range(r))
                source = place[k * g + i]
                target = k * g + i if made.mode == "released" else source
                out[b, target] += (x[b, source] if made.product else 1.0) * total
    return out


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_a_layer_equals_its_slow_form(mode: str, heads: int, batch_norm: bool, residual: bool) -> None:
    made, x = layer(mode=mode, heads=heads, batch_norm=batch_norm, residual=residual), inputs()
    assert np.abs(made(x)[0].detach().numpy() - slow(made, x[0])).max() < 1e-10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("heads", [1, 2])
def test_without_the_product_the_gate_is_added(mode: str, heads: int) -> None:
    made, x = layer(mode=mode, heads=heads, product=False, batch_norm=True), inputs()
    assert np.abs(made(x)[0].detach().numpy() - slow(made, x[0])).max() < 1e-10


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_equal_those_of_plain_steps(name: str, batch_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, batch statistics and masks: every gradient equals that of the framework's own operations."""
    monkeypatch.setattr(row_gate, "BLOCK_VALUES", 100)  # several blocks, the last one smaller
    made = layer(mid_activation=name, batch_norm=batch_norm, dropout=0.3, heads=2)
    made.dropout.generator = torch.Generator()
    plain = copy.deepcopy(made)
    passes = 2
    leaves = [inputs(1).requires_grad_() for _ in range(2)]

    ours = made_with_seed(made, leaves[0], passes)
    plain.dropout.generator.manual_seed(5)  # type: ignore[union-attr]
    words = plain.dropout.words((passes, B, 3 * F * D), torch.device("cpu"))
    assert words is not None
    levels = plain.dropout.dropped_levels
    mask = (words >= levels - 32768).double() * 65536 / (65536 - levels)
    theirs = []
    for k in range(passes):
        z = plain.map(leaves[1][0])
        u = plain.norm(z) if plain.norm is not None else z
        gate = plain.mid_activation(u) * mask[k]
        total = gate.view(B, 2, 3, -1).sum(dim=2).flatten(1)
        theirs.append(leaves[1][0] + plain.to_head_major(leaves[1][0]) * total)
    stacked = torch.stack(theirs)
    assert torch.allclose(ours, stacked, rtol=0, atol=1e-12)
    weight = torch.randn(stacked.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pairs = []
    for out, module, leaf in ((ours, made, leaves[0]), (stacked, plain, leaves[1])):
        pairs.append(torch.autograd.grad((out * weight).sum(), [leaf, *module.parameters()]))
    for mine, other in zip(*pairs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-10, atol=1e-11)
    if made.norm is not None and plain.norm is not None:  # two passes move the running statistics twice
        assert torch.allclose(made.norm.running_mean, plain.norm.running_mean, rtol=0, atol=1e-14)  # type: ignore[arg-type]
        assert torch.allclose(made.norm.running_var, plain.norm.running_var, rtol=0, atol=1e-14)  # type: ignore[arg-type]
        assert made.norm.num_batches_tracked == plain.norm.num_batches_tracked == 2


def made_with_seed(made: MultiHeadKhatriRao, x: Tensor, passes: int) -> Tensor:
    assert made.dropout.generator is not None
    made.dropout.generator.manual_seed(5)
    out: Tensor = made(x, passes)
    return out


def test_streams_are_normalised_one_by_one() -> None:
    """Two streams with batch norm give what two calls of one stream give, running statistics included."""
    together, apart, x = layer(batch_norm=True), layer(batch_norm=True), inputs(2)
    out = together(x, passes=2)
    assert torch.allclose(out, torch.cat([apart(x[:1]), apart(x[1:])]), rtol=0, atol=1e-13)
    for name, value in together.state_dict().items():
        assert torch.allclose(value, apart.state_dict()[name], rtol=0, atol=1e-14), name


def test_evaluation_uses_running_statistics() -> None:
    made, x = layer(batch_norm=True), inputs()
    made(x)
    made.eval()
    assert made.norm is not None
    z = made.norm(made.map(x[0]))
    expected = x[0] + x[0] * torch.relu(z).view(B, 3, -1).sum(dim=1)
    assert torch.allclose(made(x)[0], expected, rtol=0, atol=1e-13)


def test_one_row_and_one_head_is_the_hadamard_product() -> None:
    for mode in MODES:
        made, x = layer(rows=1, heads=1, mode=mode), inputs()
        linear = made.maps[0] if mode == "written" else made.map
        assert torch.allclose(made(x), x + x * torch.relu(linear(x)), rtol=0, atol=1e-14)


def test_without_mid_activation_rows_collapse_to_one() -> None:
    """x * sum of W_r x is x * (sum of W_r) x: any R spans what T9 spans."""
    made, one, x = layer(mid_activation="none"), layer(rows=1, mid_activation="none"), inputs()
    with torch.no_grad():
        one.map.weight.copy_(made.map.weight.view(3, F * D, F * D).sum(dim=0))
        one.map.bias.copy_(made.map.bias.view(3, -1).sum(dim=0))
    assert torch.allclose(made(x), one(x), rtol=0, atol=1e-12)


def test_order_of_rows_does_not_matter() -> None:
    made, x = layer(heads=2), inputs()
    before = made(x)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        made.map.weight.copy_(made.map.weight.view(2, 3, -1, F * D)[:, order].reshape_as(made.map.weight))
        made.map.bias.copy_(made.map.bias.view(2, 3, -1)[:, order].reshape(-1))
    assert torch.allclose(made(x), before, rtol=0, atol=1e-13)


def test_aligned_equals_released_up_to_the_permutation_of_the_product() -> None:
    aligned, released, x = layer(mode="aligned", heads=4), layer(mode="released", heads=4), inputs()
    assert torch.allclose(aligned.to_head_major(aligned(x) - x), released(x) - x, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("mode", "heads"), [(mode, heads) for mode in MODES for heads in (1, 2, 4)])
def test_parameter_formula(mode: str, heads: int) -> None:
    d, rows = F * D, 3
    expected = rows * (d * d // (heads if mode == "written" else 1) + d) + 2 * rows * d
    assert sum(p.numel() for p in layer(mode=mode, heads=heads, batch_norm=True).parameters()) == expected


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_shared_first_layer_equals_separate_passes(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of QNN-alpha equal whole passes run one by one with the same masks."""
    schema = Schema((Field("a"), Field("b")), (5, 6))
    model = build_model("QNN-alpha", schema, embedding_dim=4, layers=3, dropout=rate).double()
    other = copy.deepcopy(model)
    assert isinstance(model, QNNAlpha)
    e = torch.randn(B, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draw, drawn = dropout.random_words, []

    def kept(*request: Any) -> Tensor:
        drawn.append(draw(*request))
        return drawn[-1]

    monkeypatch.setattr(dropout, "random_words", kept)
    together = model.interact_passes(e, 2)
    assert len(drawn) == (6 if rate else 0), "the gate's mask and the layer's, in each of three layers"
    apart = []
    for k in range(2):
        words = iter(drawn)

        def replayed(shape: Any, *_: Any, words: Any = words, k: int = k) -> Tensor:
            return next(words)[k : k + 1].reshape(shape)  # type: ignore[no-any-return]

        monkeypatch.setattr(dropout, "random_words", replayed)
        apart.append(other.interact(e))
    assert torch.allclose(together, torch.stack(apart), rtol=0, atol=1e-12)
    assert bool((together[0] != together[1]).any()) == bool(rate)
    for name, value in model.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], rtol=0, atol=1e-14), name


@pytest.mark.parametrize("batch_norm", [False, True])
def test_what_is_not_a_number_is_not_hidden(batch_norm: bool) -> None:
    """A ReLU lets NaN through, and so must the loops: a run that diverges has to be noticed."""
    made, x = layer(dropout=0.3, batch_norm=batch_norm), inputs()
    x[0, 3] = float("nan")
    assert bool(torch.isnan(made(x)[0, 3]).any())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="aligned"):
        layer(mode="aligne")
    with pytest.raises(SettingError, match="do not divide"):
        layer(heads=3)
    with pytest.raises(SettingError, match="rows"):
        layer(rows=0)
