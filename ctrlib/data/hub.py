"""What the prepared CSV files of the open benchmark have in common."""

from __future__ import annotations

from ctrlib.data.dataset import SPLITS
from ctrlib.data.origins import Archive

HUB = "https://huggingface.co/datasets/reczoo"
SPLIT_FILES = {split: f"{split}.csv" for split in SPLITS}
LICENCE = "none stated with the prepared files; the source page has its own terms, so agree to those first"
UNSEEN = "The published files themselves have not been met: their rows are checked by the checksums."


def archive(name: str) -> Archive:
    """Return where the zip file of a prepared data set lies."""
    return Archive(f"{HUB}/{name}/resolve/main/{name}.zip")


def page(name: str) -> str:
    """Return the words that name the page of a prepared data set."""
    return f"hub page {HUB}/{name}"


def access(name: str) -> str:
    """Return how to get the files of a prepared data set by hand."""
    return f"They are in {name}.zip on the {page(name)}, which load_dataset fetches without an account."
