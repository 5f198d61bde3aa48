"""The tokens that open this control plane, and who holds each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fastworker.core.records import ALL_TENANTS
from fastworker.server.identity import Identity
from fastworker.wire.handshake import CERTIFICATE_TOKEN

INSECURE_KEY: Final = b"insecure-no-token-was-configured-here"
"""With ``insecure`` and no token every peer uses this well-known one."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token made for one holder, or the name of a certificate that is as good as one.

    Args:
        text: the whole token, a secret that is never shown again; None for a certificate.
        identity: who holds it.
        certificate: the name in the certificate; None for a token.
        created_at: wall seconds.
    """

    text: str | None = field(repr=False)
    identity: Identity
    certificate: str | None = None
    created_at: float = 0.0


class Identities:
    """All tokens that are valid now.

    Args:
        shared: token text by token id: what the operator's own processes use, with every role in
            every tenant. Empty: everybody is let in.
        issued: the tokens made for others. One with the id of a shared token is not heeded.
        wall: the time of day in seconds.
    """

    def __init__(
        self,
        shared: Mapping[str, str],
        issued: Iterable[IssuedToken] = (),
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._shared = {name: text.encode() for name, text in shared.items()}
        self._wall = wall
        self._issued: dict[str, IssuedToken] = {}
        self._by_certificate: dict[str, IssuedToken] = {}
        self.replace(issued)

    def replace(self, issued: Iterable[IssuedToken]) -> None:
        """From now on these are the issued tokens; one that is as it was stays valid."""
        before = self._issued
        self._issued = {
            token.identity.token_id: token
            for each in issued
            if (token := _same_or_new(before, each)).identity.token_id not in self._shared
        }
        self._by_certificate = {
            token.certificate: token
            for token in self._issued.values()
            if token.certificate is not None
        }

    def key(self, token_id: str) -> bytes | None:
        """The whole token of this id, None if there is no such token, or no longer."""
        issued = self._issued.get(token_id)
        if issued is None:
            return self._shared.get(token_id) if self._shared else INSECURE_KEY
        if issued.text is None or self._has_expired(issued.identity):
            return None
        return issued.text.encode()

    def signing_key(self, token_id: str, *, connected: bool = False) -> bytes | None:
        """The same, also of a token that has expired: for what its holder asked for before.

        A certificate has no secret to sign with.

        Args:
            connected: for something that is said over a connection of the holder's own, where a
                certificate has proved more than a signature would.
        """
        issued = self._issued.get(token_id)
        if issued is None:
            return self.key(token_id)
        if issued.text is None:
            return CERTIFICATE_TOKEN.encode() if connected else None
        return issued.text.encode()

    def identity(self, token_id: str) -> Identity:
        """Who holds the token of this id, which `key` has just found."""
        issued = self._issued.get(token_id)
        return Identity(token_id, ALL_TENANTS) if issued is None else issued.identity

    def certificate(self, name: str) -> Identity | None:
        """Whom the certificate of this name stands for, if it opens anything now."""
        issued = self._by_certificate.get(name)
        if issued is None or self._has_expired(issued.identity):
            return None
        return issued.identity

    def stands(self, identity: Identity) -> bool:
        """Whether an identity that was given out is still valid: not revoked, changed, expired."""
        issued = self._issued.get(identity.token_id)
        if issued is None:
            ours = identity.token_id in self._shared or not self._shared
            return ours and identity == Identity(identity.token_id, ALL_TENANTS)
        return issued.identity is identity and not self._has_expired(identity)

    def next_expiry(self, after: float) -> float | None:
        """When the first one expires after a moment, in wall seconds; None: none will."""
        moments = (token.identity.expires_at for token in self._issued.values())
        return min((at for at in moments if at is not None and at > after), default=None)

    def _has_expired(self, identity: Identity) -> bool:
        return identity.expires_at is not None and identity.expires_at <= self._wall()


def _same_or_new(before: Mapping[str, IssuedToken], token: IssuedToken) -> IssuedToken:
    """The one that was known already, if nothing in it has changed: identities are compared by
    which they are, so that a token made anew under an old id does not keep connections of the
    old one."""
    known = before.get(token.identity.token_id)
    return known if known == token else token
