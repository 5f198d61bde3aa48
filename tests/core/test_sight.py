"""Whose jobs a cancel, a watch or a submission reaches: foreign ids are answered like unknown."""

from __future__ import annotations

import pytest

from fastworker.core import early_cancels
from fastworker.core.commands import AnswerSubmission, AnswerWatch, SettleCancel
from fastworker.core.early_cancels import EarlyCancels
from fastworker.core.facts import CancelRequest, QueuePause, Submission, WatchRequest
from fastworker.core.records import TaskStatus
from tests.core.harness import Plane, new_ids, only, registration, submission


def of_tenant(fact: Submission, tenant: str) -> Submission:
    fact.tenant = tenant
    return fact


def submitted(plane: Plane, tenant: str, count: int = 1) -> list[bytes]:
    ids = new_ids(count)
    plane.turn(of_tenant(submission(ids), tenant))
    return ids


def cancelled(plane: Plane, ids: list[bytes], tenant: str | None) -> list[str]:
    commands = plane.turn(CancelRequest(None, ids, "", tenant))
    return [each.outcome for each in only(commands, SettleCancel)]


@pytest.mark.parametrize("running", [False, True])
def test_d37_a_foreign_job_is_cancelled_like_one_that_never_was(running: bool) -> None:
    plane = Plane()
    if running:
        plane.turn(registration(b"s1"))
    mine = submitted(plane, "acme")
    assert cancelled(plane, mine + new_ids(1), "globex") == ["unknown", "unknown"]
    assert plane.status(mine[0]) is (TaskStatus.RUNNING if running else TaskStatus.QUEUED)
    if not running:
        assert cancelled(plane, mine, "acme") == ["cancelled"]
        assert cancelled(plane, mine, "globex") == ["unknown"]
        assert cancelled(plane, mine, "acme") == ["finished_first"]


def test_whoever_sees_everybody_cancels_everybodys_jobs() -> None:
    plane = Plane()
    assert cancelled(plane, submitted(plane, "acme"), None) == ["cancelled"]


def test_d37_a_foreign_job_is_watched_like_one_that_never_was() -> None:
    plane = Plane()
    waiting, ended = submitted(plane, "acme"), submitted(plane, "acme")
    cancelled(plane, ended, "acme")
    ids = [*waiting, *ended, *new_ids(1)]
    for tenant, unknown in (("globex", ids), ("acme", ids[2:]), (None, ids[2:])):
        [answer] = only(plane.turn(WatchRequest(None, ids, tenant)), AnswerWatch)
        assert answer.unknown == unknown
        assert [row.id for row in answer.ended] == ([] if tenant == "globex" else ended)


@pytest.mark.parametrize("fact", [CancelRequest, WatchRequest])
def test_the_store_is_asked_for_a_foreign_job_just_as_for_an_unknown_one(fact: type) -> None:
    plane = Plane()
    mine, unknown = submitted(plane, "acme"), new_ids(1)
    for ids in (mine, unknown):
        request = (
            CancelRequest(None, ids, "", "globex")
            if fact is CancelRequest
            else WatchRequest(None, ids, "globex")
        )
        asked = plane.dispatcher.questions([request], plane.now)
        assert asked.ids_of == {"globex": ids}
        assert asked.ids == []
        assert plane.store.recall(asked).jobs == {}


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("first_try", [False, True])
def test_d37_an_id_of_another_tenants_job_cannot_be_used_and_tells_nothing(
    ended: bool, first_try: bool
) -> None:
    plane = Plane()
    mine = submitted(plane, "acme")
    if ended:
        cancelled(plane, mine, "acme")
    fact = of_tenant(submission(mine, first_try=first_try, watch=True), "globex")
    [answer] = only(plane.turn(fact), AnswerSubmission)
    assert [refusal.code for refusal in answer.refused] == ["conflict"]
    assert "acme" not in answer.refused[0].message
    assert (answer.existing, answer.ended, answer.older) == ([], [], [])


def test_an_early_cancel_concerns_the_jobs_of_its_tenant_only() -> None:
    plane = Plane()
    ids = new_ids(1)
    cancelled(plane, ids, "globex")
    plane.turn(of_tenant(submission(ids), "acme"))
    assert plane.status(ids[0]) is TaskStatus.QUEUED
    for tenant in ("acme", None):
        ids = new_ids(1)
        cancelled(plane, ids, tenant)
        plane.turn(of_tenant(submission(ids), "acme"))
        assert plane.status(ids[0]) is TaskStatus.CANCELLED
        assert not plane.dispatcher.memory.early_cancels.reason("acme", ids[0], now=0.0)


def test_early_cancels_of_one_tenant_push_out_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early_cancels, "EARLY_CANCELS", 3)
    early = EarlyCancels()
    early.note("acme", b"mine", "mine", now=0.0)
    for number in range(9):
        early.note("globex", bytes([number]), "theirs", now=0.0)
    assert early.reason("acme", b"mine", now=1.0) == "mine"
    assert early.reason("globex", bytes([5]), now=1.0) is None
    assert early.reason("globex", bytes([6]), now=1.0) == "theirs"
    assert early.reason("acme", b"mine", now=early_cancels.EARLY_CANCEL_SECONDS) is None


def test_a_queue_is_paused_for_one_tenant_or_for_all() -> None:
    plane = Plane()
    memory = plane.dispatcher.memory

    def paused() -> list[bool]:
        return [memory.is_paused(tenant, "default") for tenant in ("acme", "globex")]

    plane.turn(QueuePause(None, "default", True, "acme"))
    assert paused() == [True, False]
    plane.turn(QueuePause(None, "default", True, "*"))
    assert paused() == [True, True]
    plane.turn(QueuePause(None, "default", False, "acme"))
    assert paused() == [True, True]
    plane.turn(QueuePause(None, "default", True, "acme"))
    plane.turn(QueuePause(None, "default", False, "*"))
    assert paused() == [False, False]
    assert plane.store.load().paused == frozenset()


def test_a_subworker_of_one_tenant_cannot_claim_another_ones_lease() -> None:
    plane = Plane()
    plane.turn(registration(b"s1", slots=1))
    [job] = submitted(plane, "acme")
    token = plane.store.views([job])[0].token
    plane.pass_time(30.0)
    thief = registration(b"s2", slots=0, claims=[(job, token)])
    thief.tenant = "globex"
    plane.turn(thief)
    assert plane.status(job) is TaskStatus.QUEUED


def test_of_the_reason_of_an_early_cancel_no_more_is_kept_than_people_read() -> None:
    early = EarlyCancels()
    early.note("acme", b"j" * 16, "r" * 60_000, now=0.0)
    kept = early.reason("acme", b"j" * 16, now=1.0)
    assert kept == "r" * early_cancels.REASON_CHARACTERS
