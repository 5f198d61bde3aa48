"""kill -9 at random moments under load: every accepted job ends once, every result can be read."""

from __future__ import annotations

import pytest

from tests.survival.chaos import SHORT_LEASE, Site

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_control_plane_killed_under_load(site: Site) -> None:
    site.start_all("one", "two", applications=2)
    for _ in range(3):
        site.pause(0.2, 1.2)
        site.kill_plane()
    site.drain()
    before = site.check()
    # What has been told to anybody survives one more.
    site.kill_plane()
    assert site.check() == before


def test_subworker_killed_under_load(site: Site) -> None:
    site.lease_seconds = SHORT_LEASE
    site.start_all("one", "two")
    for name in ("one", "two"):
        site.pause(0.3, 1.0)
        site.kill_worker(name)
    site.drain()
    site.check()


def test_runner_killed_under_load(site: Site) -> None:
    site.start_all("one", "two")
    for _ in range(4):
        site.pause(0.2, 0.8)
        site.kill_runner(site.random.choice(("one", "two")))
    site.drain()
    site.check()


def test_client_killed_while_it_submits(site: Site) -> None:
    site.start_all("one", applications=3)
    for _ in range(6):
        site.pause(0.0, 0.3)
        name = site.random.choice(list(site.applications))
        site.applications[name].wait_line("started")
        site.pause(0.0, 0.1)
        site.kill_application(name)
    site.drain()
    site.check()


def test_subworker_frozen_beyond_its_lease(site: Site) -> None:
    site.lease_seconds = SHORT_LEASE
    site.start_all("one", "two")
    site.pause(0.3, 0.6)
    site.freeze_worker("one")
    site.drain()
    site.check()


def test_everything_killed_at_random(site: Site) -> None:
    site.lease_seconds = SHORT_LEASE
    site.start_all("one", "two", applications=2)
    for _ in range(6):
        site.pause(0.1, 0.7)
        worker = site.random.choice(("one", "two"))
        match site.random.choice(("plane", "worker", "runner", "application")):
            case "plane":
                site.kill_plane()
            case "worker":
                site.kill_worker(worker)
            case "runner":
                site.kill_runner(worker)
            case "application":
                site.kill_application(site.random.choice(list(site.applications)))
    site.drain()
    site.check()
