"""Who follows whom among runners: plain function calls."""

from __future__ import annotations

from fastworker.wire.messages import RunnerReady
from fastworker.worker.posts import Post, Posts
from tests.worker.fake_runner import FakeRunner

READY = RunnerReady(pid=1, tasks=[])


class Office:
    """Posts, and the runners that were started for them."""

    def __init__(self, count: int) -> None:
        self.opened: list[Post] = []
        self.posts = Posts(self.opened.append)
        for _ in range(count):
            self.posts.open()
        self.first = list(self.opened)
        for post in self.first:
            self.come_up(post)

    def come_up(self, post: Post) -> tuple[list[int], list[int]]:
        """Its runner is started and ready; who enters, and who leaves."""
        self.begin(post)
        change = self.posts.note_ready(post, READY)
        return [each.number for each in change.enter], [each.number for each in change.leave]

    def begin(self, post: Post) -> FakeRunner:
        runner = FakeRunner(pid=post.number)
        post.begin(runner)
        return runner

    def go(self, post: Post) -> None:
        post.end()
        self.posts.close(post)


def test_a_worn_runner_leaves_when_its_follower_is_ready() -> None:
    office = Office(2)
    assert office.posts.replace(office.first[0])
    follower = office.opened[-1]
    office.begin(follower)
    assert not office.first[0].leaving
    assert office.come_up(follower) == ([2], [0])
    assert office.first[0].leaving and not office.first[1].leaving


def test_a_runner_is_replaced_once() -> None:
    office = Office(1)
    assert office.posts.replace(office.first[0])
    assert not office.posts.replace(office.first[0])
    assert len(office.opened) == 2


def test_no_more_leave_than_are_in_service() -> None:
    office = Office(1)
    office.posts.replace(office.first[0])
    second = office.opened[-1]
    office.come_up(second)
    assert not office.posts.replace(second)
    assert len(office.opened) == 2
    office.go(office.first[0])
    # Now it may, and is not forgotten.
    assert [post.replaces for post in office.opened[2:]] == [second]


def test_new_code_enters_all_at_once() -> None:
    office = Office(2)
    office.posts.replace_all()
    third, fourth = office.opened[2:]
    assert office.come_up(fourth) == ([], [])
    assert office.come_up(third) == ([2, 3], [0, 1])


def test_code_that_does_not_run_leaves_everything_as_it_is() -> None:
    office = Office(2)
    office.posts.replace_all()
    third, fourth = office.opened[2:]
    started = office.begin(fourth)
    office.begin(third)
    office.go(third)
    assert started.killed and fourth.leaving
    assert not any(post.leaving for post in office.first)


def test_the_next_change_takes_the_place_of_one_that_is_under_way() -> None:
    office = Office(1)
    office.posts.replace_all()
    starting = office.begin(office.opened[-1])
    office.posts.replace_all()
    assert starting.killed
    assert office.come_up(office.opened[-1]) == ([2], [0])


def test_a_follower_that_is_starting_does_not_count_twice_when_the_code_changes() -> None:
    office = Office(1)
    office.posts.replace(office.first[0])
    follower = office.begin(office.opened[-1])
    office.posts.replace_all()
    assert len(office.opened) == 3
    assert office.come_up(office.opened[-1]) == ([2], [0, 1])
    assert follower.killed
