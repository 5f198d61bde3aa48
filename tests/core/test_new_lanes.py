"""How many queues and tasks a tenant may name: names with numbers in them do not fill memory."""

from __future__ import annotations

import pytest

from fastworker.core import new_lanes
from fastworker.core.commands import AnswerSubmission
from fastworker.core.facts import Spec
from tests.core.harness import Plane, new_ids, only, submission


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_lanes, "MOST_LANES", 3)


def answer_to(plane: Plane, task: str, tenant: str = "default") -> AnswerSubmission:
    (answer,) = only(plane.turn(submission(new_ids(1), task=task, tenant=tenant)), AnswerSubmission)
    return answer


def test_a_tenant_names_only_so_many_and_goes_on_with_those_it_has() -> None:
    plane = Plane()
    for number in range(3):
        assert answer_to(plane, f"task-{number}").refused == []
    (refusal,) = answer_to(plane, "task-3").refused
    assert refusal.code == "rejected"
    assert "name kinds of work" in refusal.message
    assert len(plane.dispatcher.memory.lanes) == 3
    assert answer_to(plane, "task-1").refused == []
    assert answer_to(plane, "task-3", tenant="acme").refused == []


def test_of_one_submission_those_are_refused_that_ask_for_more() -> None:
    plane = Plane()
    answer_to(plane, "task-0")
    fact = submission(new_ids(6))
    (spec,) = fact.specs
    fact.specs = [Spec(f"task-{number}", "default", 1, spec.options) for number in range(5)]
    fact.which = [4, 0, 1, 2, 3, 4]
    (answer,) = only(plane.turn(fact), AnswerSubmission)
    assert [refusal.index for refusal in answer.refused] == [0, 4, 5]


def test_a_group_that_asks_for_more_is_refused_whole() -> None:
    plane = Plane()
    for number in range(3):
        answer_to(plane, f"task-{number}")
    fact = submission(new_ids(2), atomic=True)
    (spec,) = fact.specs
    fact.specs = [
        Spec("task-0", "default", 1, spec.options),
        Spec("task-3", "default", 1, spec.options),
    ]
    fact.which = [0, 1]
    (answer,) = only(plane.turn(fact), AnswerSubmission)
    assert [refusal.index for refusal in answer.refused] == [0, 1]
    assert len(plane.dispatcher.memory.lanes) == 3
