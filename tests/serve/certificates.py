# SPDX-License-Identifier: Apache-2.0
"""Certificates that sign themselves, for tests."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


def write_certificate(folder: Path) -> Path:
    """Write ``cert.pem`` for localhost and ``key.pem``, and what is no such pair.

    That is ``locked.pem``, the same key with a password, ``other.pem``, another key, and ``text.pem``, which is none.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*PEM, serialization.NoEncryption()))
    (folder / "locked.pem").write_bytes(key.private_bytes(*PEM, serialization.BestAvailableEncryption(b"word")))
    (folder / "other.pem").write_bytes(other.private_bytes(*PEM, serialization.NoEncryption()))
    (folder / "text.pem").write_text("hello")
    return folder
