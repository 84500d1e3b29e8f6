"""SIGHUP: a faulty file changes nothing and the log says why; a good one takes effect, and sessions go on."""

import re

from harness import smtp, tls
from harness.case import Case
from harness.config import SUPPORT
from harness.wait import until

SALES = {"address": "sales@localhost", "name": "Sales", "queue": "Support"}


class Reload(Case):
    def reloads(self, result):
        """How many reloads had this result, from the metrics."""
        found = re.search(rf'^ticketgate_config_reloads_total{{result="{result}"}} (\d+)', self.ticketgate.metrics(), re.M)
        return int(found[1]) if found else 0

    def reload(self, result):
        before = self.reloads(result)
        self.ticketgate.reload()
        until(lambda: f"a reload is {result}\n{self.ticketgate.log()}", lambda: self.reloads(result) > before)

    def problems(self):
        return {problem["code"]: problem["said"] for problem in self.ticketgate.admin.get("/v1/status")["problems"]}

    def test_channels_change(self):
        self.ticketgate = self.daemon().start()
        with smtp.Client(self.ticketgate.port) as session:
            session.greet()
            session.say("MAIL FROM:<alice@example.net>")
            session.say("RCPT TO:<sales@localhost>", 550)
            self.ticketgate.configure({"channel": [SUPPORT, SALES]})
            self.reload("applied")
            session.say("RSET")
            session.mail(smtp.message("to-sales"), recipients=["sales@localhost"])
        self.assertEqual(self.ticketgate.filed("to-sales")["channel"], "sales@localhost")

    def test_a_faulty_file_changes_nothing(self):
        self.ticketgate = self.daemon().start()
        text = self.ticketgate.config_file.read_text()
        self.ticketgate.config_file.write_text(text.replace("support@localhost", "other@localhost") + "\n[smtp.nonsense]\ncolour = 1\n")
        self.reload("refused")
        self.assertIn("smtp.nonsense", self.problems()["reload_refused"])
        self.ticketgate.send(smtp.message("unchanged"))
        self.ticketgate.filed("unchanged")
        self.assertIn("nonsense", self.ticketgate.log())
        self.assertIsNone(self.ticketgate.process.poll())
        self.ticketgate.config_file.write_text(text)
        self.reload("applied")
        self.assertNotIn("reload_refused", self.problems())

    def test_a_new_certificate_is_used(self):
        first, key = tls.certificate(self.place, "first")
        self.ticketgate = self.daemon({"tls": {"certificate": str(first), "key": str(key)}}).start()
        before = self.certificate()
        second, key = tls.certificate(self.place, "second")
        self.ticketgate.configure({"tls": {"certificate": str(second), "key": str(key)}})
        self.reload("applied")
        self.assertNotEqual(self.certificate(), before)

    def certificate(self):
        with smtp.Client(self.ticketgate.port) as client:
            client.greet()
            client.starttls()
            return client.socket.getpeercert(binary_form=True)
