"""Memory that a process frees, kept by it: what large feature maps cost beside their arithmetic."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have malloc reuse large blocks instead of giving them back to the system; whether it does.

    By default glibc hands every block above 32 MiB back when it is freed, and the next one like it is made of pages
    that the system fills with zeros one by one. A network's maps are such blocks: `effconv bench allocation` shows what
    that costs. Of other C libraries nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(key, LARGEST_INT) for key in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
