"""What servers say later about our mail: real reports of a Postfix, and reports written by the letter of their RFCs.

Each is tied to the mail that it is about, sets the state of its recipient, and counts against addresses that are bad;
one that proves nothing changes nothing.
"""

from harness import smtp
from harness.answering import Answering, field, told_of
from harness.case import Case
from harness.farends import Bad
from harness.outbound import login, submission, told, written
from harness.postfix import REPORTING, Postfix
from harness.settings import free_port
from harness.wait import until

SUPPORT = "support@localhost"


def report(name, kind, about, returned, extra="", to=SUPPORT):
    """A report: `about` is its part for programs, `returned` the header of the mail that it is about."""
    part = {"delivery-status": "message/delivery-status", "feedback-report": "message/feedback-report"}[kind]
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@mx.far.example>\r\nTo: {to}\r\n{extra}Subject: About your mail\r\n"
        f"Message-ID: <{name}@client.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: multipart/report; report-type={kind}; boundary=\"b\"\r\n\r\n--b\r\n\r\nFor people.\r\n"
        f"--b\r\nContent-Type: {part}\r\n\r\n{about}\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--b--\r\n"
    ).encode()


def status(address, action, code, said):
    return (
        f"Reporting-MTA: dns; mx.far.example\r\n\r\nFinal-Recipient: rfc822; {address}\r\nAction: {action}\r\n"
        f"Status: {code}\r\nDiagnostic-Code: smtp; {said}\r\n"
    )


def complaint(address, kind="abuse"):
    named = f"Original-Rcpt-To: {address}\r\n" if address else ""
    return f"Feedback-Type: {kind}\r\nUser-Agent: FBL/1.0\r\nVersion: 1\r\n{named}"


class House(Case):
    def ask(self, name, who, extra=""):
        """Somebody opens a ticket; returns the entry."""
        self.gate.send(smtp.message(name, sender=who, extra=extra), sender=who)
        return self.gate.filed(name)

    def mail_of(self, ticket):
        """The last mail of ours in a ticket, as `tickets show` has it."""
        entries = told(self.gate, "tickets", "show", ticket)["entries"]
        ours = [entry for entry in entries if entry["direction"] == "outbound"]
        return ours[-1] if ours else None

    def becomes(self, ticket, *wanted, seconds=30):
        """Waits until each recipient of our mail has its state and what was reported; returns the mail's entry."""
        def look():
            mail = self.mail_of(ticket)
            got = mail and [(one["state"], one["reported"]) for one in mail["delivery"]]
            return got == list(wanted) and mail
        return until(lambda: f"{wanted}: {self.mail_of(ticket)}\n{self.gate.log()}", look, seconds, every=0.1)

    def reports(self, ticket):
        return [e for e in told(self.gate, "tickets", "show", ticket)["entries"] if e["filing"] == "reported"]

    def traced(self, message_id):
        return [step["said"] for step in told(self.gate, "explain", message_id)["entries"][0]["trace"]]

    def suppressions(self):
        """Address, whether it is suppressed, failures."""
        rows = told(self.gate, "suppressions", "list", "--all")["suppressions"]
        return [(row["address"], row["suppressed"], row["failures"]) for row in rows]


class Postfixes(House):
    """A real Postfix takes our mail, and reports what became of it."""

    def start(self, patience="1d"):
        self.gate = self.daemon()
        dead, slow = Bad("550 5.1.1 no mailbox here by that name"), Bad("450 4.2.1 not now")
        for server in (dead, slow):
            self.addCleanup(server.stop)
        ports = {"gate": self.gate.port, "dead": dead.port, "slow": slow.port}
        self.far = Postfix(self.place, REPORTING, name="far", patience=patience, **ports)
        self.addCleanup(self.far.stop)
        self.far.start()
        self.door = free_port()
        channel = {"address": SUPPORT, "name": "Support", "queue": "Support", "acknowledge": True}
        relay = {"name": "far", "kind": "smtp", "host": "127.0.0.1", "port": self.far.port, "security": "none"}
        self.gate.configure({"channel": [channel], "relay": [relay], "submission": submission(self.place, self.door)})
        self.gate.start()

    def fails(self, who, reported, code):
        """Three acknowledgements fail, and the address is suppressed; cleared, it is tried again."""
        name = who.partition("@")[0]
        for number in range(1, 4):
            ticket = self.ask(f"{name}{number}", who)["ticket"]
            mail = self.becomes(ticket, ("failed", reported))
            self.assertIn(code, mail["delivery"][0]["reply"])
            self.assertEqual(told(self.gate, "outbox", "show", mail["id"])["state"], "done")
            self.assertEqual(self.suppressions(), [(who, number == 3, number)])
        self.assertIn(f"{code} ", told_of(self.gate, "mail_failed", 3)[2]["said"])
        self.assertIn(who, told_of(self.gate, "address_suppressed")[0]["said"])
        self.assertIn(who, self.gate.command("suppressions", "list").stdout)
        ticket = self.ask(f"{name}4", who)["ticket"]
        self.assertEqual(self.becomes(ticket, ("suppressed", None))["delivery"][0]["attempts"], 0)
        done = self.gate.command("suppressions", "clear", who)
        self.assertEqual(done.stdout.strip(), f"mail is sent to {who} again", done)
        ticket = self.ask(f"{name}5", who)["ticket"]
        self.becomes(ticket, ("failed", reported))
        self.assertEqual(self.suppressions(), [(who, False, 1)])
        return ticket

    def test_an_acknowledgement_that_is_refused_at_once(self):
        self.start()
        ticket = self.fails("nobody@far.example", None, "5.1.1")
        self.assertEqual(self.reports(ticket), [])
        notes = [e["text"] for e in told(self.gate, "tickets", "show", ticket)["entries"] if e["direction"] == "note"]
        self.assertIn("nobody@far.example: 550 5.1.1", notes[0])
        self.report("refused in the session: 1 acknowledgement each, suppressed after 3")

    def test_an_acknowledgement_that_comes_back(self):
        self.start()
        ticket = self.fails("gone@dead.example", "failed", "5.1.1")
        mail, (said,) = self.mail_of(ticket), self.reports(ticket)
        self.assertEqual((said["bounce"]["kind"], said["matched_by"], said["envelope"]["mail_from"]), ("failed", "token", ""))
        self.assertEqual(said["bounce"]["original_message_id"], mail["message_id"])
        self.assertIn(f"it reports our mail {mail['id']}: failed", self.traced(said["message_id"]))
        explained = told(self.gate, "explain", mail["message_id"])["entries"][0]
        self.assertEqual(explained["delivery"], mail["delivery"])
        self.assertIn("failed, reported failed: 5.1.1", " ".join(self.gate.command("explain", mail["message_id"]).stdout.split()))
        # The report was not answered, and did not wake the ticket.
        entries = told(self.gate, "tickets", "show", ticket)["entries"]
        self.assertEqual([e["filing"] for e in entries], ["opened", "appended", "reported"])
        shown = self.gate.command("tickets", "show", ticket).stdout
        self.assertIn("to gone@dead.example: failed, reported failed: 5.1.1", " ".join(shown.split()))
        self.report("taken and sent back: 1 acknowledgement each, suppressed after 3")

    def test_an_alias_that_leads_nowhere(self):
        self.start()
        ticket = self.ask("several", "alice@far.example", "Cc: info@far.example\r\n")["ticket"]
        told(self.gate, "tickets", "reply", ticket, "--text", "Hello, all.", "--everybody")
        # Postfix reports about gone@dead.example, and says that it was info@far.example.
        mail = self.becomes(ticket, ("relayed", None), ("failed", "failed"))
        self.assertEqual([one["address"] for one in mail["delivery"]], ["alice@far.example", "info@far.example"])
        self.assertEqual(self.suppressions(), [("info@far.example", False, 1)])

    def test_a_delay_and_then_the_end(self):
        self.start(patience="6s")
        ticket = self.ask("slow", "ann@slow.example")["ticket"]
        delayed = told_of(self.gate, "mail_delayed")[0]
        self.assertTrue(delayed["said"].startswith("delayed for ann@slow.example: 4.2.1"), delayed)
        self.becomes(ticket, ("failed", "failed"))
        self.assertEqual([said["bounce"]["kind"] for said in self.reports(ticket)], ["delayed", "failed"])
        # What a server puts off is not the fault of the address.
        self.assertEqual(self.suppressions(), [])

    def submitted(self, name, to, parameters, ticket):
        with smtp.Client(self.door) as client:
            client.greet()
            login(client)
            client.say(f"MAIL FROM:<{SUPPORT}> RET=HDRS ENVID={name}")
            client.say(f"RCPT TO:<{to}> {parameters}")
            client.say("DATA", 354)
            client.send(written(name, extra=b"X-Ticketgate-Ticket: %d\r\n" % ticket, to=to.encode()) + b".\r\n")
            client.expect(250)

    def test_a_success_that_was_asked_for(self):
        self.start()
        ticket = self.ask("asked", "alice@far.example")["ticket"]
        self.becomes(ticket, ("relayed", None))
        self.submitted("never", "gone@dead.example", "NOTIFY=NEVER", ticket)
        self.becomes(ticket, ("relayed", None))
        self.submitted("success", "carol@far.example", "NOTIFY=SUCCESS,FAILURE", ticket)
        mail = self.becomes(ticket, ("relayed", "delivered"))
        (said,) = self.reports(ticket)
        self.assertEqual((said["bounce"], said["matched_by"], said["automatic"]), (None, "reference", "auto-replied"))
        self.assertIn(f"it reports our mail {mail['id']}: delivered", self.traced(said["message_id"]))
        self.assertIn("delivered for carol@far.example", told_of(self.gate, "delivery_changed")[-1]["said"])
        self.assertEqual(self.suppressions(), [])
        # Of the one that nobody wanted to hear of nothing came home.
        never = told(self.gate, "explain", "never@crm.example")["entries"][0]["id"]
        self.assertEqual([(d["state"], d["reported"]) for d in told(self.gate, "outbox", "show", never)["delivery"]], [("relayed", None)])


class Letters(House):
    """Reports that are written here, to a far end that takes everything."""

    def setUp(self):
        super().setUp()
        self.far = Answering(lambda mail: self.answer(mail)).start()
        self.answer = lambda mail: None
        self.addCleanup(self.far.stop)
        channel = {"address": SUPPORT, "name": "Support", "queue": "Support", "acknowledge": True}
        relay = {"name": "far", "kind": "smtp", "host": "127.0.0.1", "port": self.far.port, "security": "none"}
        self.gate = self.far.gate = self.daemon({"channel": [channel], "relay": [relay]}).start()

    def acknowledged(self, name, who):
        """Somebody's ticket, and our acknowledgement that was sent to him."""
        ticket = self.ask(name, who)["ticket"]
        return ticket, self.becomes(ticket, ("relayed", None))

    def comes(self, name, data, to=SUPPORT):
        self.gate.send(data, sender="", recipients=[to])
        return self.gate.filed(name)

    def test_reports_of_every_kind_set_the_state(self):
        # Action, status, what the server said; the state that follows, what stands as reported, and the failures.
        table = [
            ("delayed", "4.4.7", "451 4.4.7 try later", "relayed", "delayed", 0),
            ("delivered", "2.0.0", "250 ok", "relayed", "delivered", 0),
            ("relayed", "2.0.0", "250 ok", "relayed", "relayed", 0),
            ("expanded", "2.0.0", "250 ok", "relayed", "expanded", 0),
            ("failed", "5.2.2", "552 5.2.2 mailbox full", "failed", "failed", 0),
            ("failed", "5.0.0", "550 no such user", "failed", "failed", 1),
            ("failed", "5.1.1", "550 5.1.1 no such user", "failed", "failed", 1),
        ]
        for number, (action, code, said, state, reported, failures) in enumerate(table):
            with self.subTest(action, code=code):
                who = f"user{number}@far.example"
                ticket, mail = self.acknowledged(f"kind{number}", who)
                returned = f"Message-ID: <{mail['message_id']}>\r\n"
                entry = self.comes(f"dsn{number}", report(f"dsn{number}", "delivery-status", status(who, action, code, said), returned))
                self.assertEqual((entry["filing"], entry["ticket"]), ("reported", ticket))
                one = self.becomes(ticket, (state, reported))["delivery"][0]
                self.assertEqual(one["reply"], f"{code} {said}")
                self.assertEqual([row[2] for row in self.suppressions() if row[0] == who], [1] * failures)

    def test_a_report_that_is_faster_than_our_commit(self):
        """It is filed before the server has even said that it takes the mail."""
        def answer(mail):
            about = status("ann@far.example", "failed", "5.1.1", "550 5.1.1 no such user")
            returned = f"Message-ID: {field(mail, 'Message-ID')}\r\n"
            self.gate.send(report("early", "delivery-status", about, returned), sender="", recipients=[mail.sender])
            self.gate.filed("early")
            return None
        self.answer = answer
        ticket = self.ask("question", "ann@far.example")["ticket"]
        mail = self.becomes(ticket, ("failed", "failed"))
        def ended():
            shown = told(self.gate, "outbox", "show", mail["id"])
            return shown["delivery"][0]["attempts"] == 1 and shown
        shown = until("the attempt is written down", ended, 10)
        self.assertEqual((shown["state"], shown["delivery"][0]["state"]), ("done", "failed"))
        self.assertEqual((len(self.far.mails), self.suppressions()), (1, [("ann@far.example", False, 1)]))

    def test_one_complaint_is_enough(self):
        # What the report says of whom it is about, and whether it is a complaint at all.
        table = [
            (complaint("user0@far.example"), True),
            (complaint(""), True),
            (complaint("user2@far.example", "not-spam"), False),
            (complaint("user3@far.example", "auth-failure"), False),
        ]
        for number, (about, complains) in enumerate(table):
            who = f"user{number}@far.example"
            ticket, mail = self.acknowledged(f"question{number}", who)
            returned = f"From: {SUPPORT}\r\nMessage-ID: <{mail['message_id']}>\r\n"
            extra = "Auto-Submitted: auto-generated\r\n"
            entry = self.comes(f"arf{number}", report(f"arf{number}", "feedback-report", about, returned, extra))
            self.assertEqual((entry["filing"], entry["ticket"] == ticket), ("reported", True) if complains else ("opened", False))
            self.becomes(ticket, ("relayed", "complaint" if complains else None))
            self.assertEqual([row[:2] for row in self.suppressions() if row[0] == who], [(who, True)] * complains)
        self.assertIn("complained", self.gate.command("suppressions", "list").stdout)
        ticket = self.ask("again", "user0@far.example")["ticket"]
        self.becomes(ticket, ("suppressed", None))

    def test_a_report_that_proves_nothing(self):
        ticket, mail = self.acknowledged("question", "ann@far.example")
        token = mail["message_id"].partition(".")[0]
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        # Whom it is sent to, the mail that it says came back, what it answers.
        forgeries = [
            (SUPPORT, "made-up@localhost", ""),
            (SUPPORT, f"{wrong}.1@localhost", ""),
            (f"support+{wrong}@localhost", "made-up@localhost", ""),
            # Whoever had a copy of the customer's mail knows these.
            (SUPPORT, "question@client.example", ""),
            (SUPPORT, "made-up@localhost", "In-Reply-To: <question@client.example>\r\n"),
            (SUPPORT, "made-up@localhost", f"Subject: [#{ticket}] Undelivered\r\n"),
        ]
        abouts = [
            ("delivery-status", status("ann@far.example", "failed", "5.1.1", "550 5.1.1 no such user")),
            ("feedback-report", complaint("ann@far.example")),
        ]
        before = told(self.gate, "outbox", "show", mail["id"])
        for number, (to, original, extra) in enumerate(forgeries):
            for kind, about in abouts:
                name = f"forged{number}.{kind}"
                with self.subTest(to, original=original, extra=extra, kind=kind):
                    entry = self.comes(name, report(name, kind, about, f"Message-ID: <{original}>\r\n", extra, to), to)
                    self.assertIn(entry["filing"], ("opened", "reported"))
                    self.assertIn("changes no state", " ".join(self.traced(f"{name}@client.example")))
                    self.assertEqual(told(self.gate, "outbox", "show", mail["id"]), before)
                    self.assertEqual(self.suppressions(), [])
        # The same words with what only the far end knows are believed.
        returned = f"Message-ID: <{mail['message_id']}>\r\n"
        self.comes("true", report("true", *abouts[0], returned))
        self.becomes(ticket, ("failed", "failed"))
        self.report(f"{len(forgeries) * len(abouts)} forged reports changed nothing")
