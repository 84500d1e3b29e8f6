"""What every system test starts from: a directory of its own, daemons that are ended with it."""

import os
import shutil
import signal
import tempfile
import unittest
from pathlib import Path

from .daemon import Daemon
from .settings import WORK


class Case(unittest.TestCase):
    # Seconds that a test may take, whatever it waits for; a soak allows itself more.
    deadline = 120

    def setUp(self):
        signal.signal(signal.SIGALRM, self._too_late)
        signal.alarm(self.deadline)
        self.addCleanup(signal.alarm, 0)
        self.daemons = []
        self.place = Path(tempfile.mkdtemp(prefix="ticketgate-", dir=WORK))
        # Peers such as Postfix run as users of their own.
        os.chmod(self.place, 0o755)
        self.addCleanup(self._clear)

    def daemon(self, changes=None, place=None):
        """A daemon that is not started yet, in this test's directory."""
        made = Daemon(place or self.place, changes)
        self.daemons.append(made)
        return made

    def report(self, text):
        """A figure worth reading beside the test's result."""
        self.figures = [*getattr(self, "figures", []), text]

    def _too_late(self, *_):
        raise AssertionError(f"not at its end after {self.deadline} s\n" + "\n".join(d.log() for d in self.daemons))

    def _clear(self):
        for daemon in self.daemons:
            daemon.kill()
        result = self._outcome and self._outcome.result
        broken = result and any(test is self for test, _ in result.failures + result.errors)
        if broken and os.environ.get("KEEP"):
            print(f"      kept: {self.place}", flush=True)
        else:
            shutil.rmtree(self.place, ignore_errors=True)
