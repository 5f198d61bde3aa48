"""TLS of the listeners: the handshake, its last word to whoever fails it, and who a certificate is.

A connection is a plain socket until `open_tls` has returned; nothing of what it says is read
before. The control plane's own subworker comes in by a door of its own, `OwnDoor`.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final, Protocol

import trio

from fastworker.core.records import ALL_TENANTS
from fastworker.errors import AuthenticationFailed, ProtocolError
from fastworker.server.closing import PeerSilent
from fastworker.server.identities import Identities
from fastworker.server.identity import Identity
from fastworker.server.settings import ControlPlaneSettings
from fastworker.tls import (
    UPGRADE_TO_TLS,
    CertificateFiles,
    Contexts,
    dialler_context,
    listener_context,
)
from fastworker.wire.handshake import CERTIFICATE_ID, CERTIFICATE_TOKEN

HANDSHAKE_SECONDS: Final = 5.0
"""For the whole TLS handshake, however slowly its bytes come."""

LAST_WORD_SECONDS: Final = 0.5
"""For a peer that failed the handshake to read why, before the socket is closed over it."""

LAST_WORD_BYTES: Final = 64 * 1024
"""What it may have been sending meanwhile."""

_SPOKE_PLAINLY: Final = (
    "this port speaks TLS: use wss:// for clients and subworkers, https:// for health checks\n"
)
_PLAIN_ANSWER: Final = (
    f"HTTP/1.1 426 Upgrade Required\r\nUpgrade: {UPGRADE_TO_TLS}\r\nConnection: close, Upgrade\r\n"
    f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(_SPOKE_PLAINLY)}\r\n\r\n"
    f"{_SPOKE_PLAINLY}"
).encode("ascii")


class TLSRefused(ProtocolError):
    """The TLS handshake with a peer has failed."""


class Door(Protocol):
    """Who may come in by one connection, and as whom."""

    def key(self, token_id: str) -> bytes | None:
        """The whole token of this id; None if nobody comes in with it."""
        ...

    def identity(self, token_id: str) -> Identity:
        """Who has come in with it."""
        ...


class CertifiedDoor:
    """The plane's identities, and besides them whoever the connection's certificate says.

    Args:
        names: in the certificate that the peer has shown, checked; none without one.
    """

    def __init__(self, identities: Identities, names: tuple[str, ...]) -> None:
        self._identities = identities
        self._names = names

    def key(self, token_id: str) -> bytes | None:
        """See `Door.key`."""
        if token_id != CERTIFICATE_ID:
            return self._identities.key(token_id)
        return None if self._certified() is None else CERTIFICATE_TOKEN.encode()

    def identity(self, token_id: str) -> Identity:
        """See `Door.identity`.

        Raises:
            AuthenticationFailed: the certificate has been revoked since.
        """
        if token_id != CERTIFICATE_ID:
            return self._identities.identity(token_id)
        found = self._certified()
        if found is None:
            raise AuthenticationFailed("its certificate is not known any more")
        return found

    def _certified(self) -> Identity | None:
        known = (self._identities.certificate(name) for name in self._names)
        return next((identity for identity in known if identity is not None), None)


class OwnDoor:
    """How the control plane's own subworker comes in where everybody else needs TLS.

    It dials a port of the loopback that nobody is told of, with a token that only it is told:
    no certificate has the name of an address like that.
    """

    TOKEN_ID: Final = "own"

    def __init__(self, settings: ControlPlaneSettings, secret: str) -> None:
        self.token = f"{self.TOKEN_ID}.{secret}"
        self.address = ""
        """Where it is, once it is open."""
        self._identity = Identity(next(iter(settings.tokens), ""), ALL_TENANTS)

    def key(self, token_id: str) -> bytes | None:
        """See `Door.key`."""
        return self.token.encode() if token_id == self.TOKEN_ID else None

    def identity(self, token_id: str) -> Identity:
        """See `Door.identity`."""
        return self._identity


def listener_contexts(settings: ControlPlaneSettings) -> Contexts | None:
    """What the listeners do TLS with; None: they do not.

    Raises:
        InvalidOption: the certificate files cannot be used.
    """
    files = _files(settings)
    return None if files.certificate is None else Contexts(files, listener_context)


def caller_contexts(settings: ControlPlaneSettings) -> Contexts:
    """What callbacks are delivered with: authorities of the system's are trusted, and ours."""
    return Contexts(_files(settings), _caller_context, at_once=False)


def _caller_context(files: CertificateFiles) -> ssl.SSLContext:
    context = dialler_context(CertificateFiles(files.certificate, files.key))
    if files.authorities is not None:
        context.load_verify_locations(files.authorities)
    return context


def _files(settings: ControlPlaneSettings) -> CertificateFiles:
    return CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_ca)


async def open_tls(
    stream: trio.SocketStream, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    """Shake hands with a peer; closing the stream stays with whoever has opened it.

    Raises:
        TLSRefused: it failed, in a sentence for the log; the peer has been told.
        PeerSilent: it took too long.
    """
    secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    with trio.move_on_after(HANDSHAKE_SECONDS) as scope:
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            await _say_last(secured, error.__cause__)
            raise TLSRefused(_reason(error.__cause__)) from error
    if scope.cancelled_caught:
        raise PeerSilent("it did not finish the TLS handshake in time")
    return secured


async def _say_last(
    secured: trio.SSLStream[trio.SocketStream], cause: BaseException | None
) -> None:
    """Send the alert, which Trio's stream keeps to itself, and wait a moment for it to be read."""
    plainly = isinstance(cause, ssl.SSLError) and cause.reason == "HTTP_REQUEST"
    last = _PLAIN_ANSWER if plainly else secured._outgoing.read()
    transport = secured.transport_stream
    if not last:
        return
    with (
        trio.move_on_after(LAST_WORD_SECONDS),
        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await transport.send_all(last)
        await transport.send_eof()
        # What is left unread when a socket is closed makes its peer forget what it was told.
        left = LAST_WORD_BYTES
        while left > 0 and (data := await transport.receive_some()):
            left -= len(data)


def _reason(cause: BaseException | None) -> str:
    if not isinstance(cause, ssl.SSLError):
        return "it left during the TLS handshake"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    match cause.reason:
        case "HTTP_REQUEST":
            return "it spoke HTTP without TLS; clients and subworkers dial wss:// here"
        case "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "it showed no certificate, and --tls-ca asks for one"
        case "TLSV1_ALERT_UNKNOWN_CA":
            return "it does not trust our certificate: it needs its authority as --tls-ca"
        case "UNEXPECTED_EOF_WHILE_READING":
            return "it left during the TLS handshake"
    return f"the TLS handshake failed ({cause.reason or 'no reason given'})"


__all__ = [
    "CertifiedDoor",
    "Door",
    "OwnDoor",
    "TLSRefused",
    "caller_contexts",
    "listener_contexts",
    "open_tls",
]
