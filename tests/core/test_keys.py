"""Idempotency keys, repeated ids, replays and the bound on what waits: one turn after another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fastworker.core.commands import AnnounceEnded, AnswerSubmission
from fastworker.core.facts import CancelRequest, Submission
from fastworker.core.keys import MAX_KEY_LENGTH, check_key, check_window
from fastworker.core.records import TaskStatus
from fastworker.errors import InvalidOption
from tests.core.harness import Plane, assigned, new_ids, only, outcomes, registration, submission

ONE = b"worker-one"
HOUR = 3600.0


def keyed(
    ids: Sequence[bytes],
    *keys: str | None,
    payload: bytes = b"arguments",
    seconds: float = HOUR,
    task: str = "add",
    watch: bool = False,
    atomic: bool = False,
    first_try: bool = True,
    expires_at: float | None = None,
) -> Submission:
    fact = submission(
        ids,
        task=task,
        watch=watch,
        atomic=atomic,
        first_try=first_try,
        expires_at=expires_at,
    )
    fact.keys, fact.key_seconds = list(keys), seconds
    fact.payloads = [payload] * len(ids)
    return fact


def answer_to(plane: Plane, fact: Submission, seconds: float = 0.0) -> AnswerSubmission:
    (answer,) = only(plane.turn(fact, seconds=seconds), AnswerSubmission)
    return answer


def is_stored(plane: Plane, job_id: bytes) -> bool:
    return bool(plane.store.reader().views([job_id]))


def run_job(plane: Plane) -> None:
    """A worker comes, runs what waits and leaves its slot free."""
    jobs = assigned(plane.turn(registration(ONE)))
    plane.turn(outcomes(ONE, jobs))


def test_a_key_gives_the_job_that_holds_it_in_the_same_and_in_a_later_turn() -> None:
    plane = Plane()
    first, second, third = new_ids(3)
    commands = plane.turn(keyed([first], "k"), keyed([second], "k"))
    answers = only(commands, AnswerSubmission)
    assert [answer.existing for answer in answers] == [[], [(0, first)]]
    assert answer_to(plane.restart(), keyed([third], "k")).existing == [(0, first)]
    assert [is_stored(plane, job_id) for job_id in (first, second, third)] == [True, False, False]


def test_other_arguments_under_a_key_are_a_conflict() -> None:
    plane = Plane()
    first, second, other = new_ids(3)
    commands = plane.turn(keyed([first], "k"), keyed([second], "k", payload=b"other"))
    for answer in (
        only(commands, AnswerSubmission)[1],
        answer_to(plane, keyed([other], "k", payload=b"other")),
    ):
        assert [refusal.code for refusal in answer.refused] == ["conflict"]
        assert answer.existing == [(0, first)]
    assert not is_stored(plane, second) and not is_stored(plane, other)


def test_keys_of_different_tasks_are_different() -> None:
    plane = Plane()
    first, second = new_ids(2)
    plane.turn(keyed([first], "k"))
    assert answer_to(plane, keyed([second], "k", task="mail", payload=b"other")).refused == []
    assert is_stored(plane, second)


def test_a_key_holds_until_its_window_is_over_and_its_job_has_ended() -> None:
    plane = Plane()
    first, waiting, ended, late = new_ids(4)
    plane.turn(keyed([first], "k"))
    assert answer_to(plane, keyed([waiting], "k"), 2 * HOUR).existing == [(0, first)]
    run_job(plane)
    answer = answer_to(plane, keyed([late], "k"))
    assert answer.existing == [] and is_stored(plane, late)
    # The new one holds the key now, although it has ended.
    run_job(plane)
    assert answer_to(plane, keyed([ended], "k")).existing == [(0, late)]


def test_a_job_that_ends_in_this_very_turn_no_longer_holds_its_key_after_the_window() -> None:
    plane = Plane()
    first, second = new_ids(2)
    plane.turn(keyed([first], "k"))
    jobs = assigned(plane.turn(registration(ONE)))
    plane.pass_time(2 * HOUR)
    commands = plane.turn(outcomes(ONE, jobs), keyed([second], "k"))
    assert only(commands, AnswerSubmission)[0].existing == []
    assert is_stored(plane, second)


def test_a_repeat_with_its_own_key_is_just_a_repeat() -> None:
    plane = Plane()
    (job,) = new_ids(1)
    plane.turn(keyed([job], "k"))
    answer = answer_to(plane, keyed([job], "k", first_try=False))
    assert answer.refused == [] and answer.existing == []
    twice = new_ids(1) * 2
    answer = answer_to(plane, keyed(twice, "twice", "twice"))
    assert answer.refused == [] and answer.existing == []


def test_a_repeat_of_what_was_deduplicated_is_deduplicated_again() -> None:
    plane = Plane()
    first, second = new_ids(2)
    plane.turn(keyed([first], "k"))
    for first_try in (True, False):
        answer = answer_to(plane, keyed([second], "k", first_try=first_try))
        assert answer.existing == [(0, first)]


def test_who_watches_is_told_of_the_older_job() -> None:
    plane = Plane()
    first, second, third = new_ids(3)
    plane.turn(keyed([first], "k"))
    assert answer_to(plane, keyed([second], "k", watch=True)).older == [first]
    run_job(plane)
    answer = answer_to(plane, keyed([third], "k", watch=True))
    assert answer.older == [] and [row.id for row in answer.ended] == [first]


def test_a_group_is_deduplicated_inside_and_refused_as_a_whole() -> None:
    plane = Plane()
    a, b, c = new_ids(3)
    answer = answer_to(plane, keyed([a, b, c], "k", "k", None, atomic=True))
    assert answer.existing == [(1, a)] and answer.refused == []
    assert [is_stored(plane, job_id) for job_id in (a, b, c)] == [True, False, True]
    d, e = new_ids(2)
    answer = answer_to(plane, keyed([d, e], "new", "k", payload=b"other", atomic=True))
    assert [refusal.code for refusal in answer.refused] == ["conflict"] * 2
    assert answer.existing == [(0, a), (1, a)]
    assert not is_stored(plane, d)
    # What was refused has claimed nothing.
    (f,) = new_ids(1)
    assert answer_to(plane, keyed([f], "new")).existing == []


def test_a_job_that_ends_as_it_is_accepted_holds_its_key() -> None:
    plane = Plane()
    first, second = new_ids(2)
    commands = plane.turn(keyed([first], "k", expires_at=1.0))
    assert [row.status for row in only(commands, AnnounceEnded)[0].finishes] == [TaskStatus.EXPIRED]
    assert answer_to(plane, keyed([second], "k")).existing == [(0, first)]


def test_an_id_with_other_arguments_is_a_conflict_while_they_are_known() -> None:
    plane = Plane()
    (job,) = new_ids(1)
    plane.turn(submission([job]))
    for _ in range(2):
        other = submission([job], first_try=False)
        other.payloads = [b"other"]
        answer = answer_to(plane, other)
        assert [refusal.code for refusal in answer.refused] == ["conflict"]
        assert answer.existing == [(0, job)]
        plane = plane.restart()  # now only the store has it
    assert answer_to(plane, submission([job], first_try=False)).refused == []


def test_replays_are_noted_for_new_jobs_only() -> None:
    plane = Plane()
    (old,) = new_ids(1)
    plane.turn(registration(ONE), submission([old]))
    jobs = [plane.dispatcher.memory.jobs[old]]
    plane.turn(outcomes(ONE, jobs, status=TaskStatus.FAILURE))
    (new,) = new_ids(1)
    for first_try, expected in ((True, [(jobs[0].key, new)]), (False, [])):
        fact = submission([new], first_try=first_try)
        fact.replays = [jobs[0].key]
        asked = plane.dispatcher.questions([fact], plane.now)
        known = plane.store.recall(asked)
        staged = plane.dispatcher.handle_all([fact], known, plane.now, asked=asked)
        assert staged.saves.replays == expected
        plane.store.save(staged.saves)
        plane.dispatcher.apply(staged)


def test_an_early_cancel_outlives_a_turn_that_was_dropped() -> None:
    plane = Plane()
    (job,) = new_ids(1)
    plane.turn(CancelRequest(None, [job], ""))
    fact = submission([job])
    asked = plane.dispatcher.questions([fact], plane.now)
    staged = plane.dispatcher.handle_all([fact], plane.store.recall(asked), plane.now, asked=asked)
    plane.dispatcher.drop(staged)
    plane.turn(fact)
    assert plane.status(job) is TaskStatus.CANCELLED


def test_an_early_cancel_is_forgotten_in_time() -> None:
    plane = Plane()
    (job,) = new_ids(1)
    plane.turn(CancelRequest(None, [job], ""))
    plane.turn(submission([job]), seconds=61.0)
    assert plane.status(job) is TaskStatus.QUEUED


def test_too_many_waiting_jobs_are_refused_and_repeats_are_not() -> None:
    plane = Plane()
    plane.dispatcher.memory.max_queued_jobs = 3
    ids = new_ids(2)
    plane.turn(keyed(ids, "k", None))
    more = new_ids(2)
    answer = answer_to(plane, submission([*more, ids[0]]))
    assert [(row.index, row.code) for row in answer.refused] == [(1, "overloaded")]
    assert all(row.retry_after > 0 for row in answer.refused)
    # A key that is held asks for no room, and a group is refused whole.
    assert answer_to(plane, keyed(new_ids(1), "k")).refused == []
    group = submission(new_ids(2), atomic=True)
    assert [row.code for row in answer_to(plane, group).refused] == ["overloaded"] * 2
    # A restart counts what is stored; a worker makes room again.
    assert answer_to(plane, submission(more[:1])).refused == []
    plane = plane.restart()
    plane.dispatcher.memory.max_queued_jobs = 3
    # What only the store knows is a repeat, too, although it is said to be new.
    answer = answer_to(plane, submission([ids[1], more[1]]))
    assert [(row.index, row.code) for row in answer.refused] == [(1, "overloaded")]
    plane.turn(registration(ONE))
    plane.turn()
    assert answer_to(plane, submission(more[1:])).refused == []


def test_the_room_is_counted_within_one_turn() -> None:
    plane = Plane()
    plane.dispatcher.memory.max_queued_jobs = 3
    facts = [submission(new_ids(2)), submission(new_ids(2)), submission(new_ids(1))]
    answers = only(plane.turn(*facts), AnswerSubmission)
    assert [len(answer.refused) for answer in answers] == [0, 1, 1]


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_LENGTH + 1), 7, b"k"])
def test_what_cannot_be_a_key(key: object) -> None:
    with pytest.raises(InvalidOption, match="idempotency_key"):
        check_key(key)


@pytest.mark.parametrize("seconds", [0.5, 31 * 86_400.0, float("nan"), float("inf")])
def test_what_cannot_be_a_window(seconds: float) -> None:
    with pytest.raises(InvalidOption, match="idempotency_window"):
        check_window(seconds)
    assert check_window(1.0) == 1.0 and check_window(30 * 86_400.0)
