"""TLS contexts made from certificate files, and what to say when a handshake fails.

Every context asks for TLS 1.2 or later, and a dialler always checks the listener's certificate
and the name in it. The files are looked at again for each connection: one that was replaced is
in force from the next connection on, without a restart.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastworker.errors import (
    AuthenticationFailed,
    ControlPlaneUnavailable,
    FastWorkerError,
    InvalidOption,
)

logger = logging.getLogger("fastworker.tls")

OLDEST: Final = ssl.TLSVersion.TLSv1_2

UPGRADE_TO_TLS: Final = "TLS/1.2"
"""What a port with TLS names in the header ``Upgrade`` when it is spoken to without."""

_HAS_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_WRONG_NAME: Final = frozenset({62, 63, 64})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_… numbers."""

_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)
_AROUND_REASON: Final = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
_OLD_TLS: Final = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "ALERT_PROTOCOL_VERSION",
        "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED",  # OpenSSL 3.0 at default security
    }
)
_NO_CERTIFICATE: Final = frozenset(
    {"ALERT_CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"}
)
_BAD_CERTIFICATE: Final = frozenset(
    {
        "ALERT_UNKNOWN_CA",
        "ALERT_BAD_CERTIFICATE",
        "ALERT_UNSUPPORTED_CERTIFICATE",
        "ALERT_CERTIFICATE_UNKNOWN",
        "ALERT_CERTIFICATE_REVOKED",
        "ALERT_DECRYPT_ERROR",
        "ALERT_ACCESS_DENIED",
    }
)
"""Reasons as OpenSSL names them, those of alerts without the version in front."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The PEM files of one process.

    Args:
        certificate, key: what it shows of itself; both or neither.
        authorities: who must have signed what the other side shows. None: for a dialler those
            that the system trusts; a listener then asks for no certificate.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


class Contexts:
    """The context for the next connection, made again when its files have changed.

    Args:
        files: looked at now, and at each call of `current`.
        make: makes a context of them.
        at_once: False waits until one is needed: to read what the system trusts takes long, and
            few ever dial with TLS.

    Raises:
        InvalidOption: the files cannot be used.
    """

    def __init__(
        self,
        files: CertificateFiles,
        make: Callable[[CertificateFiles], ssl.SSLContext],
        *,
        at_once: bool = True,
    ) -> None:
        self.files = files
        self._make = make
        self._seen = self._look()
        self._context = make(files) if at_once else None

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are; while they do not fit together, the last one."""
        if self._context is None:
            self._context = self._make(self.files)
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = self._make(self.files)
            except InvalidOption as error:
                logger.warning("certificates have changed and cannot be used yet: %s", error)
            else:
                logger.info("certificates have changed; new connections use them")
        return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        files = self.files
        return [_stamp(path) for path in (files.certificate, files.key, files.authorities)]


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def dialler_context(files: CertificateFiles) -> ssl.SSLContext:
    """A context for whoever dials.

    Raises:
        InvalidOption: a file cannot be used.
    """
    context = (
        ssl.create_default_context()
        if files.authorities is None
        else _trusting(files.authorities, ssl.Purpose.SERVER_AUTH)
    )
    return _finish(context, files)


def listener_context(files: CertificateFiles) -> ssl.SSLContext:
    """A context for a listener: with ``authorities``, everybody must show a certificate.

    Raises:
        InvalidOption: a file cannot be used.
    """
    if files.authorities is None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    else:
        context = _trusting(files.authorities, ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    # Connections last for hours; a ticket to resume them would only be kept for nothing.
    context.num_tickets = 0
    return _finish(context, files)


def _trusting(authorities: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(purpose, cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise InvalidOption(
            f"--tls-ca {authorities} cannot be used: it must be a file in PEM format with the "
            f"certificates of authorities ({_reason(error)})"
        ) from error


def _finish(context: ssl.SSLContext, files: CertificateFiles) -> ssl.SSLContext:
    context.minimum_version = OLDEST
    if files.certificate is None:
        return context
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise InvalidOption(
            f"--tls-cert {files.certificate} and --tls-key {files.key} cannot be used as a "
            "certificate and its key: both must be files in PEM format, and the key must fit "
            f"the certificate ({_reason(error)})"
        ) from error
    return context


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal, which would wait for ever."""
    raise InvalidOption(
        "the key of --tls-key is encrypted; give one that is not, readable by you alone"
    )


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)


def certificate_names(shown: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names in a certificate that was checked, as ``getpeercert`` gives it.

    Its DNS names and URIs; if it has none, its common name.
    """
    if not shown:
        return ()
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "URI")]
    if not names:
        names = [
            value for part in shown.get("subject", ()) for key, value in part if key == "commonName"
        ]
    return tuple(dict.fromkeys(names))


def _reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name for what went wrong; of one that Python has no name for, its words."""
    words = error.reason or _AROUND_REASON.sub("", str(error))
    return words.upper().replace(" ", "_")


def explain_tls(error: BaseException, place: str) -> FastWorkerError | None:
    """What the failure of a TLS connection means for whoever dialled; None if it is no such.

    Args:
        error: what was raised; the cause may be anywhere in it.
        place: the address that was dialled.
    """
    found = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if found is None:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return AuthenticationFailed(_not_trusted(found, place))
    reason = _reason_of(found)
    alert = reason[reason.find("ALERT_") :] if "ALERT_" in reason else reason
    if reason in _NOT_TLS:
        return ControlPlaneUnavailable(
            f"what answers at {place} does not speak TLS; write its address with tcp:// instead "
            "of wss://, or start its control plane with --tls-cert and --tls-key"
        )
    if alert in _OLD_TLS:
        return ControlPlaneUnavailable(
            f"{place} and this side have no TLS version in common; both need TLS 1.2 or later, "
            "so upgrade the older of the two, or what stands between them"
        )
    if alert in _NO_CERTIFICATE:
        return AuthenticationFailed(
            f"{place} lets in only who shows a certificate; give yours with --tls-cert and "
            "--tls-key (FASTWORKER_TLS_CERT, FASTWORKER_TLS_KEY)"
        )
    if alert == "ALERT_CERTIFICATE_EXPIRED":
        return AuthenticationFailed(
            f"{place} says that the certificate of this side (--tls-cert) has expired; renew it"
        )
    if alert in _BAD_CERTIFICATE:
        return AuthenticationFailed(
            f"{place} does not accept the certificate of this side (--tls-cert); it must be "
            "signed by an authority in the --tls-ca of the control plane"
        )
    if alert == "ALERT_HANDSHAKE_FAILURE":
        return AuthenticationFailed(
            f"{place} refused the TLS handshake: it may want a certificate (--tls-cert and "
            "--tls-key), or have no cipher in common with this side"
        )
    if isinstance(found, ssl.SSLEOFError):
        return left_opening(place)
    return ControlPlaneUnavailable(
        f"TLS with {place} failed ({_reason(found)}); is this the control plane's address?"
    )


def left_opening(place: str) -> ControlPlaneUnavailable:
    """What to say of a connection that the other side has closed in the middle of a handshake."""
    return ControlPlaneUnavailable(
        f"{place} closed the connection while it was being opened; it may have too many just now, "
        "or is this not the control plane's address?"
    )


def wants_tls(place: str) -> ControlPlaneUnavailable:
    """What to say to whoever dialled a port with TLS without it."""
    return ControlPlaneUnavailable(
        f"the control plane at {place} speaks TLS; write its address with wss:// instead of tcp://"
    )


def _not_trusted(error: ssl.SSLCertVerificationError, place: str) -> str:
    match error.verify_code:
        case code if code in _UNKNOWN_AUTHORITY:
            return (
                f"the certificate of {place} is not signed by an authority that is trusted here; "
                "give the file of its authority with --tls-ca (FASTWORKER_TLS_CA)"
            )
        case code if code in _WRONG_NAME:
            return (
                f"the certificate of {place} is for another name; dial a name that it holds, or "
                "give the control plane a certificate that holds this one"
            )
        case code if code == _HAS_EXPIRED:
            return (
                f"the certificate of {place} has expired; renew the control plane's --tls-cert, "
                "or check the clock of this machine"
            )
        case code if code == _NOT_YET_VALID:
            return (
                f"the certificate of {place} is not valid yet; check the clock of this machine "
                "and the control plane's --tls-cert"
            )
    return (
        f"the certificate of {place} cannot be trusted: {error.verify_message}; check the control "
        "plane's --tls-cert, and --tls-ca here"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what is in it if it is a group, and what led to each, nearest first."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [one.__cause__, one.__context__]
