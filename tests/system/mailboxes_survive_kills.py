"""The daemon is killed while it pulls: every mail is imported once and labelled, and no minute has more than its share."""

import random
import signal
import time
from datetime import datetime

from harness.mailboxes import USER, MailboxCase, mail
from harness.settings import rounds
from harness.wait import until

# How many mails one pull brings; what the daemon is killed in.
MAILS = 2000
# Mails a minute, where nothing is configured.
USUAL_RATE = 25


class Killed(MailboxCase):
    def unlabelled(self):
        """How many mails lack a label, as the server counts them."""
        client = self.dovecot.client(USER)
        _, found = client.uid("SEARCH", "OR", "UNKEYWORD", "Ticketgate", "UNSEEN")
        client.logout()
        return len(found[0].split())

    def moment(self, sent):
        """Waits for a moment within a pull: before its first mail, at any of them, or while the last labels are set."""
        kind = random.choice(("any", "any", "any", "soon", "labels"))
        if kind == "soon":
            time.sleep(random.uniform(0, 0.3))
            return
        target = sent if kind == "labels" else sent - random.randrange(MAILS)
        until(lambda: f"{target} tickets, not {self.tickets()}", lambda: self.tickets() >= target, 60, every=0.002)
        time.sleep(random.uniform(0, 0.1))

    def test_killed_while_pulling_every_mail_is_imported_once_and_labelled(self):
        random.seed(7)
        times = rounds(2)
        self.deadline = 120 + 60 * times
        signal.alarm(self.deadline)
        self.ticketgate()
        self.connected()
        names, kills = [], 0
        for round_ in range(times):
            fresh = [f"r{round_}n{n}" for n in range(MAILS)]
            self.dovecot.put(USER, [mail(name, body=f"{name} " * 200 + "\r\n") for name in fresh])
            names += fresh
            for _ in range(random.choice((1, 1, 2, 3))):
                self.moment(len(names))
                self.gate.kill()
                self.gate.start()
                kills += 1
            until(lambda: f"{len(names)} tickets, not {self.tickets()}", lambda: self.tickets() >= len(names), 60)
            until(lambda: f"all are labelled, {self.unlabelled()} are not\n{self.gate.log()}", lambda: not self.unlabelled(), 60, every=0.2)
        self.each_once(names)
        self.assertEqual(len(self.dovecot.flags(USER)), len(names))
        self.gate.stop()
        self.gate.fsck()
        self.report(f"{times} pulls of {MAILS} mails, {kills} kills: {len(names)} mails, each imported once and labelled")

    def test_the_usual_rate_holds_over_a_kill_while_many_wait(self):
        self.ticketgate(mails_per_minute=None)
        self.connected()
        names = [f"m{n}" for n in range(200)]
        self.dovecot.put(USER, [mail(name) for name in names])
        self.entries(USUAL_RATE)
        until("the others wait", lambda: self.connection()["waiting"] == len(names) - USUAL_RATE)
        # A restart does not open the window anew.
        self.gate.kill()
        self.gate.start()
        self.connected()
        self.assertEqual(len(self.gate.admin.entries()), USUAL_RATE)
        self.entries(2 * USUAL_RATE, 80)
        moments = sorted(datetime.fromisoformat(entry["received_at"]) for entry in self.gate.admin.entries())
        self.assertEqual(len(moments), 2 * USUAL_RATE)
        for first, last in zip(moments, moments[USUAL_RATE:]):
            self.assertGreaterEqual((last - first).total_seconds(), 59.9, f"more than {USUAL_RATE} mails within a minute")
        # Without the limit the rest comes at once, each once and none forgotten.
        self.gate.configure({"channel": [self.channel()]})
        self.gate.reload()
        self.each_once(names)
        self.labelled(names)
        self.report(f"{USUAL_RATE} mails a minute, also over a kill, while {len(names) - USUAL_RATE} waited")
