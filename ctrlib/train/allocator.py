"""Keep freed memory in the process.

By default the C library hands large freed blocks back to the system, and every step pays for zeroed pages again.
On Linux this raises the size from which it does so.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of the C library's settings
LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; larger values are refused


@cache
def keep_freed_memory() -> bool:
    """Set the thresholds once in this process; return whether the C library took them."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library without the call
        return False
    return bool(set_option(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and set_option(TRIM_THRESHOLD, 2**31 - 1))
