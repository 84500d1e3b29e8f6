"""swaks, as people use it to try a mail server, delivers; the ticket says what was sent."""

import subprocess

from harness import tls
from harness.case import Case
from harness.settings import need


class SwaksDelivers(Case):
    def setUp(self):
        need("swaks")
        super().setUp()
        certificate, key = tls.certificate(self.place)
        self.ticketgate = self.daemon({"tls": {"certificate": str(certificate), "key": str(key)}}).start()

    def swaks(self, name, *options, to="support@localhost"):
        return subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{self.ticketgate.port}", "--from", "alice@example.net", "--to", to,
             "--helo", "client.example", "--header", f"Message-Id: <{name}@client.example>",
             "--header", "Subject: The printer is on fire", "--body", "Please help.", *options],
            capture_output=True, text=True, timeout=60,
        )

    def delivered(self, name, *options):
        done = self.swaks(name, *options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.ticketgate.filed(name)

    def test_plain(self):
        entry = self.delivered("plain")
        self.assertEqual((entry["filing"], entry["channel"], entry["queue"]), ("opened", "support@localhost", "Support"))
        self.assertEqual((entry["subject"], entry["text"].strip()), ("The printer is on fire", "Please help."))
        self.assertEqual(entry["from"]["address"], "alice@example.net")
        self.assertEqual(entry["envelope"], {"mail_from": "alice@example.net", "rcpt_to": ["support@localhost"]})
        self.assertEqual((entry["origin"]["kind"], entry["origin"]["helo"], entry["origin"]["tls"]), ("smtp", "client.example", False))
        self.assertTrue(entry["origin"]["peer"].startswith("127.0.0.1"), entry["origin"]["peer"])

    def test_starttls(self):
        self.assertTrue(self.delivered("tls", "--tls")["origin"]["tls"])

    def test_pipelining(self):
        self.assertEqual(self.delivered("pipelined", "--pipeline")["filing"], "opened")

    def test_plus_address(self):
        done = self.swaks("plus", to="support+printers@localhost")
        self.assertEqual(done.returncode, 0, done.stdout)
        entry = self.ticketgate.filed("plus")
        self.assertEqual((entry["channel"], entry["envelope"]["rcpt_to"]), ("support@localhost", ["support+printers@localhost"]))

    def test_a_recipient_that_is_not_ours_is_refused(self):
        done = self.swaks("relay", to="somebody@elsewhere.example")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"<\*\* +55[0-9] 5\.[17]\.1 ")
        self.ticketgate.settle("after-relay")
        self.assertEqual([e["message_id"] for e in self.ticketgate.admin.entries()], ["after-relay@client.example"])

    def test_an_attachment_and_a_reply(self):
        paper = self.place / "invoice.bin"
        paper.write_bytes(bytes(range(256)) * 40)
        first = self.delivered("question", "--attach", f"@{paper}")
        self.assertEqual([(a["name"], a["size"]) for a in first["attachments"]], [("invoice.bin", 10240)])
        status, _, body = self.ticketgate.admin.request("GET", f"/v1/entries/{first['id']}/attachments/0")
        self.assertEqual((status, body), (200, paper.read_bytes()))
        reply = self.delivered("answer", "--header", "In-Reply-To: <question@client.example>", "--header", "References: <question@client.example>")
        self.assertEqual((reply["filing"], reply["ticket"], reply["matched_by"]), ("appended", first["ticket"], "reference"))
