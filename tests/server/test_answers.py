"""Submissions between wire and core: what is split or gathered keeps its columns in step."""

from __future__ import annotations

import pytest

from fastworker.core.commands import Refusal
from fastworker.core.facts import Submission
from fastworker.core.ids import split_ids
from fastworker.core.keys import DEFAULT_KEY_SECONDS
from fastworker.errors import InvalidOption, ProtocolError
from fastworker.server.answers import MAX_GROUP_JOBS, Intake, Origin
from fastworker.server.group_room import GroupRoom
from fastworker.server.inbox import Inbox
from fastworker.wire.messages import Submit, Submitted


class Peer:
    """One connection's intake, what reached the inbox, and what was answered."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.answers: list[Submitted] = []
        self.intake = Intake(
            *(self, self.inbox, self.answers.append, lambda options: options),
            tenant="default",
            wall=lambda: 1000.0,
        )

    async def facts(self) -> list[Submission]:
        batch = self.inbox.take_batch()
        return [fact for fact in batch if isinstance(fact, Submission)]


def submit(keys: list[str | None] | None, *, first: int = 0, **fields: object) -> Submit:
    """Five jobs of three priorities, in turn."""
    ids = range(first, first + 5)
    message = Submit(
        request=first + 1,
        specs=[["add", "default", priority, {}] for priority in (0, 1, 2)],
        ids=b"".join(number.to_bytes(16, "big") for number in ids),
        payloads=[str(number).encode() for number in ids],
        which=[0, 1, 2, 0, 1],
        keys=keys,
    )
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def keys_by_id(fact: Submission) -> dict[int, str | None]:
    assert fact.keys is not None
    numbers = [int.from_bytes(job_id, "big") for job_id in fact.ids]
    assert [payload.decode() for payload in fact.payloads] == [str(each) for each in numbers]
    return dict(zip(numbers, fact.keys, strict=True))


def settle(fact: Submission, refusals: list[Refusal], existing: list[tuple[int, bytes]]) -> None:
    assert isinstance(fact.origin, Origin)
    fact.origin.settle(refusals, existing)


@pytest.mark.trio
async def test_a_split_by_priority_keeps_keys_and_answers_in_step() -> None:
    peer = Peer()
    peer.intake.receive(submit(["a", None, "c", "d", "e"], key_seconds=60.0))
    facts = await peer.facts()
    assert [keys_by_id(fact) for fact in facts] == [{2: "c"}, {1: None, 4: "e"}, {0: "a", 3: "d"}]
    assert {fact.key_seconds for fact in facts} == {60.0}
    older = b"o" * 16
    settle(facts[0], [], [])
    settle(facts[1], [], [(1, older)])
    assert peer.answers == []
    settle(facts[2], [Refusal(1, "conflict", "no")], [(1, older), (0, older)])
    (answer,) = peer.answers
    assert answer.refused == [[3, "conflict", "no", 0.0]]
    assert answer.existing == [[0, older], [3, older], [4, older]]


@pytest.mark.trio
async def test_a_group_of_several_messages_has_all_its_keys() -> None:
    peer = Peer()
    group = {"group": b"g" * 16, "group_total": 15}
    for first, keys in ((0, None), (5, ["a", None, "b", None, None]), (10, None)):
        peer.intake.receive(submit(keys, first=first, **group))
    (fact,) = await peer.facts()
    assert {n: key for n, key in keys_by_id(fact).items() if key is not None} == {5: "a", 7: "b"}
    assert fact.key_seconds == DEFAULT_KEY_SECONDS and fact.atomic
    settle(fact, [], [(7, split_ids(fact.ids[0])[0])])
    assert [answer.existing for answer in peer.answers] == [None, [[2, bytes(16)]], None]


@pytest.mark.trio
async def test_deadlines_count_from_the_arrival_of_their_message() -> None:
    peer = Peer()
    peer.intake.receive(submit(None, deadline_in=[1.0, None, 3.0, 4.0, 5.0]))
    found = [fact.deadlines for fact in await peer.facts()]
    assert found == [[1003.0], [None, 1005.0], [1001.0, 1004.0]]
    group = {"group": b"g" * 16, "group_total": 10}
    peer.intake.receive(submit(None, **group))
    peer.intake.receive(submit(None, first=5, deadline_in=[0.0] * 5, **group))
    (fact,) = await peer.facts()
    assert fact.deadlines == [None] * 5 + [1000.0] * 5


@pytest.mark.parametrize(
    ("keys", "seconds"), [([""] * 5, None), (["x" * 201] * 5, None), (["k"] * 5, 0.0)]
)
@pytest.mark.trio
async def test_keys_that_cannot_be_are_refused(keys: list[str | None], seconds: float) -> None:
    peer = Peer()
    with pytest.raises(InvalidOption):
        peer.intake.receive(submit(keys, key_seconds=seconds))
    assert await peer.facts() == []


@pytest.mark.trio
async def test_a_full_inbox_says_when_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastworker.server.inbox.WAITING_JOBS", 1)
    peer = Peer()
    peer.intake.receive(submit(None))
    (fact,) = await peer.facts()  # of the one priority with a single job
    settle(fact, [], [])
    (answer,) = peer.answers
    refused = answer.refused or []
    assert [row[:2] for row in refused] == [[n, "overloaded"] for n in (0, 1, 3, 4)]
    assert all(isinstance(row[3], float) and row[3] > 0 for row in refused)


@pytest.mark.trio
async def test_more_jobs_than_one_answer_can_refuse_are_no_submission() -> None:
    ids = bytes(16 * (MAX_GROUP_JOBS + 1))
    message = Submit(1, [["add", "default", 0, {}]], ids, [b""] * (MAX_GROUP_JOBS + 1))
    with pytest.raises(ProtocolError, match="field ids: expected at most"):
        Peer().intake.receive(message)


@pytest.mark.trio
async def test_groups_that_miss_a_part_are_held_up_to_a_bound_and_may_come_again() -> None:
    peer = Peer()
    peer.inbox.groups = GroupRoom(13_000)

    def part(group: bytes, request: int, job: int, size: int) -> Submit:
        options: dict[str, object] = {"callback_data": bytes(size)}
        return Submit(
            request,
            [["add", "default", 0, options]],
            job.to_bytes(16, "big"),
            [bytes(size)],
            group=group * 16,
            group_total=2,
        )

    peer.intake.receive(part(b"a", 1, 1, 2_000))
    peer.intake.receive(part(b"b", 2, 2, 2_000))
    peer.intake.receive(part(b"c", 3, 3, 4_000))
    peer.intake.receive(part(b"c", 4, 4, 10))
    assert [answer.request for answer in peer.answers] == [3, 4]
    for answer in peer.answers:
        assert answer.refused is not None
        assert [(row[0], row[1], row[3]) for row in answer.refused] == [(0, "overloaded", 1.0)]
    # What is complete makes room, and so does what its connection has left.
    peer.intake.receive(part(b"a", 5, 5, 2_000))
    peer.intake.receive(part(b"c", 6, 3, 4_000))
    peer.intake.receive(part(b"c", 7, 4, 10))
    found = [sorted(fact.ids) for fact in await peer.facts()]
    assert found == [[job.to_bytes(16, "big") for job in jobs] for jobs in ((1, 5), (3, 4))]
    peer.intake.close()
    assert not peer.inbox.groups._held
