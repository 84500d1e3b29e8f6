"""The configurations that we ship are accepted by the daemon, and a wrong one is refused with all its faults."""

import subprocess

from harness.case import Case
from harness.settings import BINARY, ROOT


class ShippedFiles(Case):
    def check(self, file):
        return subprocess.run([BINARY, "check", "--config", file], capture_output=True, text=True, timeout=30)

    def test_shipped_configurations_are_right(self):
        files = sorted((ROOT / "config").glob("*.toml"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            with self.subTest(file.name):
                done = self.check(file)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_faults_are_told_at_once(self):
        file = self.place / "wrong.toml"
        file.write_text('[server]\nhostnam = "x"\n\n[[channel]]\naddress = "not an address"\n')
        done = self.check(file)
        self.assertEqual(done.returncode, 1)
        told = done.stdout + done.stderr
        for word in ("hostnam", "hostname", "2", "not an address", "5"):
            self.assertIn(word, told)

    def test_the_binary_documents_itself(self):
        for arguments, word in ((("--help",), "demo"), (("man",), ".TH"), (("completions", "bash"), "complete"), (("--version",), "ticketgate")):
            with self.subTest(arguments):
                done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=30)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(word, done.stdout)
