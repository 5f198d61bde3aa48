"""Sees that the file of issued tokens has changed, and ends connections that nothing opens now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from fastworker.errors import AuthenticationFailed, InvalidOption
from fastworker.server.connections import Connections
from fastworker.server.identities import Identities
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.token_file import Stamp, Tokens, read_tokens, stamp_of

logger = logging.getLogger("fastworker.server")

LOOK_EVERY_SECONDS: Final = 0.5
"""How long a revoked or expired token may still hold a connection, and a new one open none. The
file may be on any file system, and not every one tells of its changes."""


def load_issued(settings: ControlPlaneSettings) -> Tokens:
    """All issued tokens that the settings name.

    Raises:
        InvalidOption: their file cannot be used.
    """
    if settings.tokens_file is None:
        return settings.issued_tokens
    issued = (*settings.issued_tokens, *read_tokens(settings.tokens_file))
    for token in issued:
        if token.identity.token_id in settings.tokens:
            logger.warning(
                "the token %s in %s has the id of the shared token, so it opens nothing; "
                "revoke it and make one with another name",
                token.identity.token_id,
                settings.tokens_file,
            )
    return issued


class TokenWatch:
    """Follows the file of one control plane, from its start on.

    Raises:
        InvalidOption: the file cannot be used.
    """

    def __init__(self, settings: ControlPlaneSettings, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._wall = wall
        self._stamp = self._look()
        self.identities = Identities(settings.tokens, load_issued(settings), wall=wall)
        """Who is let in now."""

    async def serve_forever(self, connections: Connections) -> None:
        """End the connections of tokens that were revoked or expire, until cancelled."""
        looked_at = self._wall()
        while True:
            expires_at = self.identities.next_expiry(looked_at)
            if expires_at is None and self._settings.tokens_file is None:
                await trio.sleep_forever()
            await trio.sleep(LOOK_EVERY_SECONDS)
            changed = await self._take_changes()
            looked_at = self._wall()
            if changed or (expires_at is not None and looked_at >= expires_at):
                self._end_invalid(connections)

    async def _take_changes(self) -> bool:
        if self._settings.tokens_file is None:
            return False
        stamp = await trio.to_thread.run_sync(self._look)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            issued = await trio.to_thread.run_sync(load_issued, self._settings)
        except InvalidOption as error:
            logger.error("%s; the tokens known before stay as they are", error)
            return False
        self.identities.replace(issued)
        return True

    def _look(self) -> Stamp | None:
        path = self._settings.tokens_file
        return None if path is None else stamp_of(path)

    def _end_invalid(self, connections: Connections) -> None:
        stands = self.identities.stands
        count = connections.end_those(lambda who: not stands(who), _no_longer_valid)
        if count:
            logger.info(
                "connections ended because their tokens were revoked, changed or have expired: %d",
                count,
            )


def _no_longer_valid() -> AuthenticationFailed:
    return AuthenticationFailed(
        "this token was revoked, was changed, or has expired; "
        "use another one (see `fastworker token list` where the control plane runs)"
    )
