"""Twelve sequences that some servers take for the end of a mail do not end one here, so nothing can hide behind them."""

import ssl

from harness import smtp, tls
from harness.case import Case

# Only CR LF . CR LF ends the data (RFC 5321 section 4.1.1.4). Each of these has ended it in some server.
SEQUENCES = [
    b"\n.\n", b"\n.\r", b"\n.\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\r\n.\n",
    b"\r\n.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r.\n", b"\r.\r", b"\r.\r\n",
]


class SmuggledMail(Case):
    def setUp(self):
        super().setUp()
        self.ticketgate = self.daemon().start()

    def attack(self, number, sequence, pieces):
        """Sends one mail with a whole transaction behind the sequence; true when the daemon took it (as one mail)."""
        inner = smtp.message(f"smuggled-{number}", subject="I was smuggled", sender="boss@localhost")
        data = (
            smtp.message(f"outer-{number}").rstrip(b"\r\n") + sequence + b"MAIL FROM:<boss@localhost>\r\n"
            b"RCPT TO:<support@localhost>\r\nDATA\r\n" + inner + b"\r\n.\r\n"
        )
        with smtp.Client(self.ticketgate.port) as client:
            client.greet()
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            client.say("DATA", 354)
            if pieces:
                for piece in (data[i:i + 7] for i in range(0, len(data), 7)):
                    client.send(piece)
            else:
                client.send(data)
            code, text = client.reply()
            self.assertIn(code // 100, (2, 5), text)
            # Had the data ended early, the replies to the smuggled commands would stand before this one.
            client.send(b"NOOP\r\n")
            self.assertEqual(client.reply()[0], 250)
            self.assertEqual(client.buffer, b"", "more replies than commands")
            return code == 250

    def check(self, pieces):
        taken = {n for n, sequence in enumerate(SEQUENCES) if self.attack(n, sequence, pieces)}
        self.ticketgate.settle("marker")
        entries = [e for e in self.ticketgate.admin.entries() if not (e["message_id"] or "").startswith("marker")]
        tickets = [e for e in entries if e["filing"] == "opened"]
        self.assertEqual(sorted(e["message_id"] for e in tickets), sorted(f"outer-{n}@client.example" for n in taken))
        for entry in tickets:
            self.assertEqual(entry["envelope"]["mail_from"], "alice@example.net")
        self.report(f"{len(taken)} of {len(SEQUENCES)} were taken as one mail, the others refused")

    def test_in_one_write(self):
        self.check(pieces=False)

    def test_in_pieces_of_seven_octets(self):
        self.check(pieces=True)

    def test_nothing_pipelined_behind_starttls_survives(self):
        certificate, key = tls.certificate(self.place)
        self.ticketgate.stop()
        self.ticketgate.configure({"tls": {"certificate": str(certificate), "key": str(key)}})
        self.ticketgate.start()
        with smtp.Client(self.ticketgate.port) as client:
            client.greet()
            client.send(b"STARTTLS\r\nMAIL FROM:<injected@example.net>\r\n")
            code, _ = client.reply()
            if code == 220:
                # What came before the handshake is gone: the first reply inside is to our own EHLO.
                client.buffer = b""
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                client.socket = context.wrap_socket(client.socket)
                client.say("EHLO again.example")
                self.assertEqual(client.reply()[0] if client.buffer else None, None)
                client.send(b"RCPT TO:<support@localhost>\r\n")
                self.assertEqual(client.reply()[0], 503)
            else:
                self.assertEqual(code // 100, 5)
