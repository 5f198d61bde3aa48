"""Connections that are reset at any byte, in the middle of frames and handshakes."""

from __future__ import annotations

import pytest

from tests.survival.chaos import Site
from tests.survival.proxy import Proxy

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_connections_cut_under_load(site: Site) -> None:
    # Leases are longer than the test: losing a connection starts nothing twice.
    with Proxy(site.port, site.random, most_bytes=60_000) as proxy:
        site.dial_address = f"tcp://127.0.0.1:{proxy.port}"
        site.start_all("one", "two", applications=2)
        site.pause(3.0, 5.0)
        proxy.heal()
        site.drain()
        assert proxy.cuts > 3
        site.check()
        repeated = [starts for starts in site.effects().starts.values() if len(starts) > 1]
        assert not repeated
