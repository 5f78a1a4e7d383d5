"""Adam with the L2 penalty and the clipping of the protocol, in as few passes over large tables as that allows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BLOCK_VALUES = 1 << 16  # values of one block of a norm: gradient and parameter of a block fit the cache together
CERTAIN = 0.999  # a norm below this share of the limit is below the limit, whatever its rounding


class ClippedAdam:
    r"""One step: $g \leftarrow g + \lambda p$, clip the global norm of all $g$, Adam.

    Written down like this, a large table is read and written four times before Adam sees it. Where the norm is
    certainly below the limit nothing is clipped, and Adam's own pass adds the penalty; the norm itself is read off in
    blocks. Both ways give the same bits. On a GPU the plain way is used: it never waits for a number to arrive.

    decay: for each parameter its $\lambda$. capturable: the step can be part of a CUDA graph, the rate is a tensor.
    """

    def __init__(self, decay: Sequence[tuple[nn.Parameter, float]], rate: float, max_norm: float) -> None:
        self.decay, self.max_norm = list(decay), max_norm
        self.on_gpu = any(p.is_cuda for p, _ in self.decay)
        strengths = sorted({strength for _, strength in self.decay})
        groups = [{"params": [p for p, mine in self.decay if mine == one], "strength": one} for one in strengths]
        start = torch.tensor(rate, device=self.decay[0][0].device) if self.on_gpu else rate
        self.adam = torch.optim.Adam(groups, lr=start, fused=True, capturable=self.on_gpu)
        self.adam._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]  # the first steps are plain

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the steps that follow."""
        for group in self.adam.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.adam.zero_grad()

    def step(self) -> None:
        """Update every parameter from its gradient."""
        if not self.on_gpu and self._norm_bound() < CERTAIN * self.max_norm:
            self._set_weight_decay(folded=True)
        else:
            self._set_weight_decay(folded=False)
            for parameter, strength in self.decay:
                if strength and parameter.grad is not None:
                    parameter.grad.add_(parameter.detach(), alpha=strength)
            nn.utils.clip_grad_norm_([p for p, _ in self.decay], self.max_norm)
        self.adam.step()

    def _set_weight_decay(self, *, folded: bool) -> None:
        for group in self.adam.param_groups:
            group["weight_decay"] = group["strength"] if folded else 0.0

    @torch.no_grad()
    def _norm_bound(self) -> float:
        """Return the global norm of the penalised gradients, up to rounding."""
        square = 0.0
        for parameter, strength in self.decay:
            if parameter.grad is None:
                continue
            g = parameter.grad.reshape(-1)
            if not strength:
                square += float(torch.dot(g, g))
                continue
            p = parameter.reshape(-1)
            for g_block, p_block in zip(g.split(BLOCK_VALUES), p.split(BLOCK_VALUES), strict=True):
                penalised = torch.add(g_block, p_block, alpha=strength)
                square += float(torch.dot(penalised, penalised))
        return float(square**0.5)

    def state_dict(self) -> dict[str, object]:
        """Return what the next step depends on."""
        return self.adam.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go back to a saved state."""
        self.adam.load_state_dict(state)  # type: ignore[arg-type]
        if self.on_gpu:  # a rate that was saved as a number on the host would be frozen into a recorded step
            device = self.decay[0][0].device
            for group in self.adam.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=device)
