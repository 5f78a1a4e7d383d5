"""Keep freed memory in the process.

By default the C library maps large blocks one by one and hands them back when they are freed, so that every step pays
for zeroed pages again. On Linux this has all blocks come from the process's own heap, which keeps what is freed.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of the C library's settings
NEVER_TRIM = 2**31 - 1  # bytes


@cache
def keep_freed_memory() -> bool:
    """Map no block by itself and never trim the heap, from here on in this process; return whether that was taken."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library without the call
        return False
    return bool(set_option(MMAP_MAX, 0) and set_option(TRIM_THRESHOLD, NEVER_TRIM))
