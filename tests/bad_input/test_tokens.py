"""D36 and D38 with real processes: no token, a wrong one, one that has gone, one for other things.

The tokens are made by the command that makes them for users.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import trio

from fastworker.cli.main import main
from fastworker.errors import AuthenticationFailed
from fastworker.server.refusals import FAST_FAILURES, LATE_SECONDS, MAX_WAITING_PER_ADDRESS
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import (
    Assign,
    Cancel,
    Challenge,
    Introduce,
    Manage,
    Message,
    Outcome,
    OutcomeAck,
    Problem,
    Proof,
    Query,
    Relay,
    Report,
    Submit,
    Submitted,
)
from tests.bad_input.raw import Closed, RawPeer, answer_to, open_peer, open_raw, register, some_id
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.process]

REVOKED_SECONDS = 5.0
"""From `token revoke` to the end of its connections, as promised."""

ALIKE_SECONDS = 0.025
"""By which the middle answering times of failures may differ on a busy machine."""

_source_number = count(2)


def some_source() -> str:
    """An address of this machine that nothing has come from yet."""
    return f"127.0.77.{next(_source_number)}"


class Tokens:
    """Makes and revokes tokens for one cluster, as its operator would."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = cluster.folder / "issued.json"
        self._capsys = capsys
        self.texts: list[str] = []

    def create(self, name: str, role: str, *flags: str) -> str:
        self._run("create", "--name", name, "--role", role, *flags)
        self.texts.append(self._capsys.readouterr().out.strip())
        return self.texts[-1]

    def revoke(self, name: str) -> None:
        self._run("revoke", name)

    def _run(self, *arguments: str) -> None:
        assert main(["token", *arguments, "--tokens-file", str(self._file)]) == 0


@pytest.fixture
def tokens(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Iterator[Tokens]:
    """A control plane that knows the tokens made here; no secret may be in its log."""
    made = Tokens(cluster, capsys)
    yield made
    for text in made.texts:
        assert text.partition(".")[2] not in cluster.logs()


def started(cluster: Cluster) -> Address:
    cluster.control_plane("--tokens-file", str(cluster.folder / "issued.json"))
    return parse_address(cluster.address)


async def failed_proof(
    address: Address, token_id: str, *, source: str, role: str = "client"
) -> tuple[Problem | None, Closed, float]:
    """What is said to a wrong proof, and after how many seconds."""
    async with open_raw(address, source=source) as peer:
        hello = DialerHandshake(role, f"{token_id}.{'x' * 40}", os.urandom).hello()
        await peer.send_messages(hello)
        challenge = await answer_to(peer)
        assert isinstance(challenge, Challenge) and len(challenge.mac) == 32
        began = time.perf_counter()
        await peer.send_messages(Proof(os.urandom(32)))
        problem, closed = await peer.receive_end()
        return problem, closed, time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.trio
async def test_d36_all_failures_look_alike_and_take_the_same_time(
    cluster: Cluster, tokens: Tokens
) -> None:
    tokens.create("known", "submit")
    tokens.create("revoked", "submit")
    tokens.create("expired", "submit", "--expires", "1s")
    tokens.revoke("revoked")
    address = started(cluster)
    await trio.sleep(1.0)  # for the one that expires
    seconds: dict[str, list[float]] = {}
    for _ in range(7):
        source = some_source()
        for name in ("known", "unknown", "revoked", "expired"):
            problem, closed, took = await failed_proof(address, name, source=source)
            assert closed == Closed(4401, "authentication_failed")
            assert problem is not None and problem.message == (
                f"the proof does not fit the token '{name}'; "
                "check that both sides are given the same token"
            )
            seconds.setdefault(name, []).append(took)
    middles = {name: statistics.median(times) for name, times in seconds.items()}
    assert max(middles.values()) - min(middles.values()) < ALIKE_SECONDS, middles


@pytest.mark.slow
@pytest.mark.trio
async def test_d36_revoked_and_expired_tokens_lose_their_connections(
    cluster: Cluster, tokens: Tokens
) -> None:
    address = started(cluster)
    # Made while it runs: it sees them by itself.
    revoked = tokens.create("revoked", "submit")
    expiring = tokens.create("expiring", "worker", "--expires", "3s")
    expires_at = time.monotonic() + 3.0
    kept = tokens.create("kept", "submit")
    await wait_open(address, kept)
    ended: dict[str, float] = {}

    async def watch(peer: RawPeer, name: str) -> None:
        problem, closed = await peer.receive_end()
        ended[name] = time.monotonic()
        assert closed == Closed(4401, "authentication_failed")
        assert problem is not None and "was revoked, was changed, or has expired" in problem.message

    async with (
        open_peer(address, token=revoked) as one,
        open_peer(address, "subworker", token=expiring) as other,
        open_peer(address, token=kept) as third,
        open_peer(address, token=cluster.token) as operator,
    ):
        await register(other)
        tokens.revoke("revoked")
        revoked_at = time.monotonic()
        with trio.fail_after(2 * REVOKED_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, one, "revoked")
                nursery.start_soon(watch, other, "expiring")
        assert ended["revoked"] - revoked_at < REVOKED_SECONDS
        assert -1.5 < ended["expiring"] - expires_at < REVOKED_SECONDS
        for peer in (third, operator):
            await peer.send_messages(Query(1, "status"))
            assert isinstance(await answer_to(peer), Report)
    for gone in ("revoked", "expiring"):
        _, closed, _ = await failed_proof(address, gone, source=some_source())
        assert closed.code == 4401


async def wait_open(address: Address, token: str) -> None:
    """Until the control plane has seen a new token."""
    with trio.fail_after(REVOKED_SECONDS):
        while not await opens(address, token):  # noqa: ASYNC110  (another process is looking)
            await trio.sleep(0.2)


async def opens(address: Address, token: str) -> bool:
    """Whether the control plane proves that it knows a token."""
    try:
        async with open_peer(address, token=token):
            return True
    except AuthenticationFailed:
        return False


@pytest.mark.trio
async def test_d36_fast_failures_are_answered_late_and_a_correct_proof_is_not(
    cluster: Cluster, tokens: Tokens
) -> None:
    address = started(cluster)
    source = some_source()
    answers: list[tuple[Problem | None, Closed, float]] = []

    async def fail() -> None:
        answers.append(await failed_proof(address, "nobody", source=source))

    attempts = FAST_FAILURES + MAX_WAITING_PER_ADDRESS + 10
    async with trio.open_nursery() as nursery:
        for _ in range(attempts):
            nursery.start_soon(fail)
        await trio.sleep(LATE_SECONDS / 2)
        began = time.perf_counter()
        async with open_raw(address, source=source) as peer:
            shake = DialerHandshake("client", cluster.token, os.urandom)
            await peer.send_messages(shake.hello())
            challenge = await answer_to(peer)
            assert isinstance(challenge, Challenge)
            await peer.send_messages(shake.receive(challenge))
            await answer_to(peer)
        assert time.perf_counter() - began < LATE_SECONDS / 2
    at_once = [took for problem, _, took in answers if problem is not None and took < LATE_SECONDS]
    late = [took for problem, _, took in answers if problem is not None and took >= LATE_SECONDS]
    silent = [closed for problem, closed, _ in answers if problem is None]
    assert len(at_once) == FAST_FAILURES and len(late) == MAX_WAITING_PER_ADDRESS
    assert len(silent) == attempts - len(at_once) - len(late)
    lines = re.findall(r"connection from .* ended", cluster.logs())
    assert len(lines) <= 5, lines


# -- D38: a token for other things ---------------------------------------------------------------


@pytest.mark.trio
async def test_d38_a_token_connects_as_what_it_is_for(cluster: Cluster, tokens: Tokens) -> None:
    worker, reader = tokens.create("gpu", "worker"), tokens.create("web", "read")
    address = started(cluster)
    for role, token, sentence in [
        ("client", worker, "the token 'gpu' has the role worker; a client needs"),
        ("subworker", reader, "the token 'web' has the role read; a subworker needs"),
    ]:
        async with open_raw(address) as peer:
            shake = DialerHandshake(role, token, os.urandom)
            await peer.send_messages(shake.hello())
            challenge = await answer_to(peer)
            assert isinstance(challenge, Challenge)
            await peer.send_messages(shake.receive(challenge))
            problem, closed = await peer.receive_end()
        assert closed == Closed(4403, "forbidden")
        assert problem is not None and sentence in problem.message


def submission(**changes: object) -> Submit:
    return Submit(7, [["add", "default", 1, {}]], some_id(), [b""], **changes)  # type: ignore[arg-type]


async def asked(peer: RawPeer, message: Message) -> Message:
    await peer.send_messages(message)
    return await answer_to(peer)


@pytest.mark.trio
async def test_d38_a_token_that_only_reads_changes_nothing(
    cluster: Cluster, tokens: Tokens
) -> None:
    reader = tokens.create("web", "read")
    submitter = tokens.create("app", "submit")
    address = started(cluster)
    async with (
        open_peer(address, token=reader) as peer,
        open_peer(address, token=submitter) as app,
    ):
        for message in (
            submission(),
            Cancel(7, some_id()),
            Manage(7, "replay", {"ids": some_id()}),
        ):
            problem = await asked(peer, message)
            assert isinstance(problem, Problem) and problem.request == 7
            assert problem.code == "forbidden" and "needs a token with the role submit" in (
                problem.message
            )
        for each in (peer, app):
            problem = await asked(each, Manage(7, "pause", {"queue": "default"}))
            assert isinstance(problem, Problem) and problem.code == "forbidden"
            assert isinstance(await asked(each, Query(7, "status")), Report)
        accepted = await asked(app, submission())
        assert isinstance(accepted, Submitted) and not accepted.refused


@pytest.mark.trio
async def test_d38_a_worker_submits_and_completes_only_with_its_leases(
    cluster: Cluster, tokens: Tokens
) -> None:
    worker, submitter = tokens.create("gpu", "worker"), tokens.create("app", "submit")
    address = started(cluster)
    async with (
        open_peer(address, "subworker", token=worker) as peer,
        open_peer(address, token=submitter) as app,
    ):
        await register(peer)

        async def relayed(message: Message) -> Message:
            await peer.send_messages(Relay(1, encode([message])))
            relay = await answer_to(peer)
            assert isinstance(relay, Relay)
            return decode(relay.frame)[0]

        # No job of its own: no authority to submit, whatever it says.
        for message in (submission(), submission(parent=some_id(), parent_token=1)):
            refused = await relayed(message)
            assert isinstance(refused, Problem) and refused.code == "forbidden"
        assert isinstance(await asked(app, submission()), Submitted)
        assign = await answer_to(peer)
        assert isinstance(assign, Assign)
        job, (lease,) = assign.ids, assign.tokens
        forged = Outcome(job, [lease + 1], b"\x04", [b""], [1.0], [2.0])
        acknowledged = await asked(peer, forged)
        assert isinstance(acknowledged, OutcomeAck) and list(acknowledged.stale) == [lease + 1]
        refused = await relayed(submission(parent=job, parent_token=lease + 1))
        assert isinstance(refused, Problem) and refused.code == "forbidden"
        child = await relayed(submission(parent=job, parent_token=lease))
        assert isinstance(child, Submitted) and not child.refused
        # A client has no leases at all.
        await app.send_messages(Introduce(os.urandom(16)))
        await app.send_messages(forged)
        problem, closed = await app.receive_end()
        assert closed.code == 4400 and problem is not None
        assert "has no place on a client's connection" in problem.message


# -- what our own programs make of it ------------------------------------------------------------


@pytest.mark.slow
def test_d38_programs_with_the_wrong_token_end_with_exit_5(
    cluster: Cluster, tokens: Tokens, tmp_path: Path
) -> None:
    worker, reader = tokens.create("gpu", "worker"), tokens.create("web", "read")
    started(cluster)
    for name, text in (("worker", worker), ("reader", reader)):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    at = ("--control-plane-address", cluster.address, "--token-file")
    status = cluster.start("status", "status", "--json", *at, str(tmp_path / "worker"))
    submit = cluster.start("submit", "submit", "add", "[2, 3]", *at, str(tmp_path / "reader"))
    subworker = cluster.subworker("sw", "--token-file", str(tmp_path / "reader"), ready=False)
    assert status.wait() == submit.wait() == subworker.wait() == 5
    assert "a client needs a token with the role submit, read or admin" in status.log
    assert "to submit needs a token with the role submit" in submit.log
    assert "a subworker needs a token with the role worker" in subworker.log
    allowed = cluster.start("allowed", "status", "--json", *at, str(tmp_path / "reader"))
    assert allowed.wait() == 0 and json.loads(allowed.log)["workers"] == []
