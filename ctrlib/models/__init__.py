"""The registry of models: `build_model(name, schema, **settings)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ctrlib import seeds
from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.models import (
    afn,
    autoint,
    cl4ctr,
    dcn,
    deepfm,
    dlrm,
    dnn,
    ecn,
    edcn,
    eulernet,
    fibinet,
    fignn,
    final,
    finalmlp,
    fm,
    gdcn,
    linear,
    masknet,
    neuron_network,
    pnn,
    qnn_alpha,
    qnn_hybrids,
    rfm,
    second_network,
    sfg,
    wide_deep,
    wukong,
    xdeepfm,
)
from ctrlib.models.base import CTRModel, ModelSettings, checked
from ctrlib.neurons import FORMATS


@dataclass(frozen=True)
class ModelEntry:
    """How to build a model: its settings' class and a function of (name, schema, settings)."""

    settings: type[ModelSettings]
    build: Callable[[str, Schema, Any], CTRModel]


MODELS: dict[str, ModelEntry] = {
    name: ModelEntry(neuron_network.NeuronNetworkSettings, neuron_network.build) for name in FORMATS
} | {
    "QNN-alpha": ModelEntry(qnn_alpha.QNNAlphaSettings, qnn_alpha.build),
    "DeepFM-QNN": ModelEntry(qnn_hybrids.HybridSettings, qnn_hybrids.build),
    "xDeepFM-QNN": ModelEntry(qnn_hybrids.XDeepFMQNNSettings, qnn_hybrids.build),
    "DCNv2-QNN": ModelEntry(qnn_hybrids.DCNv2QNNSettings, qnn_hybrids.build),
    "T19-lifted": ModelEntry(second_network.LiftedSettings, second_network.build_lifted),
    "QNN-alpha-ensemble": ModelEntry(second_network.EnsembleSettings, second_network.build_ensemble),
    "LR": ModelEntry(linear.LRSettings, linear.build),
    "FM": ModelEntry(fm.FMSettings, fm.build_fm),
    "FwFM": ModelEntry(fm.FwFMSettings, fm.build_fwfm),
    "FmFM": ModelEntry(fm.FmFMSettings, fm.build_fmfm),
    "AFM": ModelEntry(fm.AFMSettings, fm.build_afm),
    "DNN": ModelEntry(dnn.DNNSettings, dnn.build),
    "Wide&Deep": ModelEntry(wide_deep.WideDeepSettings, wide_deep.build),
    "PNN": ModelEntry(pnn.PNNSettings, pnn.build),
    "DLRM": ModelEntry(dlrm.DLRMSettings, dlrm.build),
    "DeepFM": ModelEntry(deepfm.DeepFMSettings, deepfm.build),
    "DCN": ModelEntry(dcn.DCNSettings, dcn.build_dcn),
    "DCNv2": ModelEntry(dcn.DCNv2Settings, dcn.build),
    "EDCN": ModelEntry(edcn.EDCNSettings, edcn.build),
    "GDCN": ModelEntry(gdcn.GDCNSettings, gdcn.build),
    "FinalMLP": ModelEntry(finalmlp.FinalMLPSettings, finalmlp.build),
    "DualMLP": ModelEntry(finalmlp.DualMLPSettings, finalmlp.build),
    "xDeepFM": ModelEntry(xdeepfm.XDeepFMSettings, xdeepfm.build),
    "AutoInt": ModelEntry(autoint.AutoIntSettings, autoint.build),
    "AFN": ModelEntry(afn.AFNSettings, afn.build),
    "FiBiNET": ModelEntry(fibinet.FiBiNETSettings, fibinet.build),
    "FiGNN": ModelEntry(fignn.FiGNNSettings, fignn.build),
    "FINAL": ModelEntry(final.FINALSettings, final.build),
    "ECN": ModelEntry(ecn.ECNSettings, ecn.build),
    "FCN": ModelEntry(ecn.FCNSettings, ecn.build_fcn),
    "WuKong": ModelEntry(wukong.WuKongSettings, wukong.build),
    "SFG": ModelEntry(sfg.SFGSettings, sfg.build),
    "MaskNet": ModelEntry(masknet.MaskNetSettings, masknet.build),
    "EulerNet": ModelEntry(eulernet.EulerNetSettings, eulernet.build),
    "RFM": ModelEntry(rfm.RFMSettings, rfm.build),
    "CL4CTR": ModelEntry(cl4ctr.CL4CTRSettings, cl4ctr.build),
}


def build_model(name: str, schema: Schema, *, seed: int = 0, **settings: Any) -> CTRModel:
    """Return a fresh model with initial values drawn from `seed`.

    The embedding's values depend on the seed and the table's shape alone, so two models of one seed start from
    the same table. Raises `SettingError` for an unknown model or setting, naming the nearest.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    if not isinstance(schema, Schema):
        raise SettingError(f"schema is a {type(schema).__name__}; give the data set's, as in data.schema.")
    entry = MODELS[name]
    values = checked(entry.settings, name, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.stream_seed(seed, "weights"))
        model = entry.build(name, schema, values)
    model.name = name
    model.reset_tables(seed)
    model.set_pooling()
    return model


def own_entries(names: Iterable[str]) -> dict[str, ModelEntry]:
    """Return those entries of `MODELS` that are not ctrlib's: another process does not have them by itself."""
    entries = {name: MODELS[name] for name in names if name in MODELS}
    return {k: one for k, one in entries.items() if not getattr(one.build, "__module__", "").startswith("ctrlib.")}


__all__ = ["MODELS", "CTRModel", "ModelEntry", "ModelSettings", "build_model", "own_entries"]
