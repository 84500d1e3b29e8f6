"""What other people and other servers do to a mailbox while it is pulled: moving, deleting, renumbering, refusing."""

import threading
import time

from harness.cutting import Fault, Line
from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

# Access rights of the mailbox's owner (RFC 4314): no "w", so no flag but \\Seen can be set.
NO_KEYWORDS = """
mail_plugins = acl
plugin {
  acl = vfile:/dev/null
  acl_globals_only = yes
}
"""


class Changed(MailboxCase):
    tls = False

    def take_away(self, names, how):
        """Another client moves or expunges these mails."""
        client = self.dovecot.client(USER)
        if how == "moved":
            client.create("Archive")
        wanted = {f"{name}@client.example".encode() for name in names}
        _, data = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        uids = [item[0].split(b"UID ")[1].split(b" ")[0] for item in data
                if isinstance(item, tuple) and item[1].split(b"<", 1)[-1].split(b">")[0] in wanted]
        self.assertEqual(len(uids), len(names))
        if how == "moved":
            client.uid("COPY", b",".join(uids).decode(), "Archive")
        client.uid("STORE", b",".join(uids).decode(), "+FLAGS", "(\\Deleted)")
        client.expunge()
        client.logout()

    def test_mail_that_another_client_takes_away_in_mid_pull_is_accounted_for(self):
        # The answer to the listing is held back until the other client has done its work.
        for how in ("expunged", "moved"):
            with self.subTest(how):
                self.takes_away(how)
                self.gate.kill()
                self.dovecot.forget(USER)

    def takes_away(self, how):
        line = Held(self.dovecot.imap, b"(UID BODY.PEEK[])")
        self.addCleanup(line.stop)
        place = self.place / how
        place.mkdir()
        self.gate = self.daemon({"channel": [self.channel(port=line.port)]}, place).start()
        self.connected()
        names = [f"{how}-{n}" for n in range(40)]
        self.dovecot.put(USER, [mail(name) for name in names])
        self.assertTrue(line.reached.wait(20), "the mails are asked for")
        gone = names[5:15]
        self.take_away(gone, how)
        line.go_on.set()
        stay = [name for name in names if name not in gone]
        # A server may still hand out what another session has expunged (RFC 3501 section 7.4.1): then it is imported.
        until(lambda: f"all that stay are imported: {len(self.gate.admin.entries())}\n{self.gate.log()}",
              lambda: set(stay) <= self.imported(), 20)
        self.dovecot.put(USER, [mail(f"{how}-later")])
        until("what comes later is imported", lambda: f"{how}-later" in self.imported(), 20)
        self.labelled([*stay, f"{how}-later"])
        entries = self.gate.admin.entries()
        self.assertEqual(len(entries), len(self.imported()), "nothing twice")
        missing = set(names) - self.imported()
        self.assertLessEqual(missing, set(gone))
        self.assertIn("connected", self.connection()["state"])
        counted = f'mailbox_mails_total{{channel="{USER}",state="gone"}} {len(missing)}'
        until(lambda: f"{counted}\n{self.gate.metrics()}", lambda: not missing or counted in self.gate.metrics(), 10)
        self.report(f"{how}: of 40 mails 10 were taken away in mid-pull, {len(missing)} of them are recorded as gone")

    def imported(self):
        return {entry["message_id"].partition("@")[0] for entry in self.gate.admin.entries()}

    def test_a_new_uidvalidity_while_mail_waits_loses_nothing_and_doubles_nothing(self):
        self.ticketgate(mails_per_minute=10)
        self.connected()
        names = [f"w{n}" for n in range(30)]
        self.dovecot.put(USER, [mail(name) for name in names])
        self.entries(10)
        until("20 wait", lambda: self.connection()["waiting"] == 20)
        self.gate.kill()
        self.dovecot.stop()
        self.dovecot.renumber(USER)
        self.dovecot.start()
        self.gate.configure({"channel": [self.channel()]})
        self.gate.start()
        self.each_once(names)
        self.labelled(names)

    def test_a_60_mb_mail_within_the_limit_is_whole_and_takes_bounded_memory(self):
        self.ticketgate(self.channel() | {"max_mail_bytes": 100 << 20})
        self.connected()
        before, _ = self.gate.memory()
        whole = mail("huge") + b"".join(b"%070d\r\n" % n for n in range(60_000_000 // 72))
        self.dovecot.put(USER, [whole])
        began = time.monotonic()
        entry = self.entries(1, 60)[0]
        seconds = time.monotonic() - began
        self.assertEqual((entry["filing"], entry["size"]), ("opened", len(whole)))
        _, most = self.gate.memory()
        # It is streamed in; filing then has it once in memory, and its parts once more.
        self.assertLess(most - before, 2.5 * len(whole))
        self.assertEqual(self.gate.admin.raw(entry), whole)
        self.labelled(["huge"])
        self.report(f"60 MB imported in {seconds:.1f} s with {(most - before) / 1e6:.0f} MB of memory")

    def test_a_server_without_keywords_gets_what_it_takes_and_nothing_is_imported_twice(self):
        self.dovecot.stop()
        acl = self.place / "acl"
        acl.write_text("INBOX owner lrsip\n")
        more = NO_KEYWORDS.replace("/dev/null", str(acl))
        self.dovecot.conf.write_text(self.dovecot.conf.read_text() + more)
        self.dovecot.start()
        # Without the right to write flags, Dovecot has no \* in PERMANENTFLAGS.
        client = self.dovecot.client(USER)
        _, flags = client.response("PERMANENTFLAGS")
        client.logout()
        self.assertEqual(flags, [b"(\\Seen)"])
        self.ticketgate()
        self.connected()
        names = [f"k{n}" for n in range(5)]
        self.dovecot.put(USER, [mail(name) for name in names])
        self.each_once(names)
        self.labelled(names, {"\\seen"})
        self.assertNotIn("ticketgate", self.dovecot.flags(USER)["k0@client.example"])
        self.gate.kill()
        self.gate.start()
        self.connected()
        self.dovecot.put(USER, [mail("k5")])
        self.each_once([*names, "k5"])
        warnings = self.connection()["warnings"]
        self.assertTrue(any("label" in warning for warning in warnings), warnings)


class Held(Line):
    """Holds a command back once, until it is told to go on."""

    def __init__(self, upstream, word):
        self.reached, self.go_on = threading.Event(), threading.Event()
        super().__init__(upstream, Fault(word.decode(), 1 << 40))
        self.fault.take = self._hold
        self.word = word

    def _hold(self, data):
        if self.word in data and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(30)
        return False
