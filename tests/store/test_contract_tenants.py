"""What every store shows to one tenant: its own jobs, and of others nothing at all."""

from __future__ import annotations

import pytest

from fastworker.core.questions import Questions
from fastworker.core.records import LaneKey, LaneRow, Saves, TaskStatus
from fastworker.store.contract import DeadFilter, JobFilter, Store
from tests.store.builders import job_id, make_failure, make_finish, make_job, run_job

ACME = LaneRow(3, LaneKey("acme", "default", 1, "shop.order"))
ALL = [job_id(key) for key in range(1, 7)]


@pytest.fixture(autouse=True)
def jobs(store: Store) -> None:
    """Of each tenant one that waits, one that has a result and one that failed."""
    store.save(Saves(lanes=[ACME]))
    rows = [make_job(key, lane=1 if key < 4 else 3) for key in range(1, 7)]
    store.save(Saves(inserts=rows))
    store.save(
        Saves(
            updates=[run_job(rows[at]) for at in (1, 2, 4, 5)],
            finishes=[
                *(make_finish(2), make_finish(5)),
                *(make_failure(3), make_failure(6)),
            ],
        )
    )


@pytest.mark.parametrize(
    ("tenant", "keys"),
    [(None, {1, 2, 3, 4, 5, 6}), ("default", {1, 2, 3}), ("acme", {4, 5, 6}), ("other", set())],
)
def test_views_and_lists_show_the_jobs_of_one_tenant(
    store: Store, tenant: str | None, keys: set[int]
) -> None:
    reader = store.reader()
    views = reader.views(ALL, tenant)
    assert {view.id for view in views} == {job_id(key) for key in keys}
    assert {view.tenant for view in views} <= ({"default", "acme"} if tenant is None else {tenant})
    assert {key for key, _ in reader.jobs(JobFilter(tenant=tenant))} == keys
    assert {key for key, _ in reader.dead(DeadFilter(tenant=tenant))} == keys & {3, 6}
    part = JobFilter(tenant=tenant, from_key=2, before_key=6)
    assert {key for key, _ in reader.jobs(part)} == keys & {2, 3, 4, 5}
    page = reader.jobs(JobFilter(tenant=tenant, limit=1))
    assert [key for key, _ in page] == ([max(keys)] if keys else [])
    assert all(view.tenant == tenant for _, view in page if tenant)


def test_what_is_asked_for_one_tenant_is_recalled_for_it_alone(store: Store) -> None:
    asked = Questions(ids_of={"acme": ALL, "other": ALL[:3]})
    assert store.recall(asked).jobs.keys() == {job_id(4), job_id(5), job_id(6)}
    asked = Questions(ids=[job_id(1)], ids_of={"acme": [job_id(1), job_id(4)]})
    assert store.recall(asked).jobs.keys() == {job_id(1), job_id(4)}
    many = [job_id(key) for key in range(1, 1000)]
    assert len(store.recall(Questions(ids_of={"acme": many})).jobs) == 3
    assert len(store.reader().views(many, "acme")) == 3


def test_open_jobs_are_counted_by_tenant(store: Store) -> None:
    store.save(
        Saves(
            inserts=[
                make_job(7, lane=3),
                make_job(8, lane=3, status=TaskStatus.SCHEDULED, position=None, due_at=9.0),
                run_job(make_job(9, lane=3), token=9),
                run_job(make_job(10), token=10),
            ]
        )
    )
    reader = store.reader()
    nothing = {"waiting": 0, "scheduled": 0, "queued": 0, "running": 0}
    assert reader.counts("acme") == {**nothing, "queued": 2, "scheduled": 1, "running": 1}
    assert reader.counts("other") == nothing
    assert reader.counts()["queued"] == 3
