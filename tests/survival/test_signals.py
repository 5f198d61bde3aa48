"""SIGTERM and SIGINT: the first drains and ends with 0, the second ends at once with its code."""

from __future__ import annotations

import os
import signal

import pytest

from fastworker import TaskStatus
from fastworker.client.blocking import BlockingHandle
from tests.support.process import WAIT_SECONDS
from tests.survival.chaos import Site

pytestmark = [pytest.mark.process, pytest.mark.slow]

MEGABYTE = 1024 * 1024

SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)


def any_signal(site: Site) -> signal.Signals:
    return site.random.choice((signal.SIGTERM, signal.SIGINT))


def test_subworker_drains_and_another_does_the_rest(site: Site) -> None:
    site.start_all("one", "two")
    site.pause(0.2, 1.0)
    site.workers["one"].signal(any_signal(site))
    assert site.workers["one"].wait() == 0
    site.pause(0.0, 0.3)
    site.drain()
    site.check()
    # Nothing was cut short, and what had not started was given back uncounted.
    effects = site.effects()
    assert all(len(starts) == 1 for starts in effects.starts.values())
    assert {start.attempt for starts in effects.starts.values() for start in starts} == {1}


def test_job_that_outlasts_a_drain_is_handed_back_uncounted(site: Site) -> None:
    site.start_plane()
    with Blocker(site) as blocker:
        worker = site.start_worker("one", "--drain-seconds", "0.3")
        job = blocker.submit()
        blocker.wait_start()
        worker.signal(any_signal(site))
        assert worker.wait() == 0
        site.start_worker("two")
        blocker.wait_start()
        blocker.release()
        ended = job.wait(timeout=WAIT_SECONDS)
    assert (ended.status, ended.attempts) == (TaskStatus.SUCCESS, 1)
    assert len(site.effects().starts["blocker"]) == 2


@SIGNALS
def test_subworker_ends_at_once_at_the_second_signal(
    site: Site, number: signal.Signals, code: int
) -> None:
    site.start_plane()
    worker = site.start_worker("one")
    with Blocker(site) as blocker:
        blocker.submit()
        blocker.wait_start()
        runners = worker.children()
        worker.signal(number)
        worker.wait_line("draining")
        worker.signal(number)
        assert worker.wait() == code
    for runner in runners:
        with pytest.raises(ProcessLookupError):
            os.kill(runner, 0)


def test_control_plane_stops_well_under_load(site: Site) -> None:
    site.start_all("one", applications=2)
    for _ in range(2):
        site.pause(0.2, 0.8)
        site.planes[-1].signal(any_signal(site))
        assert site.planes[-1].wait() == 0
        site.start_plane()
    site.drain()
    site.check()
    assert all(len(starts) == 1 for starts in site.effects().starts.values())


@SIGNALS
def test_control_plane_stops_at_once_at_the_second_signal(
    site: Site, number: signal.Signals, code: int
) -> None:
    plane = site.start_plane()
    worker = site.start_worker("one")
    worker.signal(signal.SIGSTOP)
    try:
        # More than the sockets between them hold, so that the first signal has to wait.
        with site.client() as client:
            client.submit_many("in_loop", [("key", 0.0, bytes(MEGABYTE // 2))] * 15)
            client.submit_many("in_thread", [("key", 0.0, bytes(MEGABYTE // 2))] * 15)
        plane.signal(number)
        plane.wait_line("nothing new is accepted")
        plane.signal(number)
        assert plane.wait() == code
    finally:
        worker.signal(signal.SIGCONT)


class Blocker:
    """A job that runs until it is released."""

    def __init__(self, site: Site) -> None:
        self._client = site.client()
        self._started = site.folder / "started.pipe"
        self._release = site.folder / "release.pipe"
        os.mkfifo(self._started)
        os.mkfifo(self._release)

    def submit(self) -> BlockingHandle[object]:
        return self._client.submit("until_released", "blocker")

    def wait_start(self) -> None:
        self._started.read_bytes()

    def release(self) -> None:
        self._release.write_bytes(b"")

    def __enter__(self) -> Blocker:
        self._client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop()
