"""The line to a mailbox is cut at every step, in the middle of what the server says: no mail is lost, none comes twice."""

from harness.cutting import Fault, Line
from harness.mailboxes import MailboxCase, mail
from harness.wait import until

# Where the line is cut: the word in the client's command, and how much of the answer comes through. None: the server
# never hears the command; 0: it does what it is told, and nobody hears of it.
STEPS = {
    "no-greeting": ("", 0, {}),
    "greeting": ("", 10, {}),
    "login": ("AUTHENTICATE", None, {}),
    "login-unheard": ("AUTHENTICATE", 0, {}),
    "select": ("SELECT", 30, {}),
    "listing": ("RFC822.SIZE", 0, {}),
    "half-listing": ("RFC822.SIZE", 150, {}),
    "fetch": ("BODY.PEEK[]", None, {}),
    "literal-size": ("BODY.PEEK[]", 40, {}),
    "half-literal": ("BODY.PEEK[]", 5000, {}),
    "last-literal": ("BODY.PEEK[]", 41_000, {}),
    "part": ("BODY.PEEK[]<524288", 200_000, {"large": True}),
    "label": ("STORE", None, {}),
    "label-unheard": ("STORE", 0, {}),
    "idle": ("IDLE", None, {}),
    "idling": ("IDLE", 10, {}),
}
TIMES = 2


class CutLines(MailboxCase):
    tls = False

    def test_cut_at_each_step_every_mail_comes_once_and_is_labelled(self):
        lines, sent, channels = {}, {}, []
        for step, (word, after, more) in STEPS.items():
            user = f"{step}@localhost"
            line = Line(self.dovecot.imap, Fault(word, after, TIMES))
            self.addCleanup(line.stop)
            lines[step] = line
            names = [f"{step}-{n}" for n in range(8)]
            mails = [mail(name, body="0123456789abcde\r\n" * 300 + f"{name}\r\n") for name in names]
            if more.get("large"):
                mails[0] += b"0123456789abcde\r\n" * 90_000
            # From before the connection, so that all of it is there when the first cut comes.
            self.dovecot.put(user, mails)
            sent[step] = names
            channels.append(self.channel(user, step, port=line.port, import_recent=50, retry_most="2s"))
        self.ticketgate(*channels)
        everything = [name for names in sent.values() for name in names]
        until(lambda: f"every line was cut as often as it should be: { {s: l.fault.happened for s, l in lines.items()} }",
              lambda: all(l.fault.happened == TIMES for l in lines.values()), 40)
        # What comes after the trouble comes too.
        for step in STEPS:
            self.dovecot.put(f"{step}@localhost", [mail(f"{step}-later")])
            sent[step].append(f"{step}-later")
            everything.append(f"{step}-later")
        self.each_once(everything)
        for step, names in sent.items():
            with self.subTest(step):
                self.labelled(names, user=f"{step}@localhost")
        self.report(f"{len(STEPS)} steps, each cut {TIMES} times, {len(everything)} mails each imported once and labelled")

    def test_cut_again_and_again_a_large_pull_comes_to_its_end(self):
        line = Line(self.dovecot.imap)
        self.addCleanup(line.stop)
        names = [f"m{n}" for n in range(600)]
        self.ticketgate(port=line.port, retry_most="1s")
        self.connected()
        self.dovecot.put("support@localhost", [mail(name, body=f"{name} " * 800 + "\r\n") for name in names])
        cuts = 0
        while self.tickets() < len(names) and cuts < 5:
            before, cuts = self.tickets(), cuts + 1
            until("more of it has come", lambda before=before: self.tickets() > before, 20)
            line.cut()
        self.each_once(names)
        self.labelled(names, seconds=40)
        self.report(f"{len(names)} mails over {cuts} cuts")
