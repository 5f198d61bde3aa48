"""D36 and D38 with real processes: no token, a wrong one, one that has gone, one for other things.

The tokens are made by the command that makes them for users.
"""

from __future__ import annotations

import contextlib
import io
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
    Cancelled,
    Challenge,
    Fetch,
    Fetched,
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
from tests.faults.site import wait_until
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

    def __init__(self, file: Path) -> None:
        self._file = file
        self.by_name: dict[str, str] = {}

    def create(self, name: str, role: str, *flags: str) -> str:
        self.by_name[name] = self._run("create", "--name", name, "--role", role, *flags)
        return self.by_name[name]

    def revoke(self, name: str) -> None:
        self._run("revoke", name)

    def write(self, name: str, folder: Path) -> str:
        """The token in a file that only we can read, for a program's ``--token-file``."""
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(self.by_name[name])
        return str(path)

    def _run(self, *arguments: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(["token", *arguments, "--tokens-file", str(self._file)]) == 0
        return printed.getvalue().strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with issued tokens; no secret may ever be in a log."""
    with Cluster(tmp_path_factory.mktemp("tokens")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def tokens(cluster: Cluster) -> Iterator[Tokens]:
    """Those that the control plane knows from its start on."""
    file = cluster.folder / "issued.json"
    tokens = Tokens(file)
    for name, role in [("app", "submit"), ("leaver", "submit"), ("web", "read"), ("gpu", "worker")]:
        tokens.create(name, role)
    tokens.create("revoked", "submit")
    tokens.create("expired", "submit", "--expires", "1s")
    tokens.revoke("revoked")
    cluster.control_plane("--tokens-file", str(file))
    yield tokens
    for text in tokens.by_name.values():
        assert text.partition(".")[2] not in cluster.logs()


@pytest.fixture(scope="module")
def address(cluster: Cluster, tokens: Tokens) -> Address:
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
    address: Address,
) -> None:
    await trio.sleep(1.0)  # for the one that expires
    seconds: dict[str, list[float]] = {}
    for _ in range(5):
        source = some_source()
        for name in ("app", "unknown", "revoked", "expired"):
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
    cluster: Cluster, address: Address, tokens: Tokens
) -> None:
    # Made while it runs: it sees it by itself.
    expiring = tokens.create("expiring", "worker", "--expires", "3s")
    expires_at = time.monotonic() + 3.0
    await wait_open(address, expiring)
    ended: dict[str, float] = {}

    async def watch(peer: RawPeer, name: str) -> None:
        problem, closed = await peer.receive_end()
        ended[name] = time.monotonic()
        assert closed == Closed(4401, "authentication_failed")
        assert problem is not None and "was revoked, was changed, or has expired" in problem.message

    async with (
        open_peer(address, token=tokens.by_name["leaver"]) as one,
        open_peer(address, "subworker", token=expiring) as other,
        open_peer(address, token=tokens.by_name["app"]) as third,
        open_peer(address, token=cluster.token) as operator,
    ):
        await register(other)
        tokens.revoke("leaver")
        revoked_at = time.monotonic()
        with trio.fail_after(2 * REVOKED_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, one, "leaver")
                nursery.start_soon(watch, other, "expiring")
        assert ended["leaver"] - revoked_at < REVOKED_SECONDS
        assert -1.5 < ended["expiring"] - expires_at < REVOKED_SECONDS
        for peer in (third, operator):
            await peer.send_messages(Query(1, "status"))
            assert isinstance(await answer_to(peer), Report)
    for gone in ("leaver", "expiring"):
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
        async with open_peer(address, "subworker", token=token):
            return True
    except AuthenticationFailed:
        return False


@pytest.mark.trio
async def test_d36_fast_failures_are_answered_late_and_a_correct_proof_is_not(
    cluster: Cluster, address: Address
) -> None:
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
    lines = re.findall(rf"connection from {source}:.* ended", cluster.logs())
    assert 1 <= len(lines) <= 5, lines


# -- D38: a token for other things ---------------------------------------------------------------


@pytest.mark.trio
async def test_d38_a_token_connects_as_what_it_is_for(address: Address, tokens: Tokens) -> None:
    for role, name, sentence in [
        ("client", "gpu", "the token 'gpu' has the role worker; a client needs"),
        ("subworker", "web", "the token 'web' has the role read; a subworker needs"),
    ]:
        async with open_raw(address) as peer:
            shake = DialerHandshake(role, tokens.by_name[name], os.urandom)
            await peer.send_messages(shake.hello())
            challenge = await answer_to(peer)
            assert isinstance(challenge, Challenge)
            await peer.send_messages(shake.receive(challenge))
            problem, closed = await peer.receive_end()
        assert closed == Closed(4403, "forbidden")
        assert problem is not None and sentence in problem.message


def submission(task: str = "add", **changes: object) -> Submit:
    return Submit(7, [[task, "default", 1, {}]], some_id(), [b""], **changes)  # type: ignore[arg-type]


async def asked(peer: RawPeer, message: Message) -> Message:
    await peer.send_messages(message)
    return await answer_to(peer)


@pytest.mark.trio
async def test_d38_a_token_that_only_reads_changes_nothing(
    address: Address, tokens: Tokens
) -> None:
    async with (
        open_peer(address, token=tokens.by_name["web"]) as peer,
        open_peer(address, token=tokens.by_name["app"]) as app,
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
        accepted = await asked(app, submission("nobody-runs-this"))
        assert isinstance(accepted, Submitted) and not accepted.refused


@pytest.mark.trio
async def test_d38_a_worker_submits_and_completes_only_with_its_leases(
    address: Address, tokens: Tokens
) -> None:
    async with (
        open_peer(address, "subworker", token=tokens.by_name["gpu"]) as peer,
        open_peer(address, token=tokens.by_name["app"]) as app,
    ):
        await register(peer)

        async def relayed(message: Message) -> Message:
            await peer.send_messages(Relay(1, encode([message])))
            # What was accepted may be handed out, here, before the answer.
            while not isinstance(relay := await answer_to(peer), Relay):
                assert isinstance(relay, Assign)
            return decode(relay.frame)[0]

        # No job of its own: no authority to submit, whatever it says.
        for message in (submission(), submission(parent=some_id(), parent_token=1)):
            refused = await relayed(message)
            assert isinstance(refused, Problem) and refused.code == "forbidden"
        mine = submission()
        assert isinstance(await asked(app, mine), Submitted)
        assign = await answer_to(peer)
        assert isinstance(assign, Assign)
        job, (lease,) = assign.ids, assign.tokens
        # Nor does it see, cancel or replay those of others, not even of its own tenant.
        assert job == mine.ids
        assert await relayed(Fetch(8, job)) == Fetched(8, [])
        assert await relayed(Cancel(8, job)) == Cancelled(8, ["unknown"])
        assert await relayed(Query(8, "jobs")) == Report(8, {"jobs": []})
        unknown = await relayed(Manage(8, "replay", {"ids": job}))
        assert isinstance(unknown, Problem) and unknown.code == "unknown_job"
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
    worker, reader = tokens.write("gpu", tmp_path), tokens.write("web", tmp_path)
    at = ("--control-plane-address", cluster.address, "--token-file")
    status = cluster.start("status", "status", "--json", *at, worker)
    submit = cluster.start("submit", "submit", "add", "[2, 3]", *at, reader)
    subworker = cluster.subworker("sw", "--token-file", reader, ready=False)
    assert status.wait() == submit.wait() == subworker.wait() == 5
    assert "a client needs a token with the role submit, read or admin" in status.log
    assert "to submit needs a token with the role submit" in submit.log
    assert "a subworker needs a token with the role worker" in subworker.log


@pytest.mark.slow
def test_d36_programs_whose_token_is_revoked_say_so(
    cluster: Cluster, tokens: Tokens, tmp_path: Path
) -> None:
    worker, app = tokens.write("gpu", tmp_path), tokens.write("app", tmp_path)
    subworker = cluster.subworker("sw", "--token-file", worker)
    ledger = tmp_path / "ledger"
    waiting = cluster.start(
        *("waiting", "submit", "record", json.dumps([str(ledger), "x", 600]), "--wait"),
        *("--control-plane-address", cluster.address, "--token-file", app),
    )
    wait_until(ledger.exists, seconds=20, what="the job runs")
    for name in ("app", "gpu"):
        tokens.revoke(name)
    new = tokens.create("gpu2", "worker")
    assert waiting.wait() == 5
    assert "does not know the token 'app'" in waiting.log and "revoked" in waiting.log
    subworker.wait_line("does not know the token 'gpu'.*trying again")
    assert "this token was revoked, was changed, or has expired" in subworker.log
    # Its file is read at every try: a new token in it is all that it takes.
    seen = len(subworker.lines)
    Path(worker).write_text(new)
    subworker.wait_line("connected to", after=seen)
    assert subworker.log.count("trying again") <= 4
