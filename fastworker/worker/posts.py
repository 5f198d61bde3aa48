"""Posts: each is held by one runner, started again when it dies, until another post replaces it.

Which runner leaves for which one, and when, is decided here; nothing here waits.

A worn runner is replaced by one new one. When the code has changed, all are replaced at once: the
new ones stand by until the last of them is ready, so that old and new code are never offered at
the same time, and if one of them does not come up, all of the old ones stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from fastworker.wire.messages import RunnerReady
from fastworker.worker.runner_handle import RunnerHandle


@dataclass(slots=True, eq=False)
class Post:
    """One runner after another, all of one number.

    Args:
        replaces: the post that ends once this one's runner is ready.
        stands_by: waits, ready or not, for all others that were started with it.
        leaving: replaced or given up: its runner has no successor.
        is_replaced: another post has been opened to replace it.
    """

    number: int
    replaces: Post | None = None
    stands_by: bool = False
    leaving: bool = False
    is_replaced: bool = False
    runner: RunnerHandle | None = None
    ready: RunnerReady | None = None

    def begin(self, runner: RunnerHandle) -> None:
        """Its next runner has been started."""
        self.runner, self.ready = runner, None

    def end(self) -> None:
        """That runner is gone."""
        self.runner = self.ready = None

    def give_up(self) -> None:
        """Have no runner; one that is not in service is killed."""
        self.leaving = True
        if self.runner is not None and (self.ready is None or self.stands_by):
            self.runner.kill()


@dataclass(frozen=True, slots=True)
class Change:
    """Who comes into service, and who leaves for them."""

    enter: list[Post]
    leave: list[Post]


class Posts:
    """All posts of a subworker, those with one job at a time apart.

    Args:
        on_open: is given every new post, to start its runners.
    """

    def __init__(self, on_open: Callable[[Post], None]) -> None:
        self._on_open = on_open
        self._numbers = itertools.count()
        self._posts: dict[int, Post] = {}
        self._worn: list[Post] = []

    def get(self, number: int) -> Post | None:
        """The post of this number."""
        return self._posts.get(number)

    def open(self, *, replaces: Post | None = None, stands_by: bool = False) -> None:
        """Have one more runner started."""
        post = Post(next(self._numbers), replaces, stands_by)
        self._posts[post.number] = post
        if replaces is not None:
            replaces.is_replaced = True
        self._on_open(post)

    def close(self, post: Post) -> None:
        """It has no runner and gets none."""
        del self._posts[post.number]
        if post.stands_by and not post.leaving:
            self.give_up_standing_by()
        for worn in [each for each in self._worn if each.runner is not None]:
            self.replace(worn)

    def replace(self, post: Post) -> bool:
        """Open a post that follows this one; False if that has been done, or must wait.

        No more runners leave at a time than there are posts: long jobs do not let them go.
        """
        if post.leaving or post.is_replaced or post.stands_by:
            return False
        leaving = sum(each.leaving for each in self._posts.values())
        if leaving >= len(self._in_service()):
            if post not in self._worn:
                self._worn.append(post)
            return False
        if post in self._worn:
            self._worn.remove(post)
        self.open(replaces=post)
        return True

    def replace_all(self) -> None:
        """Open as many posts as there are, to follow all of them at once."""
        self.give_up_standing_by()
        for _ in [each for each in self._in_service() if not each.is_replaced]:
            self.open(stands_by=True)

    def give_up_standing_by(self) -> None:
        """Whoever stands by goes away again."""
        for post in self._standing_by():
            post.give_up()
            post.stands_by = False

    def note_ready(self, post: Post, ready: RunnerReady) -> Change:
        """A runner is ready; what follows from that has been noted."""
        post.ready = ready
        if not post.stands_by:
            leave = [] if post.replaces is None else [post.replaces]
            post.replaces = None
            enter = [post]
        else:
            enter = self._standing_by()
            if any(each.ready is None for each in enter):
                return Change([], [])
            leave = self._in_service()
            self._worn.clear()
        for each in enter:
            each.stands_by = False
        for each in leave:
            each.give_up()
        return Change(enter, leave)

    def _standing_by(self) -> list[Post]:
        return [each for each in self._posts.values() if each.stands_by and not each.leaving]

    def _in_service(self) -> list[Post]:
        return [each for each in self._posts.values() if not each.leaving and not each.stands_by]
