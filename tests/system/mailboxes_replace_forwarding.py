"""Forwarding and mailbox side by side: each mail is one ticket, and the report says when forwarding can be switched off."""

import unittest
from pathlib import Path

from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

SALES = "sales@localhost"
# The report wants a week of both ways; libfaketime lets the daemon live through its beginning eight days ago.
DAYS = 8
MAILS = 12


def past():
    """What starts a daemon so many days ago. Its timers run as they are."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise unittest.SkipTest("libfaketime is not installed")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"-{DAYS}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class Replaced(MailboxCase):
    # A certificate that was made today does not hold eight days ago.
    tls = False

    def both_ways(self, address, names):
        """Every mail comes by forwarding and by the mailbox, every other one by the mailbox first."""
        # Two mails with the same words and date would be one mail that came twice, whatever their Message-ID.
        text = {name: mail(name, to=address, body=f"About {name}.\r\n") for name in names}
        for name in names[::2]:
            self.gate.send(text[name], recipients=[address])
        self.seen(names[::2], 1)
        self.dovecot.put(address, list(text.values()))
        self.seen(names[1::2], 1)
        for name in names[1::2]:
            self.gate.send(text[name], recipients=[address])
        self.seen(names, 2)

    def seen(self, names, times):
        """Each of these was filed so often, whatever as."""
        def has():
            ids = [entry["message_id"].partition("@")[0] for entry in self.gate.admin.entries()]
            return all(ids.count(name) == times for name in names)
        until(lambda: f"each of {names} is there {times} times\n{self.gate.log()}", has, 30, every=0.1)

    def parity(self, address):
        return self.told("channels", "parity", address, "--since", f"{DAYS + 1}d")

    def test_what_came_which_way_decides_whether_forwarding_can_be_switched_off(self):
        channels = [self.channel(), self.channel(SALES, "Sales")]
        self.gate = self.daemon({"channel": channels})
        self.gate.start(environment=past())
        self.connected(USER)
        self.connected(SALES)
        self.both_ways(USER, [f"help{n}" for n in range(MAILS)])
        self.both_ways(SALES, [f"buy{n}" for n in range(MAILS)])
        self.dovecot.put(USER, [mail("direct", body="Only here.\r\n")])
        self.gate.send(mail("stray", to=SALES, body="Only forwarded.\r\n"), recipients=[SALES])
        self.seen(["direct", "stray"], 1)
        young = self.parity(USER)
        self.assertEqual((young["can_switch_off"], young["both"]), (False, MAILS), young)
        self.assertIn("keep forwarding", young["verdict"])
        self.assertEqual(self.parity(SALES)["pending"], 1)

        # A week later, which is today.
        self.gate.stop()
        self.gate.start()
        ready = self.parity(USER)
        self.assertEqual((ready["can_switch_off"], ready["both"], ready["only_forwarded"], ready["only_connector"]), (True, MAILS, 0, 1), ready)
        self.assertIn("forwarding can be switched off", ready["verdict"])
        held = self.parity(SALES)
        self.assertEqual((held["can_switch_off"], held["both"], held["only_forwarded"], held["pending"]), (False, MAILS, 1, 0), held)
        self.assertEqual([lone["message_id"] for lone in held["only_forwarded_mails"]], ["stray@client.example"])

        entries = self.gate.admin.entries()
        opened = [entry for entry in entries if entry["filing"] == "opened"]
        again = [entry for entry in entries if entry["filing"] == "duplicate"]
        self.assertEqual((len(opened), len(again), len(entries), self.tickets()), (2 * MAILS + 2, 2 * MAILS, 4 * MAILS + 2, 2 * MAILS + 2))
        for entry in opened:
            ways = [entry["origin"]["kind"], *(other["kind"] for other in entry["also_seen"])]
            name = entry["message_id"].partition("@")[0]
            self.assertEqual(sorted(ways), {"direct": ["imap"], "stray": ["smtp"]}.get(name, ["imap", "smtp"]), name)
        # What repeats another is labelled like it: whoever opens the mailbox sees that it is dealt with.
        self.labelled([f"help{n}" for n in range(MAILS)])
        self.labelled([f"buy{n}" for n in range(MAILS)], user=SALES)
        self.report(f"{2 * MAILS} mails both ways are {2 * MAILS} tickets; \"{ready['verdict']}\"; \"{held['verdict']}\"")
