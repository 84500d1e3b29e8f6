"""Programs that hand mail in hear what became of it: reports of ours where the next server writes none, and only there."""

import email
import email.policy
import smtplib
import time

from harness.case import Case
from harness.outbound import PASSWORD, outbox, submission, swaks, written
from harness.postfix import FAR_END, Postfix
from harness.settings import free_port
from harness.wait import until

SENDER = "crm@shop.example"

# Takes mail for everybody but nobody.
REFUSING = FAR_END + """
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{nobody@example.net = 550 5.1.1 No such user here}}, {{full@example.net = 552 5.2.2 Mailbox full}} }}, permit
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
"""
# As a server of old: it does not know NOTIFY.
WITHOUT_DSN = REFUSING + """
smtpd_discard_ehlo_keywords = dsn, silent-discard
"""


def fields(part):
    """The groups of a message/delivery-status: the mail's own, then one for each recipient."""
    return [dict(group.items()) for group in part.get_payload()]


class SendersHear(Case):
    def gateway(self, role=REFUSING, **settings):
        self.far = Postfix(self.place, role, name="far")
        self.addCleanup(self.far.stop)
        self.far.start()
        self.door = free_port()
        relay = {"name": "far", "kind": "smtp", "host": "127.0.0.1", "port": self.far.port, "security": "none", "concurrency": 1}
        self.gate = self.daemon({
            "server": {"hostname": "desk.example.com"}, "submission": submission(self.place, self.door),
            "relay": [relay], **settings,
        }).start()

    def submit(self, name, *recipients, sender=SENDER, options=(), notify=None, body=b"It prints again.\r\n"):
        """Hands a mail in as Python programs do."""
        with smtplib.SMTP("127.0.0.1", self.door, timeout=20) as client:
            client.ehlo("crm.example")
            client.login("crm", PASSWORD)
            wishes = [f"NOTIFY={notify}"] if notify else []
            client.mail(sender, list(options))
            for recipient in recipients:
                code, said = client.rcpt(recipient, [*wishes, f"ORCPT=rfc822;{recipient}"] if wishes else [])
                self.assertEqual(code, 250, said)
            code, said = client.data(written(name, body))
            self.assertEqual(code, 250, said)

    def box(self, to=SENDER):
        """The mails that lie in somebody's mailbox."""
        mails = (email.message_from_bytes(mail, policy=email.policy.default) for mail in self.far.arrived())
        return [mail for mail in mails if mail["Delivered-To"] == to]

    def reports(self, count):
        until(lambda: f"{count} reports, not {len(self.box())}\n{self.far.log()[-2000:]}\n{self.gate.log()}",
              lambda: len(self.box()) >= count, 40)
        got = self.box()
        self.assertEqual(len(got), count)
        return got

    def quiet(self, sent):
        """So many mails are done, and a moment later nobody has heard of any."""
        until(lambda: f"{sent} mails are done: {outbox(self.gate)}",
              lambda: [mail["state"] for mail in outbox(self.gate)] == ["done"] * sent, 30)
        time.sleep(1)
        self.assertEqual(len(outbox(self.gate)), sent)

    def test_a_refusal_comes_back_to_whom_it_concerns(self):
        self.gateway()
        self.submit("order", "nobody@example.net", "ann@example.net", "full@example.net",
                    options=["RET=FULL", "ENVID=QQ+2B314"], notify="FAILURE")
        [report] = self.reports(1)
        self.assertEqual(report["Return-Path"], "<>")
        self.assertEqual(report["Auto-Submitted"], "auto-replied")
        self.assertEqual(report["Subject"], "Not delivered: News")
        self.assertEqual(report["In-Reply-To"], "<order@crm.example>")
        self.assertEqual((report["From"].addresses[0].addr_spec, report["To"]), ("support@localhost", SENDER))
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertEqual(report.get_param("report-type"), "delivery-status")
        self.assertEqual(report.defects, [])
        words, status, original = report.get_payload()
        self.assertEqual(words.get_content_type(), "text/plain")
        for said in ('your mail "News"', "nobody@example.net", "127.0.0.1 said: 550 5.1.1", "Check its spelling",
                     "full@example.net", "The mailbox is full"):
            self.assertIn(said, words.get_content())
        self.assertNotIn("ann@example.net", words.get_content())
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        mail, nobody, full = fields(status)
        self.assertEqual((mail["Reporting-MTA"], mail["Original-Envelope-Id"]), ("dns; desk.example.com", "QQ+314"))
        self.assertIn("Arrival-Date", mail)
        self.assertEqual(
            {name: nobody[name] for name in ("Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA")},
            {"Original-Recipient": "rfc822; nobody@example.net", "Final-Recipient": "rfc822; nobody@example.net",
             "Action": "failed", "Status": "5.1.1", "Remote-MTA": "dns; [127.0.0.1]"},
        )
        self.assertRegex(nobody["Diagnostic-Code"], r"^smtp; 550 5\.1\.1 .*No such user here")
        self.assertEqual((full["Final-Recipient"], full["Action"], full["Status"]), ("rfc822; full@example.net", "failed", "5.2.2"))
        self.assertEqual(original.get_content_type(), "message/rfc822")
        self.assertIn("It prints again.", original.get_payload()[0].get_content())
        # It is told as an entry of its own, and opens nothing.
        sent = [e for e in self.gate.admin.entries() if e["direction"] == "outbound"]
        self.assertEqual([(e["filing"], e["ticket"], e["automatic"]) for e in sent], [("relayed", None, "no"), ("relayed", None, "auto-generated")])

    def test_swaks_that_asks_for_nothing_hears_of_a_failure(self):
        self.gateway()
        swaks(self.door, "--auth", "PLAIN", "--auth-user", "crm", "--auth-password", PASSWORD,
              "--header-From", "support@localhost", sender=SENDER, to="nobody@example.net")
        [report] = self.reports(1)
        _, status, original = report.get_payload()
        self.assertEqual([group.get("Action") for group in fields(status)], [None, "failed"])
        self.assertEqual(original.get_content_type(), "text/rfc822-headers")
        self.assertIn("Subject: test", original.get_payload())

    def test_never_and_the_null_sender_hear_of_nothing(self):
        self.gateway()
        self.submit("never", "nobody@example.net", notify="NEVER")
        self.submit("null", "nobody@example.net", sender="", notify="FAILURE")
        self.submit("success", "ann@example.net", notify="FAILURE")
        self.quiet(3)
        self.assertEqual(self.box(), [])

    def test_a_success_is_reported_by_the_server_that_can(self):
        self.gateway()
        self.submit("order", "ann@example.net", notify="SUCCESS", options=["ENVID=E1"])
        [report] = self.reports(1)
        mail, ann = fields(report.get_payload()[1])
        self.assertEqual((mail["Reporting-MTA"], ann["Action"]), ("dns; gw.example.com", "delivered"), "Postfix says it, not we")
        self.quiet(1)

    def test_a_success_behind_a_server_without_dsn_is_relayed(self):
        self.gateway(WITHOUT_DSN)
        self.submit("order", "ann@example.net", notify="SUCCESS", options=["ENVID=E1", "RET=FULL"])
        [report] = self.reports(1)
        mail, ann = fields(report.get_payload()[1])
        self.assertEqual((mail["Reporting-MTA"], mail["Original-Envelope-Id"]), ("dns; desk.example.com", "E1"))
        self.assertEqual((ann["Action"], ann["Status"][0], ann["Original-Recipient"]), ("relayed", "2", "rfc822; ann@example.net"))
        self.assertEqual(report.get_payload()[2].get_content_type(), "text/rfc822-headers")

    def test_a_support_address_gets_a_ticket(self):
        self.gateway()
        self.submit("order", "nobody@example.net", sender="support@localhost")
        def opened():
            return [e for e in self.gate.admin.entries() if e["filing"] == "opened"]
        until("a ticket is opened", opened, 20)
        [entry] = opened()
        self.assertEqual((entry["automatic"], entry["subject"]), ("bounce", "Not delivered: News"))
        self.assertEqual([(r["address"], r["status"]) for r in entry["bounce"]["recipients"]], [("nobody@example.net", "5.1.1")])
        self.quiet(1)

    def test_no_report_is_lost_or_doubled_by_a_kill(self):
        self.gateway(loops={"per_recipient": [], "suppress_after": 0})
        for n in range(40):
            self.submit(f"order{n}", "nobody@example.net", sender=f"crm{n}@shop.example")
            if n % 8 == 7:
                self.gate.kill()
                self.gate.start()
        everybody = [f"crm{n}@shop.example" for n in range(40)]
        def told():
            return {to: len(self.box(to)) for to in everybody}
        until(lambda: f"all are told: {told()}\n{self.gate.log()}", lambda: min(told().values()) >= 1, 60)
        until(lambda: f"all are done: {outbox(self.gate)}", lambda: {m["state"] for m in outbox(self.gate)} == {"done"}, 30)
        written = [mail for mail in outbox(self.gate) if mail["sender"] == ""]
        self.assertEqual(len(written), 40, "one report for each mail, however often the daemon died")
        # A report whose answer from Postfix was not written down leaves again, as any mail does.
        self.assertLessEqual(sum(told().values()), 40 + 5)
        self.report(f"40 failures, 5 kills: {len(written)} reports written, {sum(told().values())} in the mailboxes")
