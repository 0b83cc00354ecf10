"""Backends that say who they are."""

import process


class Backend:
    """One backend process at a port of its own."""

    def __init__(self, binary, address, log, certificate=None):
        self.address = address
        self._command = [binary, "--listen", address]
        if certificate:
            self._command += ["--cert", certificate.cert, "--key", certificate.key]
        self._log = log
        self._process = None
        self.start()

    def start(self):
        self._process = process.Process(f"backend {self.address}", self._command, self._log)
        self._process.answer(10)

    def kill(self):
        self._process.kill()

    def counts(self):
        """`calls`, `without_token`, and calls by token in `tokens`, since it started."""
        return self._process.ask("counts", 10)

    def end(self):
        self._process.end()
