"""Mail of an account that is not connected waits for it, and no other relay takes it; the sandbox needs nothing at all."""

import subprocess

from harness import smtp
from harness.case import Case
from harness.mailboxes import USER
from harness.oauth import OAuthCase
from harness.oidc import Provider
from harness.outbound import Bed, all_relayed, outbox, swaks, told
from harness.settings import BINARY
from harness.sink import Sink
from harness.wait import until


class Disconnected(OAuthCase):
    def start_dovecot(self):
        self.provider = Provider(self.place, self.access_ttl, USER).start()
        self.addCleanup(self.provider.stop)
        self.bed = Bed(self, self.provider)
        return self.bed.dovecot

    def test_it_waits_and_leaves_by_nobody_else(self):
        other = Sink().start()
        self.addCleanup(other.stop)
        spare = {"name": "spare", "kind": "smtp", "host": "127.0.0.1", "port": other.port, "security": "none"}
        own = self.bed.relay(mechanism="xoauth2", user=None, password_file=None, account=USER)
        channel = self.oauth_channel() | {"relay": "smarthost"}
        # The default channel cannot be disconnected, so there is another one.
        desk = {"address": "desk@localhost", "name": "Desk", "queue": "Support"}
        self.gateway(desk, channel, settings={"relay": [own, spare], "outbox": {"default_relay": "spare"}})
        self.consent()
        self.connected()
        done = self.gate.command("disconnect", USER)
        self.assertEqual(done.returncode, 0, done.stderr)
        until("it is disconnected", lambda: self.connection().get("state") != "connected", 10)
        self.gate.send(smtp.message("question"))
        ticket = self.gate.filed("question")["ticket"]
        told(self.gate, "tickets", "reply", ticket, "--text", "Later.")
        def waits():
            mails = outbox(self.gate)
            return mails and mails[0]["waits_for"] and mails[0]
        mail = until(lambda: f"it says what it waits for: {outbox(self.gate)}", waits, 15)
        self.assertIn("connect", mail["waits_for"])
        self.assertEqual((mail["state"], mail["attempts"]), ("waiting", 0))
        # Not even a person's order sends it; nor does a restart.
        self.gate.command("outbox", "retry", mail["id"])
        self.gate.stop()
        self.gate.start()
        until("it says so again", waits, 15)
        self.assertEqual((other.mails, self.bed.far.arrived()), ([], []))
        self.consent(verb="reconnect")
        self.connected()
        all_relayed(self.gate, 1)
        self.assertEqual(len(self.bed.arrived(1)), 1)
        self.assertEqual(other.mails, [])


class Sandbox(Case):
    """Ports that are fixed: nothing else may use them."""

    def test_without_a_configuration_file(self):
        data, log = self.place / "ticketgate-data", self.place / "log"
        with open(log, "wb") as out:
            process = subprocess.Popen([BINARY, "run"], cwd=self.place, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        def listens():
            assert process.poll() is None, log.read_text()
            try:
                with smtp.Client(2587) as client:
                    return client.greet()
            except OSError:
                return None
        until(lambda: f"the door answers\n{log.read_text()}", listens, 20)
        swaks(2587, "--header", "Subject: Into the sandbox", "--body", "Nobody gets this.", sender="support@localhost", to="ada@example.org")
        def kept():
            return list((data / "outbound" / "new").glob("*"))
        mail = until(lambda: f"it is in the Maildir\n{log.read_text()[-3000:]}", kept, 20)[0].read_bytes()
        head = mail.partition(b"\r\n\r\n")[0]
        self.assertTrue(head.startswith(b"Return-Path: <support@localhost>\r\nDelivered-To: ada@example.org\r\nReceived: from crm.example"), head)
        self.assertIn(b"Subject: Into the sandbox", head)
        self.assertIn(b"Nobody gets this.", mail)
