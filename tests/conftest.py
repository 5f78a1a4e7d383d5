"""Shared fixtures: one thread, a tiny data set, folders of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctrlib.data import CTRDataset, Field, Schema, Split

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the checkout's records or cache."""
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("CTRLIB_CACHE", str(tmp_path / "cache"))


def random_split(rows: int, schema: Schema, generator: torch.Generator) -> Split:
    """Ids drawn uniformly without padding; the label depends on the first two fields."""
    columns = [
        torch.randint(1, size, (rows,), generator=generator) + offset
        for size, offset in zip(schema.vocab_sizes, schema.offsets, strict=True)
    ]
    ids = torch.stack(columns, dim=1).to(torch.int32)
    noise = torch.rand(rows, generator=generator)
    labels = ((ids[:, 0] + ids[:, 1]) % 2 == 0).float() * (noise < 0.8).float()
    return Split(ids, labels)


@pytest.fixture
def tiny() -> CTRDataset:
    """Three fields, 600 training rows: a run takes well under a second."""
    generator = torch.Generator().manual_seed(0)
    schema = Schema((Field("a"), Field("b"), Field("c")), (7, 9, 5))
    splits = {
        name: random_split(rows, schema, generator) for name, rows in (("train", 600), ("valid", 200), ("test", 200))
    }
    return CTRDataset("tiny", schema, splits["train"], splits["valid"], splits["test"], "0" * 16, {})
