"""A mailbox is disconnected at any time: the import stops, the default address stays, and nothing is lost or doubled."""

import time

from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

SALES, MAILS = "sales@localhost", 4000


class Disconnected(MailboxCase):
    def test_disconnected_in_mid_pull_it_stops_at_once_and_goes_on_later(self):
        others = {"address": SALES, "name": "Sales", "queue": "Support"}
        self.ticketgate(self.channel(), others, settings={"server": {"default_channel": USER}})
        self.connected()
        names = [f"m{n}" for n in range(MAILS)]
        self.dovecot.put(USER, [mail(name, body=f"{name} " * 800 + "\r\n") for name in names[:MAILS // 2]])
        refused = self.gate.command("disconnect", USER)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("default first", refused.stderr)
        # Being refused has stopped nothing.
        until("it goes on", lambda: self.tickets() >= MAILS // 2, 60)
        self.told("channels", "default", SALES)
        self.dovecot.put(USER, [mail(name, body=f"{name} " * 800 + "\r\n") for name in names[MAILS // 2:]])
        until("the next pull has begun", lambda: self.tickets() > MAILS // 2)
        self.told("disconnect", USER)
        until("it is disconnected", lambda: self.connection()["state"] == "disconnected", every=0.005)
        # What was accepted by then is filed; nothing more comes.
        time.sleep(1)
        stopped = self.tickets()
        time.sleep(2)
        self.assertEqual(self.tickets(), stopped)
        for verb in ("stop", "start"):
            getattr(self.gate, verb)()
        time.sleep(1)
        self.assertEqual((self.tickets(), self.connection()["state"]), (stopped, "disconnected"))
        again = self.gate.command("reconnect", USER, "--known-password")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.each_once(names)
        self.labelled(names)
        self.report(f"disconnected after {stopped} of {MAILS} mails; the others came after the reconnect")
