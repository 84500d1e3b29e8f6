"""What tests of pulled mailboxes share: a Dovecot, a daemon that pulls from it, and questions to both."""

import json

from .case import Case
from .dovecot import Dovecot
from .wait import until

USER = "support@localhost"


def mail(name, subject="A question", body="Please help.\r\n", sender="alice@example.net", to=USER):
    return (
        f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{name}@client.example>\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n{body}"
    ).encode()


class MailboxCase(Case):
    deadline = 240
    # What Dovecot's configuration has beside the usual.
    dovecot_more = ""
    # Whether the daemon speaks TLS to it; faults on the line need words in clear.
    tls = True

    def setUp(self):
        super().setUp()
        self.dovecot = self.start_dovecot()
        self.addCleanup(self.dovecot.stop)
        self.secret = self.place / "password"
        self.secret.write_text(self.dovecot.password + "\n")

    def start_dovecot(self):
        return Dovecot(self.place, self.dovecot_more).start()

    def channel(self, address=USER, name="Support", **changes):
        """A channel whose mailbox is looked into every second; changes to its source, None takes a key away."""
        server = {"host": "localhost", "port": self.dovecot.imaps, "ca_file": str(self.dovecot.certificate)}
        if not self.tls:
            server = {"host": "127.0.0.1", "port": self.dovecot.imap, "security": "none"}
        source = server | {
            "password_file": str(self.secret), "mails_per_minute": 0,
            "poll": "1s", "poll_least": "1s", "poll_most": "1s", "retry_first": "1s",
        } | changes
        source = {key: value for key, value in source.items() if value is not None}
        return {"address": address, "name": name, "queue": "Support", "source": source}

    def ticketgate(self, *channels, settings=None, **changes):
        """Starts the daemon with these channels, or with the usual one and changes to its source."""
        channels = list(channels) or [self.channel(**changes)]
        self.gate = self.daemon({"channel": channels, **(settings or {})}).start()
        return self.gate

    def connection(self, address=USER, gate=None):
        for channel in (gate or self.gate).admin.get("/v1/channels")["channels"]:
            if channel["address"] == address:
                return channel["connection"] or {}
        return {}

    def connected(self, address=USER, gate=None, seconds=20):
        gate = gate or self.gate
        until(lambda: f"{address} is connected, not {self.connection(address, gate)}\n{gate.log()[-2000:]}",
              lambda: self.connection(address, gate).get("state") == "connected" and self.connection(address, gate).get("last_look"), seconds)

    def problem(self, code, address=USER, gate=None, seconds=20):
        """Waits for this problem, and returns it."""
        def has():
            found = self.connection(address, gate).get("problem") or {}
            return found if found.get("code") == code else None
        return until(lambda: f"the problem {code}, not {self.connection(address, gate)}", has, seconds)

    def entries(self, count, seconds=30, gate=None):
        """All entries, as soon as there are so many."""
        gate = gate or self.gate
        until(lambda: f"{count} entries, not {len(gate.admin.entries())}\n{gate.log()[-3000:]}",
              lambda: len(gate.admin.entries()) >= count, seconds, every=0.05)
        return gate.admin.entries()

    def tickets(self, gate=None):
        """How many there are, without reading them."""
        return (gate or self.gate).admin.get("/v1/status")["store"]["tickets"]

    def each_once(self, names, seconds=60, gate=None):
        """Exactly these mails have become tickets, each exactly once."""
        entries = self.entries(len(names), seconds, gate)
        found = sorted(entry["message_id"].partition("@")[0] for entry in entries)
        self.assertEqual(found, sorted(names))
        self.assertEqual({entry["filing"] for entry in entries}, {"opened"})
        return entries

    def labelled(self, names, words=frozenset({"\\seen", "ticketgate"}), user=USER, seconds=20):
        def all_have():
            flags = self.dovecot.flags(user)
            return all(words <= flags.get(f"{name}@client.example", set()) for name in names)
        until(lambda: f"labels {words} on {names}: {self.dovecot.flags(user)}", all_have, seconds, every=0.1)

    def told(self, *arguments, status=0, seconds=60):
        """What a client command answers as JSON."""
        done = self.gate.command(*arguments, "--json", seconds=seconds)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout}\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None
