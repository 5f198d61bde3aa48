"""Caps of connections: newcomers are turned away, and only as long as there is no room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from fastworker.server import gate as gate_module
from fastworker.server.gate import Gate, TurnedAway, is_loopback


def test_newcomer_above_the_cap_is_turned_away_until_another_has_gone() -> None:
    gate = Gate(connections=2)
    with ExitStack() as first, ExitStack() as others:
        first.enter_context(gate.entering("192.0.2.1")).proved()
        others.enter_context(gate.entering("192.0.2.2")).proved()
        late = others.enter_context(gate.entering("192.0.2.3"))
        with pytest.raises(TurnedAway, match=r"there are 2 connections.* raise --max-connections$"):
            late.proved()
        assert gate.statistics() == {"open": 2, "waiting": 1}
        first.close()
        late.proved()
        assert gate.statistics() == {"open": 2, "waiting": 0}
    assert gate.statistics() == {"open": 0, "waiting": 0}


def test_one_address_leaves_room_for_others_and_loopback_is_exempt() -> None:
    gate = Gate(connections=100, per_address=2)
    with ExitStack() as stack:
        for host in ("192.0.2.1", "192.0.2.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "::1"):
            stack.enter_context(gate.entering(host)).proved()
        with pytest.raises(TurnedAway, match=r"from one address.*--max-connections-per-address"):
            stack.enter_context(gate.entering("192.0.2.1")).check_room()
        stack.enter_context(gate.entering("192.0.2.2")).proved()


def test_those_without_a_proof_are_few_of_one_address_loopback_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "MAX_WAITING", 3)
    monkeypatch.setattr(gate_module, "MAX_WAITING_PER_ADDRESS", 2)
    gate = Gate()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(gate.entering("127.0.0.1"))
        with pytest.raises(TurnedAway, match="2 connections that have not proved themselves from"):
            stack.enter_context(gate.entering("127.0.0.1"))
        stack.enter_context(gate.entering("192.0.2.1"))
        with pytest.raises(TurnedAway, match="there are 3 connections that have not proved"):
            stack.enter_context(gate.entering("192.0.2.2"))
    assert gate.statistics() == {"open": 0, "waiting": 0}


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("somewhere", False),
    ],
)
def test_loopback_is_told_from_other_addresses(host: str, own: bool) -> None:
    assert is_loopback(host) is own
