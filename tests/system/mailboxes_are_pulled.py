"""Mailboxes of a real Dovecot are pulled: every mail exactly once, labelled, whatever happens in between."""

import subprocess

from harness.case import Case
from harness.dovecot import Dovecot
from harness.settings import BINARY
from harness.wait import until

USER = "support@localhost"


def mail(name, subject="A question", body="Please help.\r\n", sender="alice@example.net"):
    return (
        f"From: {sender}\r\nTo: {USER}\r\nSubject: {subject}\r\nMessage-ID: <{name}@client.example>\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n{body}"
    ).encode()


class Mailboxes(Case):
    deadline = 240

    def setUp(self):
        super().setUp()
        self.dovecot = Dovecot(self.place).start()
        self.addCleanup(self.dovecot.stop)

    def ticketgate(self, password=True, **changes):
        secret = self.place / "password"
        secret.write_text(self.dovecot.password + "\n")
        source = {
            "host": "localhost", "port": self.dovecot.imaps, "ca_file": str(self.dovecot.certificate),
            "mails_per_minute": 0, "poll": "1s", "poll_least": "1s", "poll_most": "1s", "retry_first": "1s", **changes,
        }
        if password:
            source["password_file"] = str(secret)
        channel = {"address": USER, "name": "Support", "queue": "Support", "source": source}
        other = {"address": "sales@localhost", "name": "Sales", "queue": "Support"}
        made = self.daemon({"channel": [channel, other]})
        self.gate = made.start()
        return made

    def connection(self):
        return self.gate.admin.get("/v1/channels")["channels"][0]["connection"]

    def connected(self):
        until(lambda: f"connected, not {self.connection()}", lambda: (self.connection() or {}).get("last_look"))

    def entries(self, count, seconds=30):
        until(lambda: f"{count} entries, not {len(self.gate.admin.entries())}\n{self.gate.log()[-3000:]}",
              lambda: len(self.gate.admin.entries()) >= count, seconds)
        return self.gate.admin.entries()

    def tickets(self):
        """How many there are, without reading them."""
        return self.gate.admin.get("/v1/status")["store"]["tickets"]

    def labelled(self, names, words, seconds=20):
        def all_have():
            flags = self.dovecot.flags(USER)
            return all(words <= flags.get(f"{name}@client.example", set()) for name in names)
        until(lambda: f"labels {words} on {names}: {self.dovecot.flags(USER)}", all_have, seconds)

    def test_only_what_comes_after_the_connection_is_imported_and_labelled(self):
        self.dovecot.put(USER, [mail("before")])
        self.ticketgate()
        self.connected()
        self.dovecot.put(USER, [mail("after")])
        entry = self.entries(1)[0]
        self.assertEqual((entry["message_id"], entry["filing"]), ("after@client.example", "opened"))
        self.assertEqual((entry["origin"]["kind"], entry["origin"]["tls"]), ("imap", True))
        self.assertEqual(self.gate.admin.raw(entry).replace(b"\r\n", b"\n"), mail("after").replace(b"\r\n", b"\n"))
        self.labelled(["after"], {"\\seen", "ticketgate"})
        self.assertEqual(self.dovecot.flags(USER)["before@client.example"], {"\\recent"} & self.dovecot.flags(USER)["before@client.example"])

    def test_the_most_recent_from_before_are_imported_if_wanted(self):
        self.dovecot.put(USER, [mail(f"old{n}") for n in range(8)])
        self.ticketgate(import_recent=3)
        entries = self.entries(3)
        self.assertEqual(sorted(e["message_id"] for e in entries), [f"old{n}@client.example" for n in (5, 6, 7)])
        self.labelled(["old5", "old6", "old7"], {"\\seen", "ticketgate"})

    def test_what_somebody_else_read_first_is_recorded_and_not_imported(self):
        self.ticketgate()
        self.connected()
        subprocess.run([BINARY, "channels", "pause", USER, "--socket", self.gate.socket], check=True, capture_output=True)
        until("paused", lambda: self.connection()["state"] == "paused")
        self.dovecot.put(USER, [mail("read"), mail("unread")])
        client = self.dovecot.client(USER)
        _, data = client.uid("SEARCH", "HEADER", "Message-ID", "read@client.example")
        for uid in data[0].split():
            if b"<read@" in client.uid("FETCH", uid, "(BODY.PEEK[HEADER])")[1][0][1]:
                client.uid("STORE", uid, "+FLAGS", "(\\Seen)")
        client.logout()
        subprocess.run([BINARY, "channels", "resume", USER, "--socket", self.gate.socket], check=True, capture_output=True)
        self.assertEqual([e["message_id"] for e in self.entries(1)], ["unread@client.example"])
        self.labelled(["unread"], {"ticketgate"})
        self.assertNotIn("ticketgate", self.dovecot.flags(USER)["read@client.example"])
        metrics = self.gate.metrics()
        self.assertRegex(metrics, r'mailbox_mails_total\{channel="support@localhost",state="read_elsewhere"\} 1\b')

    def test_a_mail_that_is_too_large_is_rejected_with_its_label(self):
        self.ticketgate()
        self.connected()
        self.dovecot.put(USER, [mail("large", body="x" * 76 + "\r\n") + (b"y" * 76 + b"\r\n") * 800_000, mail("small")])
        entries = {e["message_id"]: e for e in self.entries(2, 60)}
        large = entries["large@client.example"]
        self.assertEqual((large["filing"], large["reason"]), ("rejected", "too_large"))
        self.assertEqual(entries["small@client.example"]["filing"], "opened")
        self.labelled(["large"], {"\\seen", "ticketgate", "rejectedbyticketgate"})
        self.labelled(["small"], {"\\seen", "ticketgate"})
        self.assertNotIn("rejectedbyticketgate", self.dovecot.flags(USER)["small@client.example"])

    def test_a_large_mail_within_the_limit_is_whole(self):
        self.ticketgate()
        self.connected()
        whole = mail("big") + b"".join(b"%070d\r\n" % n for n in range(60_000))
        self.dovecot.put(USER, [whole])
        entry = self.entries(1)[0]
        self.assertEqual(self.gate.admin.raw(entry), whole)

    def test_a_new_uidvalidity_imports_nothing_twice(self):
        self.ticketgate()
        self.connected()
        self.dovecot.put(USER, [mail(f"m{n}") for n in range(20)])
        self.entries(20)
        self.labelled([f"m{n}" for n in range(20)], {"ticketgate"})
        self.gate.stop()
        self.dovecot.stop()
        self.dovecot.renumber(USER)
        self.dovecot.put(USER, [mail("new")])
        self.dovecot.start()
        self.gate.start()
        self.entries(21)
        self.dovecot.put(USER, [mail("last")])
        entries = self.entries(22)
        self.assertEqual(len(entries), 22)
        self.assertEqual({e["filing"] for e in entries}, {"opened"})

    def test_a_password_is_asked_for_kept_encrypted_and_never_shown(self):
        self.ticketgate(password=False)
        until("no password is known", lambda: ((self.connection() or {}).get("problem") or {}).get("code") == "credential_missing")
        wrong = self.connect("not-" + self.dovecot.password)
        self.assertEqual(wrong.returncode, 1, wrong.stdout)
        self.assertIn("reconnect", wrong.stderr)
        right = self.connect(self.dovecot.password)
        self.assertEqual(right.returncode, 0, right.stderr)
        self.connected()
        self.gate.stop()
        self.gate.start()
        self.connected()
        self.dovecot.put(USER, [mail("kept")])
        self.entries(1)
        kept = b"".join(p.read_bytes() for p in (self.place / "data").rglob("*") if p.is_file())
        for text in (kept, self.gate.log().encode()):
            self.assertNotIn(self.dovecot.password.encode(), text)

    def connect(self, password):
        return subprocess.run([BINARY, "connect", USER, "--password-stdin", "--socket", self.gate.socket],
                              input=password + "\n", capture_output=True, text=True, timeout=60)

    def test_a_disconnected_mailbox_goes_on_where_it_stopped(self):
        self.ticketgate()
        self.connected()
        self.dovecot.put(USER, [mail("one")])
        self.entries(1)
        refused = subprocess.run([BINARY, "disconnect", USER, "--socket", self.gate.socket], capture_output=True, text=True)
        self.assertEqual((refused.returncode, "the default first" in refused.stderr), (1, True), refused.stderr)
        for line in (["channels", "default", "sales@localhost"], ["disconnect", USER]):
            subprocess.run([BINARY, *line, "--socket", self.gate.socket], check=True, capture_output=True)
        until("disconnected", lambda: self.connection()["state"] == "disconnected")
        self.dovecot.put(USER, [mail("two")])
        again = subprocess.run([BINARY, "reconnect", USER, "--known-password", "--socket", self.gate.socket], capture_output=True, text=True)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual([e["message_id"] for e in self.entries(2)], ["one@client.example", "two@client.example"])

    def test_the_same_mail_by_both_doors_is_one_ticket(self):
        self.ticketgate()
        self.connected()
        self.gate.send(mail("twice"))
        self.gate.filed("twice")
        self.dovecot.put(USER, [mail("twice")])
        entries = self.entries(2)
        self.assertEqual([e["filing"] for e in entries], ["opened", "duplicate"])
        first = self.gate.admin.entries()[0]
        self.assertEqual([seen["kind"] for seen in first["also_seen"]], ["imap"])
