"""Which role a client's message needs. Whose jobs it may be about is another question."""

from __future__ import annotations

from typing import Final

from fastworker.errors import Forbidden
from fastworker.server.identity import Identity, Role
from fastworker.wire.messages import Cancel, Introduce, Manage, Message, StreamPull, Submit

_ADMINISTRATION: Final = frozenset({"pause", "resume", "discard"})
"""Changes that concern everybody."""


def refusal(identity: Identity, message: Message) -> Forbidden | None:
    """Why its sender may not have this done; None: it may.

    What no client may say at all is not judged here.
    """
    if Role.ADMIN in identity.roles:
        return None
    match message:
        case Manage() if message.what in _ADMINISTRATION:
            return _needs("admin", f"to {message.what}", identity)
        case Submit() | Manage() if not identity.may_submit:
            what = "to submit" if isinstance(message, Submit) else "to replay"
            return _needs("submit", what, identity)
        case Cancel() if not identity.may_submit:
            return _needs("submit", "to cancel", identity)
        case StreamPull() if not identity.may_submit:
            return _needs("submit", "to take the items of a stream", identity)
        case Introduce() if message.callbacks and not identity.may_submit:
            return _needs("submit", "to take callbacks", identity)
    return None


def _needs(role: str, what: str, identity: Identity) -> Forbidden:
    return Forbidden(f"{identity.described}; {what} needs a token with the role {role}")
