"""Two daemons cannot share one data directory; the second says who has it."""

import subprocess

from harness import smtp
from harness.case import Case
from harness.settings import BINARY


class SecondInstance(Case):
    def test_it_ends_with_one_line(self):
        first = self.daemon().start()
        beside = self.place / "second"
        beside.mkdir()
        second = self.daemon({"server": {"data_dir": str(self.place / "data")}}, place=beside)
        done = subprocess.run([BINARY, "run", "--config", second.config_file], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(str(first.process.pid), done.stderr)
        self.assertIn("data", done.stderr)
        first.send(smtp.message("undisturbed"))
        first.filed("undisturbed")

    def test_with_the_same_file_and_so_the_same_ports_too(self):
        first = self.daemon().start()
        done = subprocess.run([BINARY, "run", "--config", first.config_file], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 1, done.stderr)
        said = done.stderr.splitlines()[-1]
        self.assertIn(f"is held by process {first.process.pid} (", said)
        self.assertIn("stop it first", said)
        self.assertNotIn("cannot listen", done.stderr)
        first.send(smtp.message("undisturbed"))
        first.filed("undisturbed")
        self.assertEqual(first.command("status").returncode, 0)

    def test_after_a_kill_the_next_one_starts(self):
        ticketgate = self.daemon().start()
        ticketgate.kill()
        ticketgate.start()
        self.assertEqual(ticketgate.stop(), 0)
