"""Whose fault it is that a connection broke: its peer's, or a bug of ours.

A peer may be refused, fall silent or vanish in the middle of anything; that is one line in the
log, and not every time. What else breaks a connection is a mistake in this program.
"""

from __future__ import annotations

import ssl
from typing import Final

import trio
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.utilities import LocalProtocolError

from fastworker.errors import FastWorkerError, InternalError
from fastworker.server.http_head import BadHead

_FAULTS_OF_PEERS: Final = (
    FastWorkerError,
    BadHead,
    ConnectionClosed,
    HandshakeError,
    # The library answers a ping that comes when we have begun to close, against its own rules.
    LocalProtocolError,
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
    # The library answers just when the guard of frames says its last word to a flood.
    trio.BusyResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)


def is_bug(error: BaseException) -> bool:
    """Whether an error that ended a connection, or one in a group, is a mistake of ours."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_bug, error.exceptions))
    if isinstance(error, InternalError):
        return True
    return not isinstance(error, (*_FAULTS_OF_PEERS, trio.Cancelled))


def describe(error: BaseException) -> str:
    """The innermost errors of a group, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(sorted({describe(inner) for inner in error.exceptions}))
    if isinstance(error, HandshakeError):
        return "bad WebSocket handshake"
    return f"{type(error).__name__}: {error}"
