"""The tokens that open this control plane, and who holds each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fastworker.core.records import ALL_TENANTS
from fastworker.server.identity import Identity

INSECURE_KEY: Final = b"insecure-no-token-was-configured-here"
"""With ``insecure`` and no token every peer uses this well-known one."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token made for one holder, or the name of a certificate that is as good as one.

    Args:
        text: the whole token, a secret that is never shown again; None for a certificate.
        identity: who holds it.
        certificate: the name in the certificate; None for a token.
    """

    text: str | None = field(repr=False)
    identity: Identity
    certificate: str | None = None


class Identities:
    """All tokens that are valid now.

    Args:
        shared: token text by token id: what the operator's own processes use, with every role in
            every tenant. Empty: everybody is let in.
        issued: the tokens made for others.
    """

    def __init__(self, shared: Mapping[str, str], issued: Iterable[IssuedToken] = ()) -> None:
        self._shared = {name: text.encode() for name, text in shared.items()}
        self._issued = {token.identity.token_id: token for token in issued}

    def key(self, token_id: str) -> bytes | None:
        """The whole token of this id, None if there is no such token."""
        issued = self._issued.get(token_id)
        if issued is not None:
            return None if issued.text is None else issued.text.encode()
        if not self._shared:
            return INSECURE_KEY
        return self._shared.get(token_id)

    def identity(self, token_id: str) -> Identity:
        """Who holds the token of this id, which `key` has just found."""
        issued = self._issued.get(token_id)
        return Identity(token_id, ALL_TENANTS) if issued is None else issued.identity

    def certificate(self, name: str) -> Identity | None:
        """Whom the certificate of this name stands for, if it opens anything."""
        found = (each.identity for each in self._issued.values() if each.certificate == name)
        return next(found, None)
