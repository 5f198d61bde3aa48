"""With which code a connection is closed, by what its peer did wrong."""

from __future__ import annotations

from typing import Final

from fastworker.errors import (
    AuthenticationFailed,
    FastWorkerError,
    Forbidden,
    Overloaded,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.transport.websocket import TextMessage

CLOSE_TEXT: Final = 1003
CLOSE_TRY_LATER: Final = 1013
CLOSE_MALFORMED: Final = 4400
CLOSE_UNAUTHENTICATED: Final = 4401
CLOSE_FORBIDDEN: Final = 4403
CLOSE_VERSION: Final = 4406
CLOSE_SILENT: Final = 4408


class PeerSlow(ProtocolError):
    """It does not take what it has asked for."""


class PeerSilent(ProtocolError):
    """Nothing came in time."""


class PeerLeft(AuthenticationFailed):
    """It left without a proof: it has another token, or only looked."""


def close_code(error: FastWorkerError) -> int:
    """The code of the WebSocket's close frame."""
    match error:
        case UnsupportedVersion():
            return CLOSE_VERSION
        case AuthenticationFailed():
            return CLOSE_UNAUTHENTICATED
        case Forbidden():
            return CLOSE_FORBIDDEN
        case PeerSilent():
            return CLOSE_SILENT
        case Overloaded():
            return CLOSE_TRY_LATER
        case TextMessage():
            return CLOSE_TEXT
        case _:
            return CLOSE_MALFORMED
