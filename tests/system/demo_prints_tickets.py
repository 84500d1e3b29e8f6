"""`ticketgate demo`: the first thing that a newcomer runs."""

import os
import subprocess

from harness.case import Case
from harness.settings import BINARY


class Demo(Case):
    def test_it_prints_tickets_and_ends(self):
        home = self.place / "home"
        home.mkdir()
        done = subprocess.run(
            [BINARY, "demo"], capture_output=True, text=True, timeout=60, cwd=home,
            env=os.environ | {"TMPDIR": str(self.place), "NO_COLOR": "1"},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for word in ("opened", "appended", "duplicate"):
            self.assertIn(word, done.stdout.lower())
        self.assertRegex(done.stdout, r"(?m)^.*\b1\b.*@")
        self.assertEqual(list(home.iterdir()), [], "it left something in the current directory")
        self.assertEqual([p.name for p in self.place.iterdir() if p != home], [], "it left its temporary directory")

    def test_two_at_once(self):
        both = [subprocess.Popen([BINARY, "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
        for demo in both:
            output, _ = demo.communicate(timeout=60)
            self.assertEqual(demo.returncode, 0, output)
