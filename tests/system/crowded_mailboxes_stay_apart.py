"""Many accounts in one daemon, and many mails in one: who hangs delays nobody, who is idle costs little memory."""

import time

from harness.cutting import Line
from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

ACCOUNTS, HANGING, MAILS = 100, 20, 10_000
MOST_MB = 60


class Crowd(MailboxCase):
    def addresses(self, count):
        return [f"team{n:03}@localhost" for n in range(count)]

    def states(self):
        return {c["address"]: c["connection"] or {} for c in self.gate.admin.get("/v1/channels")["channels"]}

    def test_of_100_accounts_20_hang_and_the_others_notice_nothing(self):
        silent = Line(0, silent=True)
        self.addCleanup(silent.stop)
        everybody = self.addresses(ACCOUNTS)
        hanging, well = everybody[:HANGING], everybody[HANGING:]
        waits = {"connect_timeout": "5s", "command_timeout": "5s"}
        channels = [self.channel(a, a, port=silent.port, **waits) for a in hanging] + [self.channel(a, a, **waits) for a in well]
        self.ticketgate(*channels)
        until(lambda: f"{len(well)} accounts are connected", lambda: sum(1 for a in well if self.states()[a].get("last_look")) == len(well), 60, every=0.2)
        began = time.monotonic()
        for address in well:
            self.dovecot.put(address, [mail(address.partition("@")[0], to=address)])
        self.each_once([address.partition("@")[0] for address in well], 30)
        seconds = time.monotonic() - began
        self.assertLess(seconds, 15, "the hanging accounts delay the others")
        until(lambda: f"the hanging accounts have a problem: {self.states()}",
              lambda: all((self.states()[a].get("problem") or {}).get("code") == "timeout" for a in hanging), 30, every=0.2)
        self.assertEqual({self.states()[a]["state"] for a in well}, {"connected"})
        self.assertGreaterEqual(silent.accepted, HANGING)
        self.report(f"one mail each in {len(well)} mailboxes within {seconds:.1f} s, while {HANGING} accounts hang")

    def test_100_idle_connected_accounts_take_less_than_60_mb(self):
        everybody = self.addresses(ACCOUNTS)
        # As it is by default: the server tells of news, and is asked every minute.
        usual = {"poll": None, "poll_least": None, "poll_most": None}
        self.ticketgate(*[self.channel(a, a, **usual) for a in everybody])
        until(lambda: f"{ACCOUNTS} accounts are connected", lambda: all(s.get("last_look") for s in self.states().values()), 60, every=0.2)
        now, most = (value / 1e6 for value in self.gate.memory())
        self.assertLess(now, MOST_MB)
        self.report(f"{ACCOUNTS} idle accounts over TLS: {now:.0f} MB, at most {most:.0f} MB on the way")

    def test_10_000_mails_in_one_mailbox_are_10_000_entries(self):
        self.ticketgate()
        self.connected()
        names = [f"m{n}" for n in range(MAILS)]
        self.dovecot.put(USER, [mail(name) for name in names])
        began = time.monotonic()
        until(lambda: f"{MAILS} tickets, not {self.tickets()}", lambda: self.tickets() >= MAILS, 120)
        seconds = time.monotonic() - began
        self.each_once(names)

        def unlabelled():
            client = self.dovecot.client(USER)
            _, found = client.uid("SEARCH", "OR", "UNKEYWORD", "Ticketgate", "UNSEEN")
            client.logout()
            return found[0].split()
        until(lambda: f"all are labelled, {len(unlabelled())} are not", lambda: not unlabelled(), 60, every=0.2)
        self.report(f"{MAILS} mails, all filed {seconds:.1f} s after the last was put there")
