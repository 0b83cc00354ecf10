"""Backends that say who they are."""

import process


class Backend:
    """One backend process at a port of its own; `words` start it."""

    def __init__(self, words, address, log, certificate=None):
        self.address = address
        self._command = [*words, "--listen", address]
        if certificate:
            self._command += ["--cert", certificate.cert, "--key", certificate.key]
        self._log = log
        self._process = None
        self.start()

    def start(self):
        self._process = process.Process(f"backend {self.address}", self._command, self._log)
        # A Java one has a virtual machine to start.
        self._process.answer(30)

    def kill(self):
        self._process.kill()

    def counts(self):
        """`calls`, `without_token`, and calls by token in `tokens`, since it started."""
        return self._process.ask("counts", 10)

    def health(self, status):
        """What it says of itself from now on: `serving` or `not_serving`."""
        self._process.ask(f"health {status}", 10)

    def end(self):
        self._process.end()
