"""What a control plane may listen on without being told twice."""

from __future__ import annotations

from collections.abc import Sequence

from fastworker.errors import InvalidOption
from fastworker.wire.addresses import Address


def check_listen_safety(
    addresses: Sequence[Address], *, has_token: bool, has_tls: bool, insecure: bool
) -> str | None:
    """Return a warning to log at the start, or None if all is well.

    Args:
        addresses: all that will be listened on.
        has_token: a token was configured (the local token of this machine does not count), or
            everybody must show a certificate.
        has_tls: a certificate was configured.
        insecure: the user asked to go on without a token.

    Raises:
        InvalidOption: other hosts could connect and there is no token.
    """
    open_to_others = [a for a in addresses if not a.is_loopback]
    if not open_to_others:
        return None
    where = ", ".join(str(a) for a in open_to_others)
    if not has_token and not insecure:
        raise InvalidOption(
            f"refusing to listen on {where} without a token, because other hosts can connect; "
            "set FASTWORKER_TOKEN or --token-file, or issue tokens with `fastworker token create`, "
            "or listen on 127.0.0.1, or say --insecure here and in every client"
        )
    if not has_token:
        secrecy = "" if has_tls else ", and read jobs and results on the network, without TLS"
        return f"listening on {where} without a token: whoever can connect can run tasks{secrecy}"
    if not has_tls:
        return (
            f"listening on {where} without TLS: jobs and results can be read on the network "
            "(the token cannot); --tls-cert and --tls-key encrypt them"
        )
    return None
