"""What a chapter shows as it runs: its plan, the data sets at hand, its figures with the claims they bear on."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ctrlib.data import load_dataset
from ctrlib.errors import DataError, unknown
from ctrlib.lab.claims import load_claims, load_untestable
from ctrlib.paths import root

STAND_INS = {"frappe_x1-rebuilt": ("frappe_x1",)}  # a data set -> those that take its place where it is not at hand


def plan(profile: str, plans: Mapping[str, dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    """Return a chapter's plan for a profile, after showing it with the other parameters.

    Raises `SettingError` for an unknown profile.
    """
    if profile not in plans:
        raise unknown("profile", profile, plans)
    chosen = plans[profile]
    table = pd.Series({"profile": profile, **parameters, **chosen}).map(str).rename("effective parameters").to_frame()
    display(table)
    return chosen


def at_hand(names: Iterable[str]) -> list[str]:
    """Return those of `names` that can be loaded here, and print which are skipped and how to get them.

    For the rebuilt Frappe, which cannot be downloaded, the published one stands in. Raises `DataError` where nothing is
    left.
    """
    found: list[str] = []
    for name in names:
        for choice in [name, *STAND_INS.get(name, ())]:
            try:
                load_dataset(choice)
            except DataError as error:
                print(f"Skipped {choice}: {error}", flush=True)
                last = error
                continue
            if choice != name:
                print(f"{choice} stands in for {name}.", flush=True)
            found.append(choice)
            break
    if not found:
        raise last
    return found


def waiting(recorded: Sequence[str], shown: Sequence[str]) -> None:
    """Say on which data sets too little is recorded to show a comparison."""
    if missing := [name for name in recorded if name not in shown]:
        say(f"On {', '.join(missing)} too few runs are recorded to compare yet.")


def show(figure: Any, caption: str, claim: str = "") -> None:
    """Show a figure and, below it, what to see in it and, where one is named by its id, the claim that it bears on."""
    figure.show()
    say(f"*{caption}*" + (f" Claim: {claim_link(claim)}." if claim else ""))


def claim_link(name: str) -> str:
    """Return the sentence of a claim as a link to its place on the page of claims, as Markdown takes it.

    The claim can be one that is not testable. Without that page it is the sentence alone. Raises `SettingError` for an
    unknown claim.
    """
    sentences = {claim.id: claim.sentence for claim in load_claims()}
    sentences |= {statement.id: statement.sentence for statement in load_untestable()}
    if name not in sentences:
        raise unknown("claim", name, sentences)
    words = html.escape(sentences[name].rstrip("."))
    if not (root() / "book" / "claims.md").exists():
        return words
    return f'<a href="../book/claims.md#claim-{name}">{words}</a>'  # ctrlib.book.pages makes it .html


def display(thing: Any) -> None:
    """Show a thing as the notebook at work does."""
    from IPython import display as notebook

    notebook.display(thing)  # type: ignore[no-untyped-call]


def say(text: str) -> None:
    """Show a text that is Markdown."""
    from IPython.display import Markdown

    display(Markdown(text))  # type: ignore[no-untyped-call]
