"""How many files this process may have open: raised as far as it may, for connections."""

from __future__ import annotations

import sys

from fastworker.server.limits import RESERVED_DESCRIPTORS


def raise_descriptor_limit(connections: int) -> None:
    """Allow this process the files that so many connections need, as far as its hard limit goes.

    Runners that it starts inherit the limit; closing what they inherit does not depend on it.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_possible(wanted: int) -> int:
    """How many of the connections that are wanted this process has descriptors for."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    # With few descriptors half of them: a small machine has few runners, too.
    return min(wanted, max(soft - RESERVED_DESCRIPTORS, soft // 2))
