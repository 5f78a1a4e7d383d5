"""The cards of the data sets as the page on data shows them: folded, each with an address of its own.

They look like those of the model gallery (`book/assets/gallery.css`), whose script opens a card that an address names.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from ctrlib.data import DATASETS, Card
from ctrlib.data.cards import card_checksums, card_facts, card_text
from ctrlib.figures import Table

ADDRESS = re.compile(r"https://[^\s,;]+")


def data_cards(sets: Mapping[str, Card] = DATASETS) -> Table:
    """Return a folded card for each data set, with all that `ctrlib.data.describe` tells of it."""
    cards = "".join(_card(name, card) for name, card in sets.items())
    text = "\n\n".join(card_text(name, card) for name, card in sets.items())
    return Table(f'<div class="ctr-gallery">{cards}</div>', text)


def anchor(name: str) -> str:
    """Return what the address of a data set's card ends in, after the #."""
    return f"data-{name}"


def _card(name: str, card: Card) -> str:
    sums = "".join(f"<li><code>{file}</code> <code>{value}</code></li>" for file, value in card_checksums(card).items())
    entries = {term: _linked(text) for term, text in card_facts(card).items()} | {"Checksums": f"<ul>{sums}</ul>"}
    listed = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in entries.items())
    head = f'<span role="heading" aria-level="3">{name}</span> <span>{html.escape(card.title)}</span>'
    return (
        f'<details class="ctr-card" id="{anchor(name)}"><summary>{head}</summary>'
        f'<a class="ctr-perma" href="#{anchor(name)}" aria-label="Link to this card" title="Link to this card">#</a>'
        f"<dl>{listed}</dl></details>"
    )


def _linked(text: str) -> str:
    """Return text as HTML in which addresses are links."""
    return ADDRESS.sub(lambda found: f'<a href="{found[0]}">{found[0]}</a>', html.escape(text, quote=False))
