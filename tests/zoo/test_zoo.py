"""Every way in which code can misbehave, as every kind of function, beside a thousand good jobs.

Real processes; a table says how each must end. What is shared, a runner, may be lost to such a job
several times; what runs beside it must not notice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from fastworker import BlockingClient, CancelOutcome, TaskResult, TaskStatus, call
from fastworker.client.blocking import BlockingHandle
from tests.support.cluster import Cluster
from tests.zoo.animals import KINDS

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]

GOOD_JOBS = 1000
SHARED = ("asyncio", "trio", "thread")
PATIENCE_SECONDS = 300.0
RECOVERY_SECONDS = 5.0
"""From the last misbehaviour to a worker that serves every kind again."""

SUCCESS, FAILURE, DEAD = TaskStatus.SUCCESS, TaskStatus.FAILURE, TaskStatus.DEAD
CANCELLED = TaskStatus.CANCELLED
LIMITS = {"timeout": 0.5, "grace": 0.5}


class Case(NamedTuple):
    """One animal, and how each of its jobs ends: status, and a word of the failure's type."""

    animal: str
    status: TaskStatus
    type_name: str = ""
    options: Mapping[str, object] = MappingProxyType({})
    args: tuple[object, ...] = ()


CASES = (
    Case("succeeds", SUCCESS, args=(7,)),
    Case("waits", SUCCESS, args=(0.1,)),
    Case("changes_the_process", SUCCESS),
    Case("fails", FAILURE, "ValueError"),
    Case("returns_an_object", FAILURE, "ResultNotSerializable"),
    Case("returns_what_cannot_be_shown", FAILURE, "ResultNotSerializable"),
    Case("raises_what_cannot_be_told", FAILURE, "Hostile"),
    Case("raises_a_bare_base_exception", FAILURE, "BaseException"),
    Case("leaves_the_interpreter", FAILURE, "SystemExit"),
    Case("interrupts", FAILURE, "KeyboardInterrupt"),
    Case("recurses", FAILURE, "RecursionError"),
    Case("runs_out_of_memory", FAILURE, "MemoryError"),
    Case("waits", FAILURE, "TimeLimitExceeded", {"timeout": 0.3}, (60,)),
    Case("spins", FAILURE, "TimeLimitExceeded", LIMITS),
    Case("blocks", FAILURE, "TimeLimitExceeded", LIMITS),
    Case("segfaults", DEAD, "JobDead"),
    Case("exits_with_0", DEAD, "JobDead"),
    Case("exits_with_1", DEAD, "JobDead"),
    Case("aborts", DEAD, "JobDead"),
    Case("kills_itself", DEAD, "JobDead"),
    Case("closes_all_files", DEAD, "JobDead"),
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks="from tests.zoo.animals import *\n") as cluster:
        cluster.expected_tracebacks = True  # of loops that were broken on purpose
        cluster.control_plane()
        cluster.subworker("keeper", "--task-processes", "2")
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[BlockingClient]:
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
        yield client


def verdict(case: Case, result: TaskResult) -> str | None:
    """What is wrong with how a job ended; None: nothing."""
    if result.status is not case.status or case.type_name not in (result.error or ""):
        return f"{case.animal}: {result.status} ({result.error}), not {case.status}"
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_c26_every_job_ends_as_it_should_and_good_ones_succeed(
    client: BlockingClient, kind: str
) -> None:
    good = [call(f"succeeds.{SHARED[n % len(SHARED)]}", n) for n in range(GOOD_JOBS)]
    first = client.submit_many(good[: GOOD_JOBS // 2])
    bad = [
        client.options(**case.options).submit(f"{case.animal}.{kind}", *case.args) for case in CASES
    ]
    handles = [*first, *client.submit_many(good[GOOD_JOBS // 2 :])]

    wrong = [
        verdict(case, handle.wait(PATIENCE_SECONDS))
        for case, handle in zip(CASES, bad, strict=True)
    ]
    assert [each for each in wrong if each is not None] == []
    assert [handle.result(PATIENCE_SECONDS) for handle in handles] == list(range(GOOD_JOBS))
    recovered = time.monotonic()
    for each in KINDS:
        assert client.submit(f"succeeds.{each}", 1).result(PATIENCE_SECONDS) == 1
    assert time.monotonic() - recovered < RECOVERY_SECONDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("animal", ["waits", "blocks", "spins"])
def test_c27_the_deadline_ends_it_whether_it_listens_or_not(
    client: BlockingClient, kind: str, animal: str
) -> None:
    arguments = (60,) if animal == "waits" else ()
    handle = client.options(deadline=1.5, grace=0.3).submit(f"{animal}.{kind}", *arguments)
    result = handle.wait(PATIENCE_SECONDS)

    assert result.status is FAILURE
    assert "TimeLimitExceeded" in (result.error or "")


# --- cancels -----------------------------------------------------------------------------------


def started(client: BlockingClient, name: str, mark: Path, *args: object) -> BlockingHandle[object]:
    handle = client.submit(name, *args, str(mark))
    until = time.monotonic() + 30
    while not mark.exists():
        assert time.monotonic() < until, f"{name} never started"
        time.sleep(0.005)
    return handle


def ended(handle: BlockingHandle[object]) -> TaskStatus:
    return handle.wait(PATIENCE_SECONDS).status


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_before_its_start_it_never_starts(
    client: BlockingClient, tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "mark"
    handle = client.options(countdown=3600).submit(f"waits.{kind}", 0, str(mark))

    assert handle.cancel().outcome is CancelOutcome.CANCELLED
    assert ended(handle) is CANCELLED
    assert not mark.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_while_it_runs_code_that_listens_stops(
    client: BlockingClient, tmp_path: Path, kind: str
) -> None:
    took = []
    for number in range(5):
        handle = started(client, f"waits.{kind}", tmp_path / f"mark-{number}", 60)
        begun = time.monotonic()
        assert handle.cancel().outcome is CancelOutcome.CANCELLED
        took.append(time.monotonic() - begun)
        assert ended(handle) is CANCELLED
    print(f"{kind}: {sorted(took)}")
    assert sorted(took)[2] <= 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("animal", ["blocks", "spins"])
def test_cancelled_code_that_does_not_listen_is_killed_or_told_of(
    client: BlockingClient, tmp_path: Path, kind: str, animal: str
) -> None:
    beside = started(client, "waits.thread", tmp_path / "beside", 2)
    handle = started(client, f"{animal}.{kind}", tmp_path / "mark")
    begun = time.monotonic()
    answer = handle.cancel(grace=0.5)
    took = time.monotonic() - begun
    print(f"{animal}.{kind}: {took:.2f} s")
    assert took <= 0.5 + 0.5
    if kind == "process":
        assert answer.outcome is CancelOutcome.CANCELLED
        assert ended(handle) is CANCELLED
    else:
        assert answer.outcome is CancelOutcome.UNWINDING
        assert answer.stack is not None and animal in answer.stack
    if kind != "asyncio":  # in whose loop everything else waits, too, until it stops
        assert beside.result(PATIENCE_SECONDS) == "waited", "its neighbour was not touched"


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_at_its_end_it_is_one_or_the_other(
    client: BlockingClient, tmp_path: Path, kind: str
) -> None:
    seen = set()
    for number in range(20):
        handle = started(client, f"waits.{kind}", tmp_path / f"mark-{number}", 0.05)
        time.sleep(0.04 + 0.001 * number)
        outcome = handle.cancel().outcome
        seen.add(outcome)
        expected = CANCELLED if outcome is CancelOutcome.CANCELLED else SUCCESS
        assert ended(handle) is expected
    assert seen <= {CancelOutcome.CANCELLED, CancelOutcome.FINISHED_FIRST}
