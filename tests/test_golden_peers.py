"""The baselines against small models of public code: probabilities and numbers of trainable weights.

Fixtures hold one table for each field; here they are the rows of one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import arrays, assert_close, cases, double
from numpy.typing import NDArray
from torch import Tensor

from ctrlib.data import Field, Schema
from ctrlib.layers import ACTIVATIONS
from ctrlib.models import MODELS, CTRModel, build_model

NAME = "peer_models"
CASES = cases(NAME)

# The fixture's module -> ours; its case names tell apart settings of one module.
SYSTEMS = {name: name for name in ("DNN", "DeepFM", "DCNv2", "GDCN", "FinalMLP", "DualMLP", "xDeepFM", "AutoInt")}
SYSTEMS |= {name: name for name in ("MaskNet", "EulerNet")}
# Two classes of one module that differ in a setting of ours.
STRUCTURES = {"GDCNP": "parallel", "GDCN": "stacked"}

# The fixture's name of a setting -> ours. What is not here has no counterpart and is dealt with in `our_settings`.
SETTINGS = {
    "hidden_units": "hidden_units",
    "dnn_hidden_units": "hidden_units",
    "mlp1_hidden_units": "hidden_units",
    "mlp2_hidden_units": "second_units",
    "mlp1_hidden_activations": "activation",
    "mlp1_dropout": "dropout",
    "mlp2_dropout": "second_dropout",
    "mlp1_batch_norm": "batch_norm",
    "use_fs": "gates",
    "fs_hidden_units": "gate_units",
    "hidden_activations": "activation",
    "dnn_activations": "activation",
    "net_dropout": "dropout",
    "batch_norm": "batch_norm",
    "num_cross_layers": "cross_layers",
    "cin_hidden_units": "cin_units",
    "attention_layers": "attention_layers",
    "attention_dim": "attention_dim",
    "num_heads": "heads",
    "use_residual": "residual",
    "use_scale": "scaled",
    "use_wide": "wide",
    "layer_norm": "layer_norm",
}

# What holds for one module of the fixture alone; looked up before what holds for all.
OWN_SETTINGS: dict[str, dict[str, str]] = {
    "MaskNet": {
        "model_type": "structure",
        "dnn_hidden_activations": "activation",
        "parallel_num_blocks": "blocks",
        "parallel_block_dim": "block_width",
        "reduction_ratio": "mask_ratio",
        "emb_layernorm": "field_norm",
        "net_layernorm": "layer_norm",
    },
    "EulerNet": {"shape": "order_vectors", "net_ex_dropout": "explicit_dropout", "net_im_dropout": "dropout"},
}
OWN_VALUES: dict[str, dict[str, str]] = {"MaskNet": {"ParallelMaskNet": "parallel", "SerialMaskNet": "serial"}}
OWN_RENAMED: dict[str, list[tuple[str, str]]] = {
    "MaskNet": [
        (r"mask_net\.mask_blocks\.(\d+)\.mask_layer\.0\.", r"blocks.\1.up."),
        (r"mask_net\.mask_blocks\.(\d+)\.mask_layer\.2\.", r"blocks.\1.down."),
        (r"mask_net\.mask_blocks\.(\d+)\.hidden_layer\.0\.", r"blocks.\1.linear."),
        (r"mask_net\.mask_blocks\.(\d+)\.hidden_layer\.1\.", r"blocks.\1.norm."),
        (r"mask_net\.dnn\.mlp\.", "mlp."),
        (r"mask_net\.fc\.", "mlp."),
        (r"emb_norm\.", "field_norm."),
    ],
    "EulerNet": [
        (r"mu$", "modulus"),
        (r"Euler_interaction_layers\.(\d+)\.inter_orders", r"layers.\1.orders"),
        (r"Euler_interaction_layers\.(\d+)\.bias_lam", r"layers.\1.log_modulus"),
        (r"Euler_interaction_layers\.(\d+)\.bias_theta", r"layers.\1.angle"),
        (r"Euler_interaction_layers\.(\d+)\.im\.", r"layers.\1.implicit."),
        (r"Euler_interaction_layers\.(\d+)\.norm_r\.", r"layers.\1.real_norm."),
        (r"Euler_interaction_layers\.(\d+)\.norm_p\.", r"layers.\1.imaginary_norm."),
        (r"reg\.", "head."),
    ],
}
# Our names of weights that have another shape here -> how to turn the fixture's.
OWN_SHAPES: dict[str, list[tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]]] = {
    "EulerNet": [
        (r"modulus", lambda mu: mu[0]),  # (1, F, 1)
        (r"layers\.\d+\.orders", np.transpose),
        (r"layers\.\d+\.(log_modulus|angle)", lambda bias: bias[0].T),  # (1, D, m)
    ],
}
# The fixture's setting and names of weights that its model keeps, but does not use, where the setting is off.
OWN_UNUSED: dict[str, tuple[str, str]] = {"EulerNet": ("layer_norm", r"Euler_interaction_layers\.\d+\.norm_[rp]\.")}

# Beginnings of the fixture's weight names -> ours, the first that fits.
RENAMED = [
    (r"embedding_layer\.", "embedding."),
    (r"(fm\.)?lr_layer\.embedding_layer\.", "first_order.embedding."),
    (r"(fm\.)?lr_layer\.bias", "first_order.bias"),
    (r"(mlp|(parallel_|stacked_)?dnn)\.mlp\.", "mlp."),
    (r"mlp1\.mlp\.", "mlps.0."),
    (r"mlp2\.mlp\.", "mlps.1."),
    (r"fs_module\.fs1_gate\.mlp\.", "gates.0.mlp."),
    (r"fs_module\.fs2_gate\.mlp\.", "gates.1.mlp."),
    (r"fs_module\.fs1_ctx_emb\.", "gates.0.embedding."),
    (r"fs_module\.fs2_ctx_emb\.", "gates.1.embedding."),
    (r"fusion_module\.w_xy", "bilinear.weight"),
    (r"fusion_module\.w_x\.", "heads.0."),
    (r"fusion_module\.w_y\.", "heads.1."),
    (r"crossnet\.cross_layers\.", "cross.layers."),
    (r"cross_net\.w\.", "cross.maps."),
    (r"cross_net\.wg\.", "cross.gates."),
    (r"cross_net\.b\.", "cross.biases."),
    (r"cin\.cin_layer\.layer_", "cin.layers."),
    (r"cin\.fc\.", "cin.head."),
    (r"self_attention\.", "attention."),
    (r"fc\.", "head."),
]
ATTENTION = {"W_q": "query", "W_k": "key", "W_v": "value", "W_res": "residual", "layer_norm": "norm"}
# An MLP -> names of its last map, which the fixture counts with the others; the first that the model has.
HEADS = {
    "mlp": ("mlp.head", "head"),
    "mlps.0": ("heads.0",),
    "mlps.1": ("heads.1",),
    "gates.0.mlp": ("gates.0.head",),
    "gates.1.mlp": ("gates.1.head",),
}


def our_settings(case: dict[str, Any]) -> dict[str, Any]:
    """Translate a case's settings; skip the test for an option that is not offered here."""
    config = dict(case["config"])
    settings: dict[str, Any] = {}
    if structure := config.pop("model_structure", None):
        stacked, parallel = config.pop("stacked_dnn_hidden_units"), config.pop("parallel_dnn_hidden_units")
        units = {"parallel": parallel, "stacked": stacked, "crossnet_only": []}
        if structure not in units:
            pytest.skip(f"DCNv2 is not offered with the structure {structure}")
        settings["hidden_units"] = units[structure]
        settings["structure"] = "stacked" if structure == "stacked" else "parallel"
        low_rank = [config.pop(name) for name in ("use_low_rank_mixture", "low_rank", "num_experts")]
        if low_rank[0]:
            pytest.skip("DCNv2 is not offered with a low-rank mixture")
    if case["class_name"] in STRUCTURES:
        settings["structure"] = STRUCTURES[case["class_name"]]
    if "fs1_context" in config:
        settings["contexts"] = [config.pop("fs1_context"), config.pop("fs2_context")]
    for name in ("hidden_activations", "batch_norm"):
        if f"mlp2_{name}" in config and config.pop(f"mlp2_{name}") != config[f"mlp1_{name}"]:
            pytest.skip(f"the two streams have one {name} here")
    names, values = SETTINGS | OWN_SETTINGS.get(case["module"], {}), OWN_VALUES.get(case["module"], {})
    settings |= {names[name]: values.get(str(value), value) for name, value in config.items()}
    if "activation" in MODELS[SYSTEMS[case["module"]]].settings.__dataclass_fields__:
        settings["activation"] = (settings.get("activation") or "none").lower()
        if settings["activation"] not in ACTIVATIONS:
            pytest.skip(f"the activation {settings['activation']} is not offered")
    return settings


def used_weights(case: str) -> dict[str, NDArray[Any]]:
    """Return the case's weights but those that its model does not use."""
    setting, unused = OWN_UNUSED.get(CASES[case]["module"], ("", ""))
    weights = arrays(NAME, f"{case}/w/")
    if CASES[case]["config"].get(setting, True):
        return weights
    return {name: value for name, value in weights.items() if not re.match(unused, name)}


def our_weights(theirs: dict[str, NDArray[Any]], ours: Collection[str], module: str) -> dict[str, Tensor]:
    """Translate names to `ours`; join the fields' tables and norms and count an MLP's maps and norms."""
    renamed = {}
    for name, value in theirs.items():
        patterns = [*OWN_RENAMED.get(module, []), *RENAMED]
        pattern, new = next(((p, o) for p, o in patterns if re.match(p, name)), ("", ""))
        our_name = re.sub(f"^{pattern}", new, name)
        turns = [turn for p, turn in OWN_SHAPES.get(module, []) if re.fullmatch(p, our_name)]
        renamed[our_name] = turns[0](value) if turns else value
    for kind in ("weight", "bias"):
        if fields := [name for name in renamed if re.fullmatch(rf"field_norm\.\d+\.{kind}", name)]:
            norms = {int(name.split(".")[1]): renamed.pop(name) for name in fields}
            renamed[f"field_norm.{kind}"] = np.stack([norms[k] for k in sorted(norms)])
    tables: dict[str, dict[int, NDArray[Any]]] = {}
    weights: dict[str, Tensor] = {}
    for name, value in renamed.items():
        if found := re.match(r"(.*?)\.(?:embedding_layer\.)+embedding_layers\.f(\d+)\.weight", name):
            tables.setdefault(found[1], {})[int(found[2])] = value
        elif found := re.match(r"cin\.layers\.(\d+)\.(.*)", name):
            weights[f"cin.layers.{int(found[1]) - 1}.{found[2]}"] = double(
                value.squeeze(2) if value.ndim == 3 else value
            )
        elif found := re.match(r"(attention\.\d+)\.(\w+)\.(.*)", name):
            weights[f"{found[1]}.{ATTENTION[found[2]]}.{found[3]}"] = double(value)
        elif not name.startswith(tuple(f"{mlp}." for mlp in HEADS)):
            weights[name] = double(value)
    for name, fields in tables.items():
        weights[f"{name}.weight"] = double(np.concatenate([fields[k] for k in sorted(fields)]))
    for mlp in HEADS:
        weights |= mlp_weights(renamed, mlp, ours)
    return weights


def mlp_weights(renamed: dict[str, NDArray[Any]], mlp: str, ours: Collection[str]) -> dict[str, Tensor]:
    """Number maps and norms by themselves: their positions in the fixture count activations and dropouts too."""
    parts = {name.removeprefix(f"{mlp}."): value for name, value in renamed.items() if name.startswith(f"{mlp}.")}
    positions = sorted({int(name.split(".")[0]) for name in parts})
    maps = [p for p in positions if parts[f"{p}.weight"].ndim == 2]
    head = next((name for name in HEADS[mlp] if f"{name}.weight" in ours), "")
    names = {p: f"{mlp}.linears.{k}" for k, p in enumerate(maps)}
    names = {p: name if f"{name}.weight" in ours else head for p, name in names.items()}
    names |= {p: f"{mlp}.norms.{k}" for k, p in enumerate(p for p in positions if p not in maps)}
    return {
        f"{names[int(p)]}.{kind}": double(parts[f"{p}.{kind}"]) for p, kind in (name.split(".", 1) for name in parts)
    }


def model_of(case: str) -> CTRModel:
    """Return our model with the case's weights; skip when the system is not built."""
    values = CASES[case]
    system = SYSTEMS.get(values["module"])
    if system not in MODELS:
        pytest.skip(f"{case}: no system here is {values['class_name']} yet")
    sizes = tuple(values["vocab_sizes"])
    schema = Schema(tuple(Field(f"f{k}") for k in range(len(sizes))), sizes)
    settings = our_settings(values)
    model = build_model(system, schema, embedding_dim=values["embedding_dim"], **settings).double().eval()
    weights = our_weights(used_weights(case), model.state_dict(), values["module"])
    assert model.state_dict().keys() == weights.keys()
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("case", CASES)
def test_golden_probability(case: str) -> None:
    model, values = model_of(case), arrays(NAME, f"{case}/")
    ids = torch.from_numpy(values["ids"]) + torch.tensor(model.schema.offsets)
    assert_close(torch.sigmoid(model(ids)), values["probability"], f"{case} probability")


@pytest.mark.parametrize("case", CASES)
def test_golden_trainable_weights(case: str) -> None:
    unused = sum(v.size for v in arrays(NAME, f"{case}/w/").values()) - sum(v.size for v in used_weights(case).values())
    assert model_of(case).num_parameters == CASES[case]["trainable_parameters"] - unused
