"""Where the files of a data set are: the person's folder, then the cache, then the official source.

Every file is checked against the checksum on the card before it is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ctrlib.data.cards import Card
from ctrlib.data.download import locked, matches
from ctrlib.errors import DataError
from ctrlib.paths import cache_dir


def local_files(name: str, cards: Mapping[str, Card]) -> dict[str, Path] | None:
    """Return the verified files of `$CTRLIB_DATA/name`, or None when there is no such folder.

    A folder that lacks a file or holds another content is an error: it must not be passed over in silence.
    """
    if not (root := os.environ.get("CTRLIB_DATA")) or not (folder := Path(root) / name).is_dir():
        return None
    files = {file: folder / file for file in cards[name].checksums}
    if absent := [file for file, path in files.items() if not path.is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(absent)}. Add the file, or move the folder away to use the official source."
        )
    for file, path in files.items():
        if not matches(path, cards[name].checksums[file]):
            raise DataError(
                f"{path} is not the file of '{name}': its checksum is not "
                f"{cards[name].checksums[file]}. {_what_else(path, cards)}"
            )
    return files


def cached_or_fetched_files(name: str, card: Card) -> dict[str, Path]:
    """Return the verified files of the cache, fetched from the source when absent or damaged."""
    folder = cache_dir() / "raw" / name
    files = {file: folder / file for file in card.checksums}
    if _whole(files, card):
        return files
    by_hand = (
        f"put {', '.join(files)} into a folder named '{name}' and set CTRLIB_DATA to the folder above it "
        f"(now: {os.environ.get('CTRLIB_DATA') or 'not set'})."
    )
    if card.origin is None:
        raise DataError(f"'{name}' is not at hand and has no source to fetch it from: {by_hand}")
    try:
        with locked(folder / "lock"):
            if not _whole(files, card):  # else another process fetched them while this one waited
                card.origin.fetch(card.checksums, folder)
    except (DataError, OSError) as error:
        raise DataError(f"'{name}' could not be fetched. {error} Or {by_hand}") from error
    return files


def _whole(files: Mapping[str, Path], card: Card) -> bool:
    return all(path.is_file() and matches(path, card.checksums[file]) for file, path in files.items())


def _what_else(path: Path, cards: Mapping[str, Card]) -> str:
    """Say which data set a file of this name and content belongs to, if any."""
    for name, card in cards.items():
        if (expected := card.checksums.get(path.name)) and matches(path, expected):
            return f"It is the file of '{name}': put it into a folder of that name and load '{name}'."
    return (
        "It is damaged or another version: fetch it again. Data of your own, or changed data, can be loaded "
        "with load_table under a name of your own."
    )
