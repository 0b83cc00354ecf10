"""Processes that the driver starts, talks to in lines, and ends.

Only processes started here are ever signalled, and none outlives the driver:
those that read lines end with their standard input, the rest by `end_all`.
"""

import json
import os
import queue
import signal
import subprocess
import threading

_running = set()
_running_lock = threading.Lock()


class Died(Exception):
    """A process ended, or said nothing, when an answer was due."""


class Process:
    """One child process: commands to its stdin, JSON lines from its stdout."""

    def __init__(self, name, command, log):
        self.name = name
        self._log = log
        with open(log, "ab") as stderr:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # Ctrl-C reaches the driver alone, which then ends its children.
                start_new_session=True,
            )
        with _running_lock:
            _running.add(self)
        self._answers = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._child.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def ask(self, line, timeout):
        """Sends a command; its answer, parsed."""
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise Died(f"{self.name} ended; see {self._log}") from None
        return self.answer(timeout, line)

    def answer(self, timeout, question="its first line"):
        """The next JSON line that the process prints."""
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise Died(f"{self.name} did not answer {question!r} in {timeout} s") from None
        if line is None:
            raise Died(f"{self.name} ended at {question!r}; see {self._log}")
        answer = json.loads(line)
        if "error" in answer:
            raise Died(f"{self.name}: {answer['error']}")
        return answer

    def running(self):
        return self._child.poll() is None

    def signal(self, number):
        self._child.send_signal(number)

    def kill(self):
        """As a machine dies: at once, without a word to anybody."""
        self._child.kill()
        self._forget()

    def end(self, grace=3.0):
        """Lets it end by itself, then makes it."""
        try:
            self._child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._forget()

    def _forget(self):
        self._child.wait()
        with _running_lock:
            _running.discard(self)
        self._reader.join(1)


def end_all():
    """Kills what still runs; also what is stopped by SIGSTOP."""
    with _running_lock:
        left = list(_running)
    for process in left:
        process.kill()


def end_all_on_signal():
    def over(number, _frame):
        end_all()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, over)
    signal.signal(signal.SIGINT, over)
