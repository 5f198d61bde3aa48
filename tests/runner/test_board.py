"""Which jobs had started when a runner died, as its subworker reads it."""

from __future__ import annotations

import mmap

from fastworker.runner.board import Board
from fastworker.worker.board import BOARD_BYTES, open_board, read_board, started_tokens


def start(board: Board, cells: list[int], token: int) -> int:
    place = board.take(1.0)
    cells[place] = token
    return place


def test_only_started_jobs_are_on_the_board() -> None:
    cells = [0] * 8
    board = Board(cells)
    start(board, cells, 17)
    board.take(1.0)  # given to the thread that will run it, and not begun

    assert started_tokens(cells) == frozenset({17})


def test_a_place_is_cleared_once_its_outcome_has_left() -> None:
    cells = [0] * 8
    board = Board(cells)
    first = start(board, cells, 17)
    second = start(board, cells, 18)
    board.ended.append(first)
    board.sent()
    assert started_tokens(cells) == frozenset({17, 18})  # gathered, in no frame yet
    board.framed()
    board.ended.append(second)
    assert started_tokens(cells) == frozenset({17, 18})  # in a frame that has not left whole
    board.sent()

    assert started_tokens(cells) == frozenset({18})


def test_nothing_is_known_while_there_are_more_jobs_than_places() -> None:
    cells = [0] * 3
    board = Board(cells)
    places = [start(board, cells, token) for token in (1, 2, 3, 4)]
    assert started_tokens(cells) is None
    for place in places[2:]:
        board.ended.append(place)
        board.framed()
        assert started_tokens(cells) is None
        board.sent()

    assert started_tokens(cells) == frozenset({1, 2})
    assert board.take(1.0) == 0
    assert started_tokens(cells) is None


def test_the_memory_is_shared_through_its_descriptor() -> None:
    with open_board() as (memory, descriptor):
        with mmap.mmap(descriptor, 0) as other, memoryview(other).cast("Q") as cells:
            assert len(cells) * 8 == BOARD_BYTES
            cells[1] = 2**63 - 1
        assert read_board(memory) == frozenset({2**63 - 1})
