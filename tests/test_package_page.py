"""The page on the package: it names what the package exports, and says what the docstrings say."""

from __future__ import annotations

import inspect

import pytest

import ctrlib
from ctrlib.errors import SettingError
from ctrlib.views.package_page import SECTIONS, Package, prose, signature

ON_OTHER_PAGES = {"MODELS", "FORMATS", "DSMLP", "ECKD"}  # told in the page's prose, or on the gallery's cards


def test_every_exported_name_has_an_entry() -> None:
    told = {thing.__name__ for things in SECTIONS.values() for thing in things}
    assert set(ctrlib.__all__) - ON_OTHER_PAGES <= told


@pytest.mark.parametrize("section", SECTIONS)
def test_entries_say_what_the_docstrings_say(section: str) -> None:
    text = Package().section(section).data
    assert " at 0x" not in text and "<class" not in text
    for thing in SECTIONS[section]:
        first = inspect.cleandoc(thing.__doc__).splitlines()[0]
        assert f"**`{thing.__name__}`**" in text and prose(first) in text
        assert not inspect.isclass(thing) or "(self" not in signature(thing)


def test_signatures_are_those_of_python() -> None:
    def small(a: int, *, b: str = "x", **rest: float) -> str:
        return b

    assert signature(small) == "small(a: int, *, b: str = 'x', **rest: float) -> str"
    assert signature(ctrlib.fit).startswith("fit(\n    model: CTRModel,\n    data: CTRDataset,\n")
    assert (
        signature(ctrlib.Protocol.named) == "named(preset: str, dataset: str | None = None, **changes: Any) -> Protocol"
    )


def test_stars_and_brackets_of_a_docstring_stay() -> None:
    assert prose("(*, d) of `x_1` in [0, 1) with $a_b$") == r"(\*, d) of `x_1` in \[0, 1) with $a_b$"


def test_a_column_of_settings_becomes_a_list() -> None:
    text = Package().section("data").data
    assert "\n- `label`: column of 0 and 1.\n- `fields`: columns to learn from" in text


def test_links_lead_to_the_code_where_the_address_is_known() -> None:
    text = Package({"address": "https://example.org/x", "branch": "main"}).section("training").data
    assert "[code](https://example.org/x/blob/main/ctrlib/train/fit.py#L" in text
    assert "[code]" not in Package().section("training").data


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(SettingError, match="data"):
        Package().section("dat")
