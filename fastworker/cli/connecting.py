"""A connected client for one command, or the reason why there is none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fastworker.config import INSECURE_TOKEN, Settings, configured_token, defaults_from, environment
from fastworker.errors import ClientNotReady
from fastworker.logs import configure_logging
from fastworker.tls import dialler_context
from fastworker.wire.addresses import parse_address
from fastworker.wire.handshake import CERTIFICATE_TOKEN

if TYPE_CHECKING:
    from fastworker.client.blocking import BlockingClient

CONNECT_SECONDS: Final = 3.0
"""Someone is watching: longer than a slow handshake, shorter than patience."""


@contextmanager
def connected_client(settings: Settings) -> Iterator[BlockingClient]:
    """Give a client that is connected.

    Raises:
        ControlPlaneUnavailable: none was reached, at the first try or within a few seconds.
        AuthenticationFailed: it was reached and refused the token, now or after a while.
    """
    from fastworker.client.blocking import BlockingClient

    configure_logging("error")  # the client's tries would repeat what the error says
    with BlockingClient(
        control_plane_address=",".join(settings.control_plane_addresses),
        token=_token(settings),
        tls=_tls(settings),
        submit_timeout=CONNECT_SECONDS,
    ) as client:
        client.wait_connected(CONNECT_SECONDS, retry=False)
        client._end_when_refused()
        try:
            yield client
        except ClientNotReady as error:
            if (refusal := client._refusal()) is not None:
                raise refusal from error
            raise


def _token(settings: Settings) -> str | None:
    token = configured_token(settings)
    if token is None and settings.insecure:
        return INSECURE_TOKEN
    if token is None and settings.tls_cert is not None and _dials_tls(settings):
        return CERTIFICATE_TOKEN
    return token  # None: the client finds this machine's local one


def _dials_tls(settings: Settings) -> bool:
    return all(parse_address(text).tls for text in settings.control_plane_addresses)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Of the flags; None: the client looks into the environment, where there is no more."""
    if not any(parse_address(text).tls for text in settings.control_plane_addresses):
        return None
    return dialler_context(defaults_from(settings, environment()).certificate_files)
