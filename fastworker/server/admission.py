"""Who is let in: the handshake, what a token is for, and how a refusal is said."""

from __future__ import annotations

import secrets
from typing import Final, TypeVar

import trio

from fastworker.errors import (
    AuthenticationFailed,
    FastWorkerError,
    Forbidden,
    Overloaded,
    PeerError,
    ProtocolError,
)
from fastworker.server.callers import Caller
from fastworker.server.closing import CLOSE_SILENT, PeerLeft, PeerSilent, close_code
from fastworker.server.gate import TurnedAway
from fastworker.server.identity import Identity
from fastworker.server.refusals import Refusals
from fastworker.server.tls import Door
from fastworker.transport.link import FrameStream, LinkClosed
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import CERTIFICATE_ID, HANDSHAKE_FRAME_BYTES, ListenerHandshake
from fastworker.wire.messages import Hello, Message, Problem, Proof

M = TypeVar("M", bound=Message)

HELLO_SECONDS: Final = 5.0
"""From the upgrade to the end of the handshake."""


class Admission:
    """Lets in who has a token that is for this, and tells all others why not."""

    def __init__(self) -> None:
        self._refusals = Refusals()

    async def admit(self, frames: FrameStream, caller: Caller) -> tuple[str, Identity]:
        """Who has proved to be there, and in which role: ``client`` or ``subworker``.

        Raises:
            PeerError, Forbidden, TurnedAway: nobody who may come in; the peer has been told.
        """
        try:
            handshake = await _shake_hands(frames, caller.door)
            identity = caller.door.identity(handshake.token_id)
            identity.check_connects_as(handshake.role)
            caller.visit.proved()
        except (PeerError, Forbidden, TurnedAway) as error:
            if await self._may_answer(error, caller.host):
                await _refuse(frames, error)
            raise
        except trio.TooSlowError:
            await frames.aclose(CLOSE_SILENT, "no handshake in time")
            raise PeerSilent("it did not finish the handshake in time") from None
        return handshake.role, identity

    async def _may_answer(self, error: FastWorkerError, host: str | None) -> bool:
        """Wait until a peer may be told why it is refused; False: it is told nothing."""
        if not isinstance(error, AuthenticationFailed) or isinstance(error, PeerLeft):
            return True
        return await self._refusals.wait_turn(host)


def _without_proof(token_id: str, key: bytes | None) -> str:
    if token_id == CERTIFICATE_ID:
        return (
            "it left, because no token stands for its certificate, or --tls-ca is not set here; "
            "see `fastworker token create --certificate`"
        )
    if key is None:
        return (
            f"it has the token {token_id!a:.80}, which does not count here: it was never made, was "
            "revoked or has expired; see `fastworker token list`"
        )
    return (
        f"it left without proving that it has the token {token_id!a:.80}; "
        "check that both sides are given the same token"
    )


async def _shake_hands(frames: FrameStream, door: Door) -> ListenerHandshake:
    handshake = ListenerHandshake(door.key, secrets.token_bytes)
    with trio.fail_after(HELLO_SECONDS):
        hello = await _receive_one(frames, Hello)
        key = door.key(hello.token_id)
        challenge = handshake.receive_hello(hello)
        await frames.send_frame(encode([challenge]))
        try:
            proof = await _receive_one(frames, Proof)
        except LinkClosed:
            raise PeerLeft(_without_proof(hello.token_id, key)) from None
        handshake.receive_proof(proof)
        if door.key(hello.token_id) != key:
            raise AuthenticationFailed(f"the token {hello.token_id!a:.80} was revoked just now")
    return handshake


async def _refuse(frames: FrameStream, error: FastWorkerError) -> None:
    try:
        with trio.move_on_after(HELLO_SECONDS):
            await frames.send_frame(encode([problem_of(error)]))
            await frames.aclose(close_code(error), error.code)
    except LinkClosed:
        pass


def problem_of(error: FastWorkerError) -> Problem:
    """What a peer is told that an error ends the connection of."""
    wait = error.retry_after if isinstance(error, Overloaded) else None
    return Problem(error.code, str(error)[:500], retry_after=wait)


async def _receive_one(frames: FrameStream, kind: type[M]) -> M:
    frame = await frames.receive_frame()
    messages = decode(frame, limit_bytes=HANDSHAKE_FRAME_BYTES)
    if len(messages) != 1 or not isinstance(messages[0], kind):
        raise ProtocolError(f"expected message {kind.__name__} first")
    return messages[0]
