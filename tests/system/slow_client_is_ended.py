"""A client of one octet a second is ended by the deadline of its transaction, and slows nobody down."""

import select
import time

from harness import smtp
from harness.case import Case


class SlowClient(Case):
    def drip(self, client, octets):
        """Sends an octet a second until the daemon has something to say; returns that and the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < 30:
            if select.select([client.socket], [], [], 1.0)[0]:
                return client.reply(), time.monotonic() - began
            client.send(octets)
        self.fail("30 s later it was still listening")

    def test_within_the_data(self):
        ticketgate = self.daemon({"smtp": {"transaction_timeout": "4s", "idle_timeout": "20s"}}).start()
        with smtp.Client(ticketgate.port) as slow:
            slow.greet()
            slow.say("MAIL FROM:<slow@example.net>")
            slow.say("RCPT TO:<support@localhost>")
            slow.say("DATA", 354)
            began = time.monotonic()
            ticketgate.send(smtp.message("quick"))
            self.assertLess(time.monotonic() - began, 1.0)
            (code, text), seconds = self.drip(slow, b"x")
            self.assertEqual(code, 421, text)
            self.assertLess(seconds, 8)
            with self.assertRaises(smtp.Closed):
                slow.line()
        ticketgate.settle("marker")
        self.assertEqual([e["message_id"] for e in ticketgate.admin.entries()], ["quick@client.example", "marker@client.example"])
        self.report(f"ended after {seconds:.1f} s with a deadline of 4 s")

    def test_within_a_command(self):
        ticketgate = self.daemon({"smtp": {"transaction_timeout": "20s", "idle_timeout": "3s"}}).start()
        with smtp.Client(ticketgate.port) as slow:
            slow.greet()
            (code, text), seconds = self.drip(slow, b"N")
            self.assertEqual(code, 421, text)
            self.assertLess(seconds, 8)
