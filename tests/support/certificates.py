"""Certificates for one test: an authority of its own, and what it signs, as files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from fastworker.tls import CertificateFiles

LONG_AGO = datetime.now(UTC) - timedelta(days=30)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


class Authority:
    """Signs certificates into a folder.

    Args:
        folder: where its own certificate is, ``<name>.pem``, and all that it signs.
        name: tells authorities of one folder apart.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(
        self, *names: str, stem: str = "server", common_name: str | None = None, valid: bool = True
    ) -> CertificateFiles:
        """Sign a certificate for these names; ``stem`` names its files, an old one is replaced.

        Returns:
            Its files, and this authority's for what the other side shows.
        """
        if valid:
            leaf = self._ca.issue_cert(*names, common_name=common_name)
        else:
            leaf = self._ca.issue_cert(
                *names, common_name=common_name, not_before=LONG_AGO, not_after=YESTERDAY
            )
        cert, key = self._folder / f"{stem}.cert.pem", self._folder / f"{stem}.key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return CertificateFiles(cert, key, self.file)

    def trusting(self) -> ssl.SSLContext:
        """A dialler's context that trusts this authority alone, and shows nothing."""
        return ssl.create_default_context(cafile=self.file)
