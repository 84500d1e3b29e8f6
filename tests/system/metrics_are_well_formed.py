"""promtool accepts the metrics of a daemon that has seen mail; the numbers are those of what happened."""

import re
import subprocess

from harness import smtp
from harness.case import Case
from harness.settings import need


class Metrics(Case):
    def test_promtool_accepts_them(self):
        need("promtool")
        ticketgate = self.daemon().start()
        ticketgate.send(smtp.message("one"))
        ticketgate.settle("marker")
        text = ticketgate.metrics()
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        strange = {name for name in names if not name.startswith(("ticketgate_", "process_"))}
        self.assertEqual(strange, set())
        self.report(f"{len(names)} metrics, {sum(not line.startswith('#') for line in text.splitlines())} series")

    def test_they_count_what_happened(self):
        ticketgate = self.daemon().start()
        for number in range(3):
            ticketgate.send(smtp.message(f"mail-{number}"))
        ticketgate.settle("marker")
        text = ticketgate.metrics()
        self.assertRegex(text, r'(?m)^ticketgate_mails_accepted_total{door="smtp"} 4$')
        self.assertRegex(text, r"(?m)^ticketgate_spool_mails 0$")
        self.assertTrue(re.search(r'(?m)^ticketgate_build_info{version="[^"]+"} 1$', text))
        self.assertEqual((ticketgate.probe("/healthz"), ticketgate.probe("/readyz")), (200, 200))
        self.assertNotIn("alice@example.net", text)
        self.assertNotIn("mail-0", text)
