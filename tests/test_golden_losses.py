"""The authors' self-ensemble loss on the logits of two passes."""

from __future__ import annotations

import torch
from golden_files import arrays, assert_close, cases, double

from ctrlib.losses import self_ensemble_loss

SETTINGS = cases("se_loss")["se_loss"]
VALUES = arrays("se_loss")


def test_golden_loss_and_gradients() -> None:
    passes = range(1, SETTINGS["passes"] + 1)
    logits = [double(VALUES[f"logit{k}"]).flatten().requires_grad_() for k in passes]
    loss = self_ensemble_loss(torch.stack(logits), double(VALUES["label"]).flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    assert_close(loss.reshape(VALUES["loss"].shape), VALUES["loss"], "loss")
    for k, logit in zip(passes, logits, strict=True):
        assert logit.grad is not None
        reference = VALUES[f"grad{k}"]
        assert_close(logit.grad.reshape(reference.shape), reference, f"grad{k}")
