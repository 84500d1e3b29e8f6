"""Two gateways on one mailbox notice each other: one reads, the other stands by and takes over when the first is gone."""

import time

from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

# The shortest lease that the configuration takes, in seconds.
LEASE = 60


class Lease(MailboxCase):
    def gateways(self):
        """Two daemons with the same mailbox; the first reads it."""
        channel = self.channel(lease_for=f"{LEASE}s", retry_most="2s")
        first, second = (self.daemon({"channel": [channel]}, self.folder(name)) for name in ("first", "second"))
        first.start()
        self.connected(gate=first)
        second.start()
        problem = self.problem("other_consumer", gate=second)
        self.assertTrue(problem["action"], problem)
        return first, second

    def folder(self, name):
        made = self.place / name
        made.mkdir()
        return made

    def hands_over(self, end, seconds):
        first, second = self.gateways()
        self.dovecot.put(USER, [mail(f"one{n}") for n in range(20)])
        self.each_once([f"one{n}" for n in range(20)], gate=first)
        self.labelled([f"one{n}" for n in range(20)])
        self.assertEqual(second.admin.entries(), [])
        began = time.monotonic()
        end(first)
        self.dovecot.put(USER, [mail(f"two{n}") for n in range(20)])
        until(lambda: f"the second takes over: {self.connection(gate=second)}\n{second.log()[-2000:]}",
              lambda: self.connection(gate=second).get("state") == "connected", seconds, every=0.2)
        took = time.monotonic() - began
        # What the first has is not imported again, and what came between the two is.
        self.dovecot.put(USER, [mail(f"three{n}") for n in range(20)])
        wanted = [f"{part}{n}" for part in ("two", "three") for n in range(20)]
        entries = self.entries(len(wanted), gate=second)
        names = [entry["message_id"].partition("@")[0] for entry in entries]
        self.assertEqual(sorted(names), sorted(wanted))
        self.report(f"the second took over after {took:.1f} s")
        # The first comes back, and stands by in its turn.
        first.start()
        self.problem("other_consumer", gate=first)

    def test_a_gateway_that_stops_hands_the_mailbox_over(self):
        # It gives its lease back, and the other looks every second.
        self.hands_over(lambda gate: gate.stop(), 10)

    def test_a_gateway_that_is_killed_is_replaced_when_its_lease_has_run_out(self):
        self.hands_over(lambda gate: gate.kill(), LEASE + 40)
