"""Lines about hostile peers: one at once, few in all, nothing uncounted."""

from __future__ import annotations

import logging

import pytest

from fastworker.server.limits import PEER_LINES_AT_ONCE, PEERS_REMEMBERED
from fastworker.server.peer_log import PeerLog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_one_address_has_one_line_a_second_and_another_is_not_hidden_by_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    log = PeerLog(lambda: now[0])
    for port in range(10):
        log.note(f"192.0.2.1:{port}", "noise")
    log.note("[2001:db8::1]:9", "other noise")
    now[0] = 1.5
    log.note("192.0.2.1:99", "noise")
    assert log.count == 12
    assert lines(caplog) == [
        "connection from 192.0.2.1:0 ended: noise",
        "connection from [2001:db8::1]:9 ended: other noise (9 more were not written)",
        "connection from 192.0.2.1:99 ended: noise",
    ]


def test_many_addresses_cannot_flood_the_log_or_the_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    log = PeerLog(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for number in range(5_000):
            now[0] += 0.001
            log.note(f"10.0.{number // 256}.{number % 256}:1", "x" * 10_000)
    assert PEER_LINES_AT_ONCE <= len(lines(caplog)) <= PEER_LINES_AT_ONCE + 26
    assert len(log._last) <= PEERS_REMEMBERED
    assert max(map(len, lines(caplog))) < 400
