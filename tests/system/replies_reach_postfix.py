"""Replies and submitted mail reach a Postfix behind a Postfix smarthost, with TLS and every login, byte for byte."""

import base64
import json
import re
import ssl

from harness import smtp, tls
from harness.case import Case
from harness.mailboxes import USER
from harness.oauth import OAuthCase
from harness.oidc import Provider
from harness.outbound import PASSWORD, Bed, all_relayed, login, parted, submission, swaks, told, written
from harness.settings import free_port
from harness.wait import until

# What stands in front of a mail that was submitted: the far end's fields, and a trace of each server on the way.
FRONT = ["Return-Path", "X-Original-To", "Delivered-To", "Received", "Received", "Received"]
# A reply begins here, so it has one trace less.
REPLY = FRONT[:-1]

# Everything that a careless server would touch.
AWKWARD = (
    b"From:support@localhost\r\nto:   =?utf-8?q?Al=C3=ADce?=\r\n\t <alice@example.net>,\r\n  bob@example.org\r\n"
    b"SUBJECT:\t A   subject\r\n \twith odd   folding \t\r\nMessage-Id:  <awkward@crm.example>\r\n"
    b"Date: Mon, 23 Nov 2026 10:00:00 +0000 (some\r\n zone)\r\nBcc: carol@example.com\r\n"
    b"X-Auto-Response-Suppress: All\r\nx-mailer: Zendesk Mailer\r\nX-Zendesk-From-Account-Id: 1a2b3c\r\n"
    b"X-Zendesk-Email-Id: 01HZZZ\r\nAuto-Submitted: auto-generated\r\nX-Long: " + b"x" * 1500 + b"\r\n"
    b"X-Twice: 1\r\nX-Twice: 2\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
    b".\r\n..\r\n.dot\r\n" + bytes(range(160, 256)) + b"\r\n" + b"y" * 5000 + b"\r\n\r\nFrom here\r\ntrailing \t\r\n\r\n\r\n"
)


class Replies(Case):
    def setUp(self):
        super().setUp()
        self.bed = Bed(self)
        certificate, key = tls.certificate(self.place)
        self.door, self.wrapped = free_port(), free_port()
        door = submission(self.place, self.door)
        door["listeners"] = [
            {"name": "submission", "bind": f"127.0.0.1:{self.door}", "tls": "required"},
            {"name": "submissions", "bind": f"127.0.0.1:{self.wrapped}", "tls": "implicit"},
        ]
        self.base = {"submission": door, "tls": {"certificate": str(certificate), "key": str(key)}}

    def gateway(self, **relay):
        self.gate = self.daemon({**self.base, "relay": [self.bed.relay(**relay)]}).start()
        return self.gate

    def reply_by_api(self, ticket, **more):
        status, _, body = self.gate.admin.request("POST", f"/v1/tickets/{ticket}/replies", {"author": "eve", **more})
        self.assertEqual(status, 201, body)
        return json.loads(body)

    def test_replies_by_api_and_by_command_line(self):
        self.gateway()
        self.gate.send(smtp.message("question"))
        ticket = self.gate.filed("question")["ticket"]
        paper = self.place / "paper.bin"
        paper.write_bytes(bytes(range(256)) * 50)
        self.reply_by_api(ticket, markdown="It *prints* again.\n\n.\n\n" + "Grüße ☃ " * 200)
        told(self.gate, "tickets", "reply", ticket, "--text", ".\n..\nFrom now on it prints.", "--attach", paper)
        all_relayed(self.gate, 2)
        arrived = self.bed.arrived(2)
        sent = [e for e in self.gate.admin.entries() if e["direction"] == "outbound"]
        self.assertEqual(len(sent), 2)
        for entry in sent:
            mail = next(m for m in arrived if f"\nX-Ticketgate-Email-Id: {entry['id']}\n".encode() in m)
            self.assertEqual(parted(mail, self.gate.admin.raw(entry)), REPLY, mail[:2000])
            self.assertEqual([d["state"] for d in entry["delivery"]], ["relayed"])
            fields = mail.partition(b"\n\n")[0].decode()
            for line in ("X-Auto-Response-Suppress: All", "X-Mailer: Ticketgate Mailer", f"X-Ticketgate-Email-Id: {entry['id']}",
                         "X-Ticketgate-From-Account-Id: ", "In-Reply-To: <question@client.example>"):
                self.assertIn("\n" + line, fields)
            self.assertNotIn("Auto-Submitted", fields)
            self.assertIn("Return-Path: <support+", fields)

    def test_a_ticket_is_opened_by_a_mail_and_the_answer_joins_it(self):
        self.gateway()
        order = ["tickets", "new", "--channel", "support@localhost", "--to", "Alice <alice@example.net>",
                 "--subject", "Your printer", "--text", "It is ready.", "--key", "k1"]
        opened = told(self.gate, *order)
        self.assertEqual((opened["filing"], opened["ticket"]), ("opened", 1))
        mail = self.bed.arrived(1)[0]
        self.assertEqual(parted(mail, self.gate.admin.raw(opened)), REPLY, mail)
        back = re.search(rb"^Reply-To: <(support\+\S+@localhost)>$", mail, re.M)[1].decode()
        self.gate.stop()
        self.gate.start()
        self.assertEqual(told(self.gate, *order)["id"], opened["id"])
        self.gate.send(smtp.message("answer"), recipients=[back])
        self.assertEqual((self.gate.filed("answer")["ticket"], self.gate.filed("answer")["matched_by"]), (1, "token"))
        all_relayed(self.gate, 1)
        self.assertEqual(len(self.bed.arrived(1)), 1)
        self.gate.stop()
        self.gate.fsck()

    def test_submitted_by_starttls_and_by_implicit_tls_with_each_login(self):
        self.gateway()
        count = 0
        for port, way in ((self.door, "--tls"), (self.wrapped, "--tlsc")):
            for mechanism in ("PLAIN", "LOGIN"):
                name = f"swaks{count}"
                data = written(name, b".\r\nWhat a \xfc mail\r\n", b"X-Fold: a\r\n  \t b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n")
                file = self.place / name
                # swaks puts the last line end behind it.
                file.write_bytes(data.removesuffix(b"\r\n"))
                swaks(port, way, "--auth", mechanism, "--auth-user", "crm", "--auth-password", PASSWORD, "--data", f"@{file}")
                count += 1
                mail = self.bed.arrived(count)[-1]
                self.assertEqual(parted(mail, data), FRONT, mail)
        all_relayed(self.gate, count)
        self.bed.smarthost.logged("sasl_method=PLAIN")

    def test_submitted_by_scram(self):
        self.gateway()
        data = written("scram")
        with smtp.Client(self.door) as client:
            client.greet()
            self.assertIn("SCRAM-SHA-256", client.starttls())
            smtp.scram(client, "crm", PASSWORD)
            client.mail(data, sender="support@localhost", recipients=["alice@example.net"])
        self.assertEqual(parted(self.bed.arrived(1)[0], data), FRONT)

    def test_nothing_of_a_submitted_mail_is_changed(self):
        self.gateway()
        with smtp.Client(self.door) as client:
            client.greet()
            client.starttls()
            login(client)
            client.mail(AWKWARD, sender="support@localhost", recipients=["alice@example.net"])
        all_relayed(self.gate, 1)
        mail = self.bed.arrived(1)[0]
        self.assertEqual(parted(mail, AWKWARD), FRONT, mail)

    def test_a_mail_without_a_final_line_end(self):
        self.gateway()
        data = written("bdat", b"no line end at the end")
        with smtp.Client(self.door) as client:
            client.greet()
            if "CHUNKING" not in client.starttls():
                self.skipTest("the door has no CHUNKING")
            login(client)
            client.say("MAIL FROM:<support@localhost>")
            client.say("RCPT TO:<alice@example.net>")
            client.send(b"BDAT %d LAST\r\n" % len(data) + data)
            client.expect(250)
        mail = self.bed.arrived(1)[0]
        self.assertEqual(parted(mail, data), FRONT, mail)

    def test_every_password_mechanism_and_both_kinds_of_tls(self):
        count = 0
        for mechanism in ("plain", "login"):
            for way in ({}, {"security": "tls", "port": self.bed.smarthost.wrapped}):
                with self.subTest(mechanism, **way):
                    gate = self.daemon({**self.base, "relay": [self.bed.relay(mechanism=mechanism, **way)]}).start()
                    self.gate, data = gate, written(f"m{count}")
                    with smtp.Client(self.door) as client:
                        client.greet()
                        client.starttls()
                        login(client)
                        client.mail(data, sender="support@localhost", recipients=["alice@example.net"])
                    count += 1
                    self.assertEqual(parted(self.bed.arrived(count)[-1], data), FRONT)
                    self.assertIn(f"sasl_method={mechanism.upper()}", "\n".join(self.bed.smarthost.log().splitlines()[-20:]))
                    gate.stop()

    def test_a_server_that_nobody_vouches_for_gets_nothing(self):
        other = tls.authority(self.place, "other")
        self.gateway(ca_file=str(other))
        with smtp.Client(self.door) as client:
            client.greet()
            client.starttls()
            login(client)
            client.mail(written("distrusted"), sender="support@localhost", recipients=["alice@example.net"])
        def delayed():
            mails = self.gate.admin.get("/v1/outbox")["mails"]
            return mails and mails[0]["delivery"][0]["state"] == "delayed" and mails[0]
        mail = until("the mail is delayed", delayed, 20)
        self.assertIn("certificate", mail["delivery"][0]["reply"].lower())
        self.assertEqual(self.bed.far.arrived(), [])


class Tokens(OAuthCase):
    """Logins with tokens, which the channel's account has from `ticketgate connect`."""

    def start_dovecot(self):
        self.provider = Provider(self.place, self.access_ttl, USER).start()
        self.addCleanup(self.provider.stop)
        self.bed = Bed(self, self.provider)
        return self.bed.dovecot

    def sends_by(self, mechanism):
        relay = self.bed.relay(mechanism=mechanism, user=None, password_file=None, account=USER)
        self.gateway(settings={"relay": [relay]})
        self.consent()
        self.connected()
        self.gate.send(smtp.message("question"))
        ticket = self.gate.filed("question")["ticket"]
        told(self.gate, "tickets", "reply", ticket, "--text", "By a token.")
        all_relayed(self.gate, 1)
        sent = next(e for e in self.gate.admin.entries() if e["direction"] == "outbound")
        mail = self.bed.arrived(1)[0]
        self.assertEqual(parted(mail, self.gate.admin.raw(sent)), REPLY, mail)
        self.bed.smarthost.logged(f"sasl_method={mechanism.upper()}, sasl_username={USER}")

    def test_xoauth2(self):
        self.sends_by("xoauth2")

    def test_oauthbearer(self):
        self.sends_by("oauthbearer")

    def test_a_program_hands_in_with_a_token(self):
        port = free_port()
        certificate, key = tls.certificate(self.place)
        door = submission(self.place, port)
        door["listeners"][0]["tls"] = "required"
        door["accounts"].append({"name": USER, "oauth": "bed", "senders": [USER]})
        relay = self.bed.relay(mechanism="oauthbearer", user=None, password_file=None, account=USER)
        self.gateway(settings={"relay": [relay], "submission": door, "tls": {"certificate": str(certificate), "key": str(key)}})
        self.consent()
        self.connected()
        token = self.provider.secrets()["AccessToken"][-1]
        data = written("by-token")
        with smtp.Client(port) as client:
            client.greet()
            client.starttls()
            said = base64.b64encode(f"n,a={USER},\1host=localhost\1port={port}\1auth=Bearer {token}\1\1".encode()).decode()
            client.say(f"AUTH OAUTHBEARER {said}", 235)
            client.mail(data, sender=USER, recipients=["alice@example.net"])
        self.assertEqual(parted(self.bed.arrived(1)[0], data), FRONT)
