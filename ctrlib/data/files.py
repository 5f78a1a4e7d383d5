"""Where the files of a data set are: the person's folder, then the cache, then the official source.

Every file is checked against the checksum on the card, where there is one, before it is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ctrlib.data.cards import Card
from ctrlib.data.download import checksum_of, locked, matches
from ctrlib.errors import DataError
from ctrlib.paths import cache_dir


def local_files(name: str, cards: Mapping[str, Card]) -> dict[str, Path] | None:
    """Return the verified files of `$CTRLIB_DATA/name`, or None when there is no such folder.

    A folder that lacks a file or holds another content is an error: it must not be passed over in silence.
    """
    folder_name = cards[name].folder or name
    if not (root := os.environ.get("CTRLIB_DATA")) or not (folder := Path(root) / folder_name).is_dir():
        return None
    checksums = cards[name].checksums
    files = {file: folder / file for file in checksums}
    if absent := [file for file, path in files.items() if not path.is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(absent)}. Add the file, or move the folder away to use the official source."
        )
    for file, path in files.items():
        expected = checksums[file]
        if expected and not matches(path, expected):
            raise DataError(
                f"{path} is not the file of '{name}': its checksum is not {expected}. {_what_else(path, cards)}"
            )
    return files


def cached_or_fetched_files(name: str, card: Card) -> dict[str, Path]:
    """Return the verified files of the cache, fetched from the source when absent or damaged."""
    folder_name = card.folder or name
    folder = cache_dir() / "raw" / folder_name
    files = {file: folder / file for file in card.checksums}
    if _whole(files, card):
        return files
    by_hand = (
        f"put {', '.join(files)} into a folder named '{folder_name}' and set CTRLIB_DATA to the folder above it "
        f"(now: {os.environ.get('CTRLIB_DATA') or 'not set'}).{' ' + card.access if card.access else ''}"
    )
    if card.origin is None:
        raise DataError(f"'{name}' is not at hand and has no source to fetch it from: {by_hand}")
    try:
        with locked(folder / "lock"):
            if not _whole(files, card):  # else another process fetched them while this one waited
                card.origin.fetch(_known(card), folder)
    except (DataError, OSError) as error:
        raise DataError(f"'{name}' could not be fetched. {error} Or {by_hand}") from error
    return files


def _whole(files: Mapping[str, Path], card: Card) -> bool:
    known = _known(card)
    return all(path.is_file() and (file not in known or matches(path, known[file])) for file, path in files.items())


def sums_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return file name -> "sha256:HEX" of the files as they are, for those whose checksum nobody has published."""
    return {file: f"sha256:{checksum_of(path, 'sha256')}" for file, path in files.items()}


def _known(card: Card) -> dict[str, str]:
    return {file: value for file, value in card.checksums.items() if value}


def _what_else(path: Path, cards: Mapping[str, Card]) -> str:
    """Say which data set a file of this name and content belongs to, if any."""
    for name, card in cards.items():
        if (expected := card.checksums.get(path.name)) and matches(path, expected):
            return f"It is the file of '{name}': put it into a folder of that name and load '{name}'."
    return (
        "It is damaged or another version: fetch it again. Data of your own, or changed data, can be loaded "
        "with load_table under a name of your own."
    )
