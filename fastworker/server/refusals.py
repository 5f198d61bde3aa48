"""Proofs that do not fit: all answered alike, and late once they come fast from one address.

Only failures are counted and only failures wait: who has the token is let in at once, whatever
others at the same address try.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from ipaddress import IPv6Address, ip_address
from typing import Final

import trio

ANSWER_SECONDS: Final = 0.05
"""From a wrong proof to its answer, whatever was wrong: far longer than finding that out takes."""

FAST_FAILURES: Final = 10
WINDOW_SECONDS: Final = 1.0
"""So many failures from one address within this time are fast."""

LATE_SECONDS: Final = 2.0
"""From a wrong proof to its answer while failures come fast."""

MAX_WAITING: Final = 200
MAX_WAITING_PER_ADDRESS: Final = 10
"""Failures that wait for their late answer, in all and of one address; others get none."""

MAX_ADDRESSES: Final = 10_000
"""Remembered; the one that failed longest ago is forgotten first."""

_NETWORK_BITS: Final = 64
"""One holder of IPv6 addresses has this many bits of them to choose from."""


class Refusals:
    """The failures of one control plane."""

    def __init__(self) -> None:
        self._failed_at: OrderedDict[str, deque[float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def wait_turn(self, host: str | None) -> bool:
        """Wait until a failed proof from a host may be answered; False: it gets no answer."""
        origin = _origin(host)
        if not self._note(origin):
            await trio.sleep(ANSWER_SECONDS)
            return True
        if self._waiting.total() >= MAX_WAITING or self._waiting[origin] >= MAX_WAITING_PER_ADDRESS:
            return False
        self._waiting[origin] += 1
        try:
            await trio.sleep(LATE_SECONDS)
        finally:
            self._waiting[origin] -= 1
            if not self._waiting[origin]:
                del self._waiting[origin]
        return True

    def _note(self, origin: str) -> bool:
        """Count a failure; returns whether they come fast."""
        now = trio.current_time()
        times = self._failed_at.setdefault(origin, deque(maxlen=FAST_FAILURES))
        self._failed_at.move_to_end(origin)
        if len(self._failed_at) > MAX_ADDRESSES:
            self._failed_at.popitem(last=False)
        fast = len(times) == FAST_FAILURES and now - times[0] <= WINDOW_SECONDS
        times.append(now)
        return fast


def _origin(host: str | None) -> str:
    """What counts as one address."""
    if host is None:
        return ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address) or address.ipv4_mapped is not None:
        return host
    return str(int(address) >> (128 - _NETWORK_BITS))
