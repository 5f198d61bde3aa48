"""What a client or subworker uses when it is not told: addresses, and the token for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastworker.config.resolving import environment, resolve
from fastworker.config.settings import Settings
from fastworker.config.tokens import INSECURE_TOKEN, configured_token, runtime_folder
from fastworker.errors import AuthenticationFailed, ControlPlaneUnavailable
from fastworker.local_token import read_local_token
from fastworker.tls import CertificateFiles
from fastworker.wire.addresses import Address
from fastworker.wire.handshake import CERTIFICATE_TOKEN


@dataclass(frozen=True, slots=True)
class ClientDefaults:
    """Where to dial, and with which token.

    Args:
        control_plane_addresses: best first.
        settings: what they came from.
        token_folder: where this user's local tokens are.
    """

    control_plane_addresses: tuple[str, ...]
    settings: Settings
    token_folder: Path

    @property
    def certificate_files(self) -> CertificateFiles:
        """What ``wss://`` addresses are dialled with."""
        settings = self.settings
        return CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_ca)

    def token_for(self, address: Address) -> str:
        """Return the token for ``address``: the configured one, else this machine's local one.

        With a certificate and no token, what stands for one: the certificate says who we are.

        Files are read at each call, so a control plane that made a new local token is found.

        Raises:
            AuthenticationFailed: there is none for that host, and waiting will not bring one.
            ControlPlaneUnavailable: on this machine, none was started yet; try again later.
            InvalidOption: the configured token or its file is not acceptable.
        """
        token = configured_token(self.settings)
        if token is not None:
            return token
        if self.settings.insecure:
            return INSECURE_TOKEN
        if self.settings.tls_cert is not None and address.tls:
            return CERTIFICATE_TOKEN
        if not address.is_loopback:
            raise AuthenticationFailed(
                f"no token for {address}; set FASTWORKER_TOKEN or "
                "FASTWORKER_TOKEN_FILE to the token its control plane was started with"
            )
        token = read_local_token(address.port, folder=self.token_folder)
        if token is None:
            raise ControlPlaneUnavailable(
                f"no control plane of yours listens on {address}; start one "
                "with `fastworker run control-plane`, or set FASTWORKER_TOKEN to the token of the "
                "one that runs"
            )
        return token


def client_defaults(
    environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> ClientDefaults:
    """Return what a client without arguments uses: environment, settings files, defaults.

    Raises:
        InvalidOption: a setting is wrong; the sentence names it and its origin.
    """
    environ = environment() if environ is None else environ
    return defaults_from(resolve({}, environ, cwd).settings, environ)


def defaults_from(settings: Settings, environ: Mapping[str, str]) -> ClientDefaults:
    """Return the same for settings that are resolved already."""
    return ClientDefaults(settings.control_plane_addresses, settings, runtime_folder(environ))
