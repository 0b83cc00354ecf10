"""A throw-away CA, and certificates for one name each, by the openssl command."""

import dataclasses
import pathlib
import subprocess

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclasses.dataclass
class Certificate:
    """PEM files."""

    cert: pathlib.Path
    key: pathlib.Path


class Authority:
    """Signs what this run needs."""

    def __init__(self, folder):
        self._folder = folder
        self.ca = self._pem("ca")
        _openssl(
            ["req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=lookaside interop"]
            + ["-keyout", self.ca.key, "-out", self.ca.cert]
        )

    def sign(self, name):
        """A server certificate for this DNS name and no other."""
        leaf = self._pem(name)
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"
        )
        _openssl(["req", *_KEY, "-subj", f"/CN={name}", "-keyout", leaf.key, "-out", request])
        _openssl(
            ["x509", "-req", "-days", "2", "-in", request, "-out", leaf.cert]
            + ["-CA", self.ca.cert, "-CAkey", self.ca.key, "-CAcreateserial", "-extfile", extensions]
        )
        return leaf

    def _pem(self, name):
        return Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")


def _openssl(words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)
