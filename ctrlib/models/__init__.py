"""The registry of models: `build_model(name, schema, **settings)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ctrlib import seeds
from ctrlib.data.schema import Schema
from ctrlib.errors import unknown
from ctrlib.models import (
    autoint,
    cl4ctr,
    dcn,
    deepfm,
    dnn,
    eulernet,
    finalmlp,
    gdcn,
    masknet,
    neuron_network,
    qnn_alpha,
    qnn_hybrids,
    rfm,
    second_network,
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
    "DNN": ModelEntry(dnn.DNNSettings, dnn.build),
    "DeepFM": ModelEntry(deepfm.DeepFMSettings, deepfm.build),
    "DCNv2": ModelEntry(dcn.DCNv2Settings, dcn.build),
    "GDCN": ModelEntry(gdcn.GDCNSettings, gdcn.build),
    "FinalMLP": ModelEntry(finalmlp.FinalMLPSettings, finalmlp.build),
    "DualMLP": ModelEntry(finalmlp.DualMLPSettings, finalmlp.build),
    "xDeepFM": ModelEntry(xdeepfm.XDeepFMSettings, xdeepfm.build),
    "AutoInt": ModelEntry(autoint.AutoIntSettings, autoint.build),
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
    entry = MODELS[name]
    values = checked(entry.settings, name, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.stream_seed(seed, "weights"))
        model = entry.build(name, schema, values)
    model.name = name
    model.embedding.reset(seeds.stream(seed, "embedding"))
    if model.first_order is not None:
        model.first_order.embedding.reset(seeds.stream(seed, "first-order"))
    return model


__all__ = ["MODELS", "CTRModel", "ModelEntry", "ModelSettings", "build_model"]
