"""The original bytes of every mail come back as they were sent, small or 40 MB large, and memory does not grow with size."""

import base64
import hashlib
import random
import time

from harness import smtp
from harness.case import Case


class BytesAreKept(Case):
    def setUp(self):
        super().setUp()
        self.ticketgate = self.daemon().start()

    def check(self, name, data):
        entry = self.ticketgate.filed(name, 120)
        wanted = hashlib.sha256(data).hexdigest()
        self.assertEqual((entry["size"], entry["sha256"]), (len(data), wanted))
        self.assertEqual(hashlib.sha256(self.ticketgate.admin.raw(entry)).hexdigest(), wanted)
        return entry

    def test_odd_bytes(self):
        bodies = {
            "dots": ".\r\n..\r\n...\r\n. \r\n.x\r\n", "no-body": "", "eight-bit": "Grüße, \u2603\r\n",
            "long-line": "x" * 20_000 + "\r\n", "bare": "a\nb\rc\r\n",
            "nuls": "a\0b\r\n",
        }
        for name, body in bodies.items():
            with self.subTest(name), smtp.Client(self.ticketgate.port) as client:
                client.greet()
                data = smtp.message(name, body=body)
                client.mail(data)
                self.check(name, data)

    def test_sizes_around_every_border(self):
        for size in (1, 4095, 4096, 65_536, 128 << 10, (128 << 10) + 1, 300_000, 1 << 20):
            name = f"size-{size}"
            with self.subTest(size):
                data = smtp.message(name)
                data += b"x" * max(0, size - len(data) - 2) + b"\r\n"
                self.ticketgate.send(data)
                self.check(name, data)

    def test_a_chunked_mail(self):
        data = smtp.message("chunked", body="one\r\n.\r\ntwo\r\n" * 5000)
        with smtp.Client(self.ticketgate.port) as client:
            client.greet()
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            for start in range(0, len(data), 10_001):
                piece = data[start:start + 10_001]
                last = " LAST" if start + 10_001 >= len(data) else ""
                client.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
                client.expect(250)
        self.check("chunked", data)

    def test_forty_megabytes_do_not_grow_memory(self):
        paper = base64.encodebytes(random.Random(1).randbytes(29 << 20)).replace(b"\n", b"\r\n")
        extra = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
        body = b"--b\r\nContent-Type: text/plain\r\n\r\nSee the scan.\r\n--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n" \
            b'Content-Disposition: attachment; filename="scan.pdf"\r\n\r\n' + paper + b"--b--\r\n"
        data = smtp.message("large", body="", extra=extra) + body
        self.ticketgate.send(smtp.message("small"))
        self.ticketgate.filed("small")
        before, _ = self.ticketgate.memory()
        with smtp.Client(self.ticketgate.port) as client:
            client.greet()
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            client.say("DATA", 354)
            client.send(smtp.stuffed(data))
            # All but the end is sent: what the daemon holds now, it holds for receiving.
            receiving, peak = self.ticketgate.memory()
            began = time.monotonic()
            client.send(b".\r\n")
            client.expect(250)
            seconds = time.monotonic() - began
        self.assertEqual(self.check("large", data)["attachments"][0]["size"], 29 << 20)
        _, after = self.ticketgate.memory()
        self.report(f"{len(data) / 1e6:.0f} MB: {before >> 20} MiB before, {peak >> 20} MiB at the highest while receiving, {after >> 20} MiB at the highest with filing and reading; 250 came {seconds * 1000:.0f} ms after the end")
        self.assertLess(peak - before, 8 << 20)

    def test_larger_than_the_limit_is_refused(self):
        self.ticketgate.stop()
        self.ticketgate.configure({"smtp": {"max_message_bytes": 1 << 20}})
        self.ticketgate.start()
        with smtp.Client(self.ticketgate.port) as client:
            self.assertIn(f"SIZE {1 << 20}", client.greet())
            client.say(f"MAIL FROM:<alice@example.net> SIZE={(1 << 20) + 1}", 552)
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            client.say("DATA", 354)
            client.send(smtp.message("too-large") + (b"x" * 70 + b"\r\n") * 20_000 + b".\r\n")
            self.assertRegex(client.expect(552), r"5\.3\.4")
            client.mail(smtp.message("small-enough"))
        self.ticketgate.settle("marker")
        filings = {e["message_id"].partition("@")[0]: (e["filing"], e["reason"]) for e in self.ticketgate.admin.entries()}
        self.assertEqual(filings.get("small-enough"), ("opened", None))
        self.assertEqual(filings.get("too-large"), ("rejected", "too_large"))
