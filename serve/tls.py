# SPDX-License-Identifier: Apache-2.0
"""The certificate of a service, looked at before anything is started."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import as_path, reason_of


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate, as absolute paths.

    Attributes:
        file: The certificate, with those between it and the root, PEM.
        key: Its private key without a password, PEM.
    """

    file: Path
    key: Path

    @classmethod
    def of(cls, file: str, key: str) -> Certificate:
        """Find the files and see whether they belong together.

        Raises:
            InputError: If one can not be read, is not what it should be, or has a password.
        """
        certificate = cls(
            as_path(file, "The file of tls_certificate").absolute(), as_path(key, "The file of tls_key").absolute()
        )
        for name, path in (("tls_certificate", certificate.file), ("tls_key", certificate.key)):
            try:
                path.read_bytes()
            except OSError as error:
                raise InputError(
                    f"The field '{name}' is '{path}', but it can not be read: {reason_of(error)}."
                ) from None

        def refuse_password() -> str:
            raise InputError(f"The field 'tls_key' is '{certificate.key}', but that key has a password; remove it.")

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                certificate.file, certificate.key, password=refuse_password
            )
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                reason = f"that is not the certificate of the key '{certificate.key}'"
            else:
                reason = f"it and '{certificate.key}' are no PEM files of a certificate and its key"
            raise InputError(f"The field 'tls_certificate' is '{certificate.file}', but {reason}.") from None
        return certificate
