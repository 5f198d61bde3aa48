"""Which role which message needs."""

from __future__ import annotations

import pytest

from fastworker.server.identity import Identity, Role
from fastworker.server.permissions import refusal
from fastworker.wire.messages import (
    Beat,
    Cancel,
    Fetch,
    Follow,
    Introduce,
    Manage,
    Message,
    Query,
    StreamPull,
    Submit,
    Watch,
)

ID = bytes(16)
SUBMITS: list[Message] = [
    Submit(1, [["add", "default", 1, {}]], ID, [b""]),
    Cancel(1, ID),
    StreamPull(ID, 0, 1),
    Introduce(ID, callbacks=True),
    Manage(1, "replay", {"ids": ID}),
]
READS: list[Message] = [
    Introduce(ID, roster=True),
    Fetch(1, ID),
    Watch(ID),
    Follow(1, ID),
    *(Query(1, what) for what in ("status", "jobs", "dead", "attempts", "stack", "tree")),
    Beat(1),
]
ADMINISTERS: list[Message] = [Manage(1, what) for what in ("pause", "resume", "discard")]


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.READ, READS),
        (Role.SUBMIT, [*READS, *SUBMITS]),
        (Role.ADMIN, [*READS, *SUBMITS, *ADMINISTERS]),
    ],
)
def test_d38_a_role_allows_what_it_is_for_and_no_more(role: Role, allowed: list[Message]) -> None:
    identity = Identity("web", "shop", frozenset({role}))
    for message in (*READS, *SUBMITS, *ADMINISTERS):
        refused = refusal(identity, message)
        assert (refused is None) is (message in allowed), message
        if refused is not None:
            assert "needs a token with the role" in str(refused)


def test_code_that_a_subworker_runs_may_submit_and_no_more() -> None:
    identity = Identity("gpu", "*", frozenset({Role.WORKER})).in_job()
    assert all(refusal(identity, message) is None for message in (*READS, *SUBMITS))
    assert all(refusal(identity, message) is not None for message in ADMINISTERS)
