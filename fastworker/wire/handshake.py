"""Who is there: both sides prove that they know the token, without sending it.

Sans-I/O. The listener proves itself first, because any local user can squat a port::

    dialler   Hello(versions, role, token id, nonce)  →  listener
    dialler   ←  Challenge(version, nonce, mac of "server")
    dialler   Proof(mac of "client")                  →  listener

A mac is HMAC-SHA256(token, label ‖ dialler's nonce ‖ listener's nonce ‖ role). An unknown token
id is challenged with a random key, so that an outsider cannot find out which ids exist. An error
ends the connection; every object serves one connection and every step happens once.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Final

from fastworker.core.records import MAX_NAME_LENGTH
from fastworker.errors import (
    AuthenticationFailed,
    InvalidOption,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.wire.messages import PROTOCOL_VERSIONS, Challenge, Hello, Proof

ROLES: Final = frozenset({"client", "subworker"})

NONCE_BYTES: Final = 32
"""As many as the hash: two connections never share one."""

MIN_TOKEN_CHARACTERS: Final = 32
"""Recorded handshakes can be attacked offline, so a short token would be guessed."""

MAX_TOKEN_CHARACTERS: Final = 1024

DEFAULT_TOKEN_ID: Final = "default"

LOCAL_ID_PREFIX: Final = "local-"
"""How the id of a token begins that one machine has made for itself; its port follows."""

CERTIFICATE_ID: Final = "certificate"
"""In place of a token's id: the dialler is whoever its certificate says."""

CERTIFICATE_TOKEN: Final = f"{CERTIFICATE_ID}.tls-has-proved-who-is-at-both-ends"
"""What stands for a token then, inside TLS that has checked both certificates. It is well known:
a listener heeds it only from a connection whose certificate it knows."""

HANDSHAKE_FRAME_BYTES: Final = 4096
"""Limit for `decode` until the peer has proved itself."""

_SERVER: Final = b"server"
_CLIENT: Final = b"client"

Random = Callable[[int], bytes]
"""Gives so many secure random bytes: `secrets.token_bytes`."""

Verifier = Callable[[str], bytes | None]
"""Gives the whole token of a token id as bytes, or None for an unknown id."""


def token_id_of(token: str) -> str:
    """The public part of a token: what stands before its first ``.``, else ``default``."""
    name, dot, _ = token.partition(".")
    return name if dot else DEFAULT_TOKEN_ID


def check_token(token: str) -> str:
    """Return the token if it may be used: ``secret`` or ``id.secret``.

    Raises:
        InvalidOption: too short, too long, not printable ASCII, or with an empty or long id. The
            message never shows the token.
    """
    if not token.isascii() or not token.isprintable():
        raise InvalidOption("the token has characters that are not printable ASCII")
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS:
        raise InvalidOption(
            f"the token has {len(token)} characters; use {MIN_TOKEN_CHARACTERS} to "
            f'{MAX_TOKEN_CHARACTERS}, for example from `python -c "import secrets; '
            'print(secrets.token_urlsafe(32))"`'
        )
    if not 1 <= len(token_id_of(token)) <= MAX_NAME_LENGTH:
        raise InvalidOption(
            f"the part of the token before the first '.' is its id: 1 to {MAX_NAME_LENGTH} "
            "characters"
        )
    return token


def _mac(key: bytes, label: bytes, dialler: bytes, listener: bytes, role: str) -> bytes:
    return hmac.digest(key, label + dialler + listener + role.encode(), "sha256")


def _check_nonce(message: str, nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise ProtocolError(
            f"message {message}, field nonce: expected {NONCE_BYTES} bytes, got {len(nonce)}"
        )


def _name_versions(versions: Sequence[int]) -> str:
    if not versions:
        return "none"
    low, high = min(versions), max(versions)
    return str(low) if low == high else f"{low} to {high}"


class DialerHandshake:
    """The side that connects.

    Args:
        role: ``client`` or ``subworker``.
        token: the whole token, ``secret`` or ``id.secret``.
        random: gives secure random bytes.
        agent: program and version, for the other side's log.
        versions: protocol versions this side speaks.

    Raises:
        InvalidOption: a token that may not be used.
    """

    def __init__(
        self,
        role: str,
        token: str,
        random: Random,
        agent: str = "",
        *,
        versions: Sequence[int] = PROTOCOL_VERSIONS,
    ) -> None:
        if role not in ROLES:
            raise InvalidOption(f"role {role!r:.40} is not one of {', '.join(sorted(ROLES))}")
        self._role = role
        self._key = check_token(token).encode()
        self._token_id = token_id_of(token)
        self._nonce = random(NONCE_BYTES)
        self._agent = agent
        self._versions = tuple(versions)
        self.version: int | None = None
        """The version both speak, once the listener has proved itself."""

    def hello(self) -> Hello:
        """The first message to send; the same one on a second call."""
        return Hello(list(self._versions), self._role, self._token_id, self._nonce, self._agent)

    def receive(self, challenge: Challenge) -> Proof:
        """Check the listener's proof and give this side's.

        Raises:
            AuthenticationFailed: the listener does not know the token; nothing secret was sent.
            UnsupportedVersion: the listener chose a version that was not offered.
            ProtocolError: a nonce of the wrong length, or a second challenge.
        """
        if self.version is not None:
            raise ProtocolError("message Challenge: expected one, got a second")
        _check_nonce("Challenge", challenge.nonce)
        if challenge.version not in self._versions:
            raise UnsupportedVersion(
                f"the control plane chose protocol version {challenge.version}; this side speaks "
                f"{_name_versions(self._versions)}; upgrade the older of the two"
            )
        ours, theirs = self._nonce, challenge.nonce
        expected = _mac(self._key, _SERVER, ours, theirs, self._role)
        if not hmac.compare_digest(expected, challenge.mac):
            raise AuthenticationFailed(self._not_known())
        self.version = challenge.version
        return Proof(_mac(self._key, _CLIENT, ours, theirs, self._role))

    def _not_known(self) -> str:
        if self._token_id == CERTIFICATE_ID:
            return (
                "the control plane lets nobody in by this side's certificate (--tls-cert): there, "
                "run `fastworker token create --certificate NAME` with the name in it, and start "
                "it with --tls-ca; or set FASTWORKER_TOKEN here"
            )
        if self._token_id.startswith(LOCAL_ID_PREFIX):
            return (
                f"the listener does not know the token {self._token_id!r}, which this machine uses "
                "where none is set: set FASTWORKER_TOKEN or --token-file to the one that is set "
                "there; nothing secret was sent"
            )
        return (
            f"the listener does not know the token {self._token_id!r}: another token is set "
            "there, this one was revoked or has expired, or it is not your control plane; "
            "nothing secret was sent"
        )


class ListenerHandshake:
    """The side that is connected to.

    Args:
        verifier: gives the whole token (bytes) of a token id, None if there is none.
        random: gives secure random bytes.
        versions: protocol versions this side speaks.
    """

    def __init__(
        self,
        verifier: Verifier,
        random: Random,
        *,
        versions: Sequence[int] = PROTOCOL_VERSIONS,
    ) -> None:
        self._verifier = verifier
        self._random = random
        self._versions = tuple(versions)
        self._hello: Hello | None = None
        self._expected: bytes | None = None
        self._known = False
        self.version: int | None = None
        """The version both speak, after `receive_hello`."""
        self.authenticated = False
        """Whether the dialler has proved itself; role and token id mean nothing before."""

    @property
    def role(self) -> str:
        """What the dialler says it is: ``client`` or ``subworker``; empty before `Hello`."""
        return "" if self._hello is None else self._hello.role

    @property
    def token_id(self) -> str:
        """The id of the token the dialler says it has; empty before `Hello`."""
        return "" if self._hello is None else self._hello.token_id

    @property
    def agent(self) -> str:
        """The dialler's program and version, as it says; empty before `Hello`."""
        return "" if self._hello is None else self._hello.agent

    def receive_hello(self, hello: Hello) -> Challenge:
        """Choose the version and prove this side.

        Raises:
            UnsupportedVersion: no version in common; both ranges are named.
            ProtocolError: an unknown role, a nonce of the wrong length, or a second `Hello`.
        """
        if self._hello is not None:
            raise ProtocolError("message Hello: expected one, got a second")
        common = set(self._versions) & set(hello.versions)
        if not common:
            raise UnsupportedVersion(
                f"the peer speaks protocol versions {_name_versions(hello.versions)}, this control "
                f"plane {_name_versions(self._versions)}; upgrade the older of the two"
            )
        if hello.role not in ROLES:
            raise ProtocolError(
                f"message Hello, field role: expected one of {', '.join(sorted(ROLES))}, "
                f"got {hello.role!a:.60}"
            )
        _check_nonce("Hello", hello.nonce)
        self._hello = hello
        self.version = max(common)
        stranger_key = self._random(NONCE_BYTES)
        nonce = self._random(NONCE_BYTES)
        token = self._verifier(hello.token_id)
        self._known = token is not None
        key = stranger_key if token is None else token
        self._expected = _mac(key, _CLIENT, hello.nonce, nonce, hello.role)
        return Challenge(self.version, nonce, _mac(key, _SERVER, hello.nonce, nonce, hello.role))

    def receive_proof(self, proof: Proof) -> None:
        """Check the dialler's proof; returns only if it fits.

        Raises:
            AuthenticationFailed: it does not fit, or the token id is unknown: the same sentence.
            ProtocolError: before `Hello`, or a second proof.
        """
        expected, self._expected = self._expected, None
        if expected is None:
            raise ProtocolError("message Proof: expected one, after Hello and Challenge")
        fits = hmac.compare_digest(expected, proof.mac)
        if not (fits and self._known):
            raise AuthenticationFailed(
                f"the proof does not fit the token {self.token_id!a:.80}; "
                "check that both sides are given the same token"
            )
        self.authenticated = True
