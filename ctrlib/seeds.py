"""Independent random streams of one seed.

A run draws its weights, its embedding table, its batches and its dropout masks from four streams. What one
stream draws never shifts another, so two models with one seed see the same batches in the same order.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for the stream of `seed` that serves `purpose`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *purpose: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator at the start of that stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *purpose))
