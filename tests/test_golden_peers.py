"""The baselines against small models of public code: probabilities and numbers of trainable weights.

Fixtures hold one table for each field; here they are the rows of one table.
"""

from __future__ import annotations

import dataclasses
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
SYSTEMS |= {name: name for name in ("LR", "FM", "FwFM", "FmFM", "AFM", "PNN", "DLRM")} | {"WideDeep": "Wide&Deep"}
SYSTEMS |= {name: name for name in ("DCN", "EDCN", "AFN", "FiBiNET", "FiGNN", "ECN", "WuKong", "MaskNet", "EulerNet")}
SYSTEMS |= {"FinalNet": "FINAL", "DCNv3": "FCN"}
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

# The same for names that hold for one module only.
OWN_SETTINGS: dict[str, dict[str, str]] = {
    "FwFM": {"linear_type": "linear"},
    "FmFM": {"field_interaction_type": "form"},
    "PNN": {"product_type": "product"},
    "DLRM": {
        "top_mlp_units": "hidden_units",
        "top_mlp_activations": "activation",
        "top_mlp_dropout": "dropout",
        "interaction_op": "interaction",
    },
    "EDCN": {"bridge_type": "bridge", "temperature": "temperature"},
    "AFN": {
        "afn_hidden_units": "neuron_units",
        "afn_dropout": "neuron_dropout",
        "dnn_dropout": "dropout",
        "logarithmic_neurons": "neurons",
    },
    "FiBiNET": {"bilinear_type": "maps", "reduction_ratio": "reduction", "excitation_activation": "excitation"},
    "FiGNN": {
        "gnn_layers": "graph_layers",
        "use_gru": "gru",
        "reuse_graph_layer": "shared_layer",
    },
    "FinalNet": {
        "block1_hidden_units": "hidden_units",
        "block1_hidden_activations": "activation",
        "block1_dropout": "dropout",
        "block2_hidden_units": "second_units",
        "block2_dropout": "second_dropout",
        "use_feature_gating": "gate",
        "residual_type": "join",
    },
    "DCNv3": {
        "num_deep_cross_layers": "cross_layers",
        "num_shallow_cross_layers": "linear_layers",
        "deep_net_dropout": "dropout",
        "shallow_net_dropout": "linear_dropout",
    },
    "WuKong": {
        "num_wukong_layers": "layers",
        "lcb_features": "lcb_rows",
        "fmb_features": "fmb_rows",
        "fmb_mlp_units": "fmb_units",
        "fmp_rank_k": "rank",
        "mlp_hidden_units": "hidden_units",
        "mlp_hidden_activations": "activation",
        "mlp_batch_norm": "batch_norm",
    },
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
# Values of a setting that have another name here.
VALUES = {
    "hadamard_product": "product",
    "pointwise_addition": "sum",
    "attention_pooling": "attention",
    "field_all": "all",
    "field_each": "each",
    "field_interaction": "interaction",
    "ParallelMaskNet": "parallel",
    "SerialMaskNet": "serial",
}
# A setting that the fixture has twice and we once -> the other of the two.
SAME = {
    "mlp2_hidden_activations": "mlp1_hidden_activations",
    "mlp2_batch_norm": "mlp1_batch_norm",
    "block2_hidden_activations": "block1_hidden_activations",
    "fmb_mlp_activations": "mlp_hidden_activations",
}

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


def masked_names(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Names of a cross network with a self-mask."""
    parts = {"w": "maps", "b": "biases", "layer_norm": "norms", "batch_norm": "head_norms", "[ds]?fc": "head"}
    return [(rf"{theirs}\.{part}\.", f"{ours}.{new}.") for part, new in parts.items()]


# The same for names that hold for one module only; they come first.
OWN_RENAMED: dict[str, list[tuple[str, str]]] = {
    "FwFM": [
        (r"interaction_weight\.weight", "pairs.weight"),
        (r"interaction_weight\.bias", "bias"),
        (r"linear_weight_layer\.weight", "field_vectors.weight"),
    ],
    "FmFM": [(r"interaction_weight", "pairs.weight")],
    "AFM": [
        (r"attention\.0\.", "attention.hidden."),
        (r"attention\.2\.", "attention.score."),
        (r"weight_p\.", "head."),
    ],
    "DLRM": [(r"top_mlp\.mlp\.", "mlp.")],
    "DCN": [
        (r"crossnet\.cross_net\.(\d+)\.weight\.", r"cross.maps.\1."),
        (r"crossnet\.cross_net\.(\d+)\.bias", r"cross.biases.\1"),
    ],
    "EDCN": [
        (r"cross_layers\.(\d+)\.weight\.", r"maps.\1."),
        (r"cross_layers\.(\d+)\.bias", r"biases.\1"),
        (r"dense_layers\.(\d+)\.mlp\.0\.", r"deep.\1.linears.0."),
        (r"regulation_modules\.(\d+)\.bn1\.", r"regulations.\1.norms.0."),
        (r"regulation_modules\.(\d+)\.bn2\.", r"regulations.\1.norms.1."),
        (r"regulation_modules\.(\d+)\.g1", r"regulations.\1.cross_gate"),
        (r"regulation_modules\.(\d+)\.g2", r"regulations.\1.deep_gate"),
        (r"bridge_modules\.(\d+)\.concat_pooling\.0\.", r"bridges.\1.linear."),
        (r"bridge_modules\.(\d+)\.attention1\.0\.", r"bridges.\1.hidden."),
        (r"bridge_modules\.(\d+)\.attention1\.2\.", r"bridges.\1.out."),
    ],
    "AFN": [
        (r"embedding_layer2\.", "second_embedding."),
        (r"coefficient_W\.", "neurons.linear."),
        (r"log_batch_norm\.", "neurons.log_norm."),
        (r"exp_batch_norm\.", "neurons.norm."),
        (r"dense_layer\.mlp\.", "neuron_mlp."),
        (r"fc\.", "mix."),
    ],
    "FiBiNET": [
        (r"senet_layer\.excitation\.0\.", "senet.squeeze."),
        (r"senet_layer\.excitation\.2\.", "senet.excite."),
        (r"bilinear_interaction1\.bilinear_W", "pairs.weight"),
        (r"bilinear_interaction2\.bilinear_W", "weighed_pairs.weight"),
    ],
    "FiGNN": [
        (r"fignn\.gnn\.(\d+)\.W_in", r"layers.\1.incoming"),
        (r"fignn\.gnn\.(\d+)\.W_out", r"layers.\1.outgoing"),
        (r"fignn\.gnn\.(\d+)\.bias_p", r"layers.\1.bias"),
        (r"fignn\.gnn\.W_in", "layers.0.incoming"),  # one layer for all
        (r"fignn\.gnn\.W_out", "layers.0.outgoing"),
        (r"fignn\.gnn\.bias_p", "layers.0.bias"),
        (r"fignn\.gru\.", "gru."),
        (r"fignn\.W_attn\.", "edges.linear."),
        (r"fc\.mlp1\.", "score."),
        (r"fc\.mlp2\.0\.", "attention."),
    ],
    "FinalNet": [
        (r"feature_gating\.linear\.", "gate."),
        (r"block1\.layer\.", "blocks.0.linears."),
        (r"block2\.layer\.", "blocks.1.linears."),
        (r"block1\.norm\.", "blocks.0.norms."),
        (r"block2\.norm\.", "blocks.1.norms."),
        (r"fc1\.", "blocks.0.head."),
        (r"fc2\.", "blocks.1.head."),
    ],
    "ECN": masked_names("ECN", "cross"),
    "DCNv3": masked_names("ECN", "exponential") + masked_names("LCN", "linear"),
    "WuKong": [
        (r"wukong_stack\.(\d+)\.fmb\.mlp\.mlp\.", r"layers.\1.mlp."),
        (r"wukong_stack\.(\d+)\.fmb\.proj_Y", r"layers.\1.projection"),
        (r"wukong_stack\.(\d+)\.fmb\.layer_norm\.", r"layers.\1.product_norm."),
        (r"wukong_stack\.(\d+)\.lcb\.linear\.", r"layers.\1.compress."),
        (r"wukong_stack\.(\d+)\.layer_norm\.", r"layers.\1.norm."),
        (r"wukong_stack\.(\d+)\.residual_proj\.", r"layers.\1.residual."),
        (r"fc\.mlp\.", "mlp."),
    ],
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
# A table -> names of it here, the first that the model has.
TABLES = {"linear_weight_layer": ("first_order.embedding", "feature_embedding")}
# Weights of the public code that reach no output; ours do not have them.
UNUSED: dict[str, str] = {
    "EDCN": r"bridge_modules\.\d+\.attention2\.",
    "FiBiNET": r".*\.triu_index",
    **dict.fromkeys(("FM", "FwFM", "AFM", "PNN", "DLRM"), r".*\.triu_(mask|index)"),
}
# Our names of weights that have another shape here -> how to turn the fixture's.
OWN_SHAPES: dict[str, list[tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]]] = {
    "EulerNet": [
        (r"modulus", lambda mu: mu[0]),  # (1, F, 1)
        (r"layers\.\d+\.orders", np.transpose),
        (r"layers\.\d+\.(log_modulus|angle)", lambda bias: bias[0].T),  # (1, D, m)
    ],
    "FwFM": [(r"pairs\.weight", lambda row: row[0])],  # a map to one number
}
# The fixture's setting and names of weights that its model keeps, but does not use, where the setting is off.
UNUSED_WITHOUT: dict[str, tuple[str, str]] = {"EulerNet": ("layer_norm", r"Euler_interaction_layers\.\d+\.norm_[rp]\.")}
ATTENTION = {"W_q": "query", "W_k": "key", "W_v": "value", "W_res": "residual", "layer_norm": "norm"}
# An MLP -> names of its last map, which the fixture counts with the others; the first that the model has.
HEADS = {
    "mlp": ("mlp.head", "head"),
    "mlps.0": ("heads.0",),
    "mlps.1": ("heads.1",),
    "gates.0.mlp": ("gates.0.head",),
    "gates.1.mlp": ("gates.1.head",),
    "neuron_mlp": ("neuron_mlp.head",),
}


def our_settings(case: dict[str, Any]) -> dict[str, Any]:
    """Translate a case's settings; skip the test for an option that is not offered here."""
    config, module = dict(case["config"]), case["module"]
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
    if "block_type" in config:
        settings["blocks"] = int(config.pop("block_type").removesuffix("B"))
        if settings["blocks"] == 1:  # what the second would be like does not matter
            config = {name: value for name, value in config.items() if not name.startswith("block2_")}
    if module == "DLRM":  # without numeric fields it has no bottom MLP
        config = {name: value for name, value in config.items() if not name.startswith("bottom_mlp_")}
    if "attention_dropout" in config:
        settings["dropout"], settings["pooled_dropout"] = config.pop("attention_dropout")
    if not config.pop("use_attention", True):
        pytest.skip("AFM is not offered without attention, which is FM")
    if "fmp_rank_k" in config and config["fmp_rank_k"] is None:
        pytest.skip("WuKong is not offered with all inner products")
    if module == "AFN":
        one_activation(config)
    for name, other in SAME.items():
        if name in config and config.pop(name) != config[other]:
            pytest.skip(f"{name} and {other} are one setting here")
    names = SETTINGS | OWN_SETTINGS.get(module, {})
    settings |= {names[name]: VALUES.get(str(value), value) for name, value in config.items()}
    known = [field.name for field in dataclasses.fields(MODELS[SYSTEMS[module]].settings)]
    for name in {"activation", "excitation"}.intersection(known):
        settings[name] = (settings.get(name) or "none").lower()
        if settings[name] not in ACTIVATIONS:
            pytest.skip(f"the activation {settings[name]} is not offered")
    return settings


def one_activation(config: dict[str, Any]) -> None:
    """Leave AFN's two MLPs one activation, and AFN without the ensemble no hidden units of the other."""
    ensemble, activation = config.pop("ensemble_dnn"), config.pop("afn_activations")
    if not ensemble:
        config |= {"dnn_hidden_units": [], "dnn_activations": activation}
    elif not config["dnn_hidden_units"] or config["dnn_activations"] != activation:
        pytest.skip("AFN's ensemble has an MLP with hidden units here, and one activation in both MLPs")


def used_weights(case: str) -> dict[str, NDArray[Any]]:
    """Return the case's weights but those that reach no output in the public code."""
    module, config = CASES[case]["module"], CASES[case]["config"]
    setting, others = UNUSED_WITHOUT.get(module, ("", "$"))
    patterns = [UNUSED.get(module, "$"), "$" if config.get(setting, True) else others]
    weights = arrays(NAME, f"{case}/w/")
    return {name: w for name, w in weights.items() if not any(re.match(pattern, name) for pattern in patterns)}


def our_weights(module: str, theirs: dict[str, NDArray[Any]], ours: Collection[str]) -> dict[str, Tensor]:
    """Translate a module's names to `ours`; join the fields' tables and count an MLP's maps and norms."""
    rules = OWN_RENAMED.get(module, []) + RENAMED
    renamed = {}
    for name, value in theirs.items():
        pattern, new = next(((p, o) for p, o in rules if re.match(p, name)), ("", ""))
        our_name = re.sub(f"^{pattern}", new, name)
        turns = [turn for p, turn in OWN_SHAPES.get(module, []) if re.fullmatch(p, our_name)]
        renamed[our_name] = turns[0](value) if turns else value
    for kind in ("weight", "bias"):
        if fields := [name for name in renamed if re.fullmatch(rf"field_norm\.\d+\.{kind}", name)]:
            norms = {int(name.split(".")[1]): renamed.pop(name) for name in fields}
            renamed[f"field_norm.{kind}"] = np.stack([norms[k] for k in sorted(norms)])
    in_layers = {found[1] for name in renamed if (found := re.match(r"(layers\.\d+\.mlp)\.", name))}
    heads = HEADS | {mlp: (mlp.removesuffix("mlp") + "head",) for mlp in in_layers}
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
        elif not name.startswith(tuple(f"{mlp}." for mlp in heads)):
            weights[name] = double(value)
    for table, fields in tables.items():
        name = next((n for n in TABLES.get(table, ()) if f"{n}.weight" in ours), table)
        weights[f"{name}.weight"] = double(np.concatenate([fields[k] for k in sorted(fields)]))
    for mlp in heads:
        weights |= mlp_weights(renamed, mlp, heads[mlp], ours)
    if module == "AFN":  # columns by entry here, by neuron there
        first = next(name for name in ("neuron_mlp.linears.0.weight", "neuron_mlp.head.weight") if name in weights)
        neurons = len(weights["neurons.linear.weight"])
        weights[first] = weights[first].unflatten(1, (neurons, -1)).transpose(1, 2).flatten(1)
    return weights


def mlp_weights(
    renamed: dict[str, NDArray[Any]], mlp: str, heads: tuple[str, ...], ours: Collection[str]
) -> dict[str, Tensor]:
    """Number maps and norms by themselves: their positions in the fixture count activations and dropouts too."""
    parts = {name.removeprefix(f"{mlp}."): value for name, value in renamed.items() if name.startswith(f"{mlp}.")}
    positions = sorted({int(name.split(".")[0]) for name in parts})
    maps = [p for p in positions if parts[f"{p}.weight"].ndim == 2]
    head = next((name for name in heads if f"{name}.weight" in ours), "")
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
    weights = our_weights(values["module"], used_weights(case), model.state_dict())
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
    used = used_weights(case)
    floats = {name: w.size for name, w in arrays(NAME, f"{case}/w/").items() if w.dtype.kind == "f"}
    unused = sum(size for name, size in floats.items() if name not in used)
    assert model_of(case).num_parameters == CASES[case]["trainable_parameters"] - unused
