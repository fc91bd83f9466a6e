"""Certificates for one test run: an authority of our own, and what it signed."""

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
_LEAF = ("basicConstraints=critical,CA:FALSE", "authorityKeyIdentifier=keyid")
_NO_DEFAULTS = "[req]\ndistinguished_name = subject\n[subject]\n"
"""The machine's own configuration of OpenSSL adds extensions that would come twice."""


class Authority:
    """A certificate authority that lives in a folder; `certificate` is its own, in PEM."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self._config.write_text(_NO_DEFAULTS)
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        self._make(self.certificate, self._key, name, _AUTHORITY)

    def issue(self, name: str, alternatives: str) -> Path:
        """Return a file with a certificate for these subject alternative names (`DNS:…,IP:…`) and its key, in PEM."""
        certificate, key, both = (self._folder / f"{name}{end}" for end in (".crt", ".key", ".pem"))
        signed = ("-CA", str(self.certificate), "-CAkey", str(self._key))
        self._make(certificate, key, name, (*_LEAF, f"subjectAltName={alternatives}"), *signed)
        both.write_text(key.read_text() + certificate.read_text())
        return both

    def _make(self, certificate: Path, key: Path, name: str, extensions: tuple[str, ...], *more: str) -> None:
        command = ["openssl", "req", "-x509", "-config", str(self._config), *_KEY, "-days", "1", "-subj", f"/CN={name}"]
        command += ["-out", str(certificate), "-keyout", str(key), *more]
        for extension in extensions:
            command += ["-addext", extension]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
