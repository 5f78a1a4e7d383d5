"""plotly.js for the pages: the library of the package plotly, started with only the kinds of traces that they draw.

It would start some fifty kinds, three-dimensional ones and maps among them, before it draws the first figure, and that
takes longer than to draw one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CORE = "scatter"  # is always there
LIST = re.compile(r"\.register\(\[((?:\w+\(\),?)+)\]\)")  # the library's end starts all traces
HANDED = re.compile(r'=(\w+)\(\(\w+,\w+\)=>\{"use strict";\w+\.exports=(\w+)\(\)\}\)')
TRACE = re.compile(r'moduleType:"trace",name:"(\w+)"')


def script(kinds: Iterable[str]) -> str:
    """Return plotly.js for traces of those kinds and `scatter`, such as "bar" and "heatmap".

    A library of another form than ours, or one without such a kind, is returned whole: it draws all kinds, later.
    """
    from plotly.offline import get_plotlyjs

    return only(get_plotlyjs(), kinds)


def only(library: str, kinds: Iterable[str]) -> str:
    """Return a library that starts no other kinds of traces; the library as it is where they are not all found."""
    lists = LIST.findall(library)
    if len(lists) != 1:
        return library
    parts = lists[0].split(",")
    found = {kind: part for part in parts if (kind := _kind(library, part.removesuffix("()")))}
    wanted = sorted(set(kinds) - {CORE})
    if not found.keys() >= set(wanted):
        return library
    return library.replace(lists[0], ",".join(found[kind] for kind in wanted))


def _kind(library: str, part: str) -> str | None:
    """Return the kind of trace that a part of the library exports, None for what is no trace.

    A part wraps its code, and that of a trace only hands on another: `A=W((t,e)=>{"use strict";e.exports=B()})`.
    """
    handed = HANDED.match(library, library.find(f" {part}=") + 1 + len(part))
    if not handed:
        return None
    wrap, other = handed.groups()
    start = library.find(f" {other}={wrap}((")
    trace = TRACE.search(library, start, library.find(f"={wrap}((", start + len(other) + 3))
    return trace[1] if trace else None
