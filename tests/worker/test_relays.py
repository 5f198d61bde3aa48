from __future__ import annotations

from fastworker.worker.relays import Inner, Relays


def test_numbers_are_unique_across_runners_and_stable() -> None:
    relays = Relays()
    first, second = Inner(0, 1), Inner(1, 1)
    assert (relays.outward(first), relays.outward(second), relays.outward(first)) == (1, 2, 1)
    assert (relays.inward(1), relays.inward(2), relays.inward(3)) == (first, second, None)


def test_nothing_of_an_ended_connection_gets_through() -> None:
    relays = Relays()
    relays.outward(Inner(0, 1))
    assert relays.close_all() == [Inner(0, 1)]
    assert relays.outward(Inner(0, 1)) is None
    assert relays.outward(Inner(0, 2)) == 2


def test_a_connection_closed_by_its_runner_is_closed_once() -> None:
    relays = Relays()
    relays.outward(Inner(0, 1))
    assert relays.close_inner(Inner(0, 1)) == 1
    assert relays.close_inner(Inner(0, 1)) is None
    assert relays.inward(1) is None


def test_a_lost_runner_closes_only_its_own() -> None:
    relays = Relays()
    for inner in (Inner(0, 1), Inner(1, 1), Inner(0, 2)):
        relays.outward(inner)
    assert relays.remove_runner(0) == [1, 3]
    assert relays.inward(2) == Inner(1, 1)
    assert relays.outward(Inner(0, 1)) == 4
