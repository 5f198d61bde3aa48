from __future__ import annotations

from fastworker.worker.outcomes import UnacknowledgedOutcomes, outcomes_of, rows_of
from tests.worker.builders import FAILURE, SUCCESS, outcome


def book_with(*tokens: int) -> UnacknowledgedOutcomes:
    book = UnacknowledgedOutcomes()
    for row in rows_of(outcome(*tokens)):
        book.add(row)
    return book


def test_columns_survive_being_rows() -> None:
    [message] = outcomes_of(rows_of(outcome(1, 2, 3)))
    assert rows_of(message) == rows_of(outcome(1, 2, 3))
    assert (message.ids, message.failures) == (outcome(1, 2, 3).ids, None)


def test_what_gathers_leaves_as_one_message() -> None:
    book = book_with(1, 2)
    for row in rows_of(outcome(3)):
        book.add(row)
    [message] = book.next_messages()
    assert list(message.tokens) == [1, 2, 3]
    assert book.next_messages() == []


def test_failures_keep_their_job_when_messages_are_merged() -> None:
    failed = outcome(7)
    failed.statuses = bytes([FAILURE])
    failed.failures = [[0, "ValueError", "no", "", ""]]
    book = book_with(1, 2)
    for row in rows_of(failed):
        book.add(row)
    [message] = book.next_messages()
    assert message.failures == [[2, "ValueError", "no", "", ""]]
    assert message.statuses == bytes([SUCCESS, SUCCESS, FAILURE])


def test_unacknowledged_outcomes_are_sent_again() -> None:
    book = book_with(1, 2, 3)
    book.next_messages()
    book.acknowledge([2, 99])
    book.send_again()
    [message] = book.next_messages()
    assert list(message.tokens) == [1, 3]
    assert len(book) == 2


def test_large_values_are_spread_over_messages() -> None:
    rows = [row._replace(value=bytes(1_000_000)) for row in rows_of(outcome(*range(5)))]
    assert [list(message.tokens) for message in outcomes_of(rows)] == [[0, 1], [2, 3], [4]]


def test_retries_keep_their_job_when_messages_are_merged() -> None:
    failed = outcome(7, 8)
    failed.statuses = bytes([FAILURE, FAILURE])
    failed.failures = [[0, "OSError", "no", "", ""], [1, "OSError", "no", "", ""]]
    failed.retries = [[1, 2.5, True, None]]
    book = book_with(1)
    for row in rows_of(failed):
        book.add(row)
    [message] = book.next_messages()
    assert message.retries == [[2, 2.5, True, None]]
    assert message.failures is not None
    assert [row[0] for row in message.failures] == [1, 2]
