"""Mail that is written here, read with a parser that is not ours: Python's email package."""

import base64
import email
import email.header
import email.policy
import email.utils
import json
import random
import re

from harness import smtp
from harness.case import Case

WORDS = ["plain", "Grüße", "日本語のテキスト", "עברית", "😀 emoji", "a, \"quoted\" <thing>; x", "=?utf-8?Q?trick?=", "x" * 90, "tab\there", "ends with space "]


def sender_name(raw):
    """The name in From. Python's newer parser puts a space between encoded words of a name (RFC 2047 section 6.2 forbids that); its older one does not."""
    name, _ = email.utils.parseaddr(email.message_from_bytes(raw)["From"].replace("\r\n", ""))
    return str(email.header.make_header(email.header.decode_header(name)))


class AnswersAreReadable(Case):
    def setUp(self):
        super().setUp()
        self.ticketgate = self.daemon().start()
        self.ticketgate.send(smtp.message("question", subject="Fragé"))
        self.number = self.ticketgate.filed("question")["ticket"]

    def answer(self, **order):
        status, _, body = self.ticketgate.admin.request("POST", f"/v1/tickets/{self.number}/replies", order)
        self.assertEqual(status, 201, body[:400])
        raw = self.ticketgate.admin.raw(json.loads(body))
        self.assertTrue(raw.isascii() and raw.endswith(b"\r\n"), raw)
        lines = raw.split(b"\r\n")
        self.assertLessEqual(max(map(len, lines)), 998)
        self.assertFalse([line for line in lines if re.search(rb"[\r\n\0]", line)], "a line end by itself")
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        # Python reports what it had to repair.
        self.assertEqual([part.defects for part in mail.walk() if part.defects], [], raw)
        return mail, raw

    def test_an_answer_with_everything(self):
        picture = bytes(range(256)) * 40
        mail, _ = self.answer(
            markdown="Schöne *Grüße*,\nEve <b>not bold</b>\n\n![](cid:pic@x)", quote=True, subject="Übersicht für Ähm",
            cc=["Jörg Müller, Dr. <joerg@example.org>", '"Plain, Name" <plain@example.org>'],
            attachments=[
                {"name": "Größe & Maß.pdf", "content_type": "application/pdf", "content_base64": base64.b64encode(picture).decode()},
                {"name": "p.png", "content_type": "image/png", "content_id": "pic@x", "content_base64": base64.b64encode(picture).decode()},
            ],
        )
        self.assertEqual(mail["Subject"], "Übersicht für Ähm")
        people = [(a.display_name, a.addr_spec) for a in mail["Cc"].addresses]
        self.assertEqual(people, [("Jörg Müller, Dr.", "joerg@example.org"), ("Plain, Name", "plain@example.org")])
        plain, html = mail.get_body(["plain"]), mail.get_body(["html"])
        self.assertEqual(plain.get_param("format"), "flowed")
        self.assertIn("Schöne *Grüße*,\n", plain.get_content().replace("\r\n", "\n"))
        self.assertIn("Schöne <em>Grüße</em>,<br />", html.get_content())
        self.assertIn("&lt;b&gt;not bold", html.get_content())
        self.assertIn("<blockquote", html.get_content())
        files = {part.get_filename(): part.get_content() for part in mail.walk() if part.get_filename()}
        self.assertEqual(files, {"Größe & Maß.pdf": picture, "p.png": picture})
        self.assertEqual(mail["In-Reply-To"], "<question@client.example>")
        self.assertRegex(mail["Message-ID"], rf"^<t{self.number}-[0-9a-z]{{16}}\.[0-9a-z]{{13}}@localhost>$")
        self.assertEqual(mail["X-Mailer"], "Ticketgate Mailer")
        self.assertIsNone(mail["Auto-Submitted"])
        self.assertIsNone(mail["Bcc"])

    def test_any_words(self):
        dice = random.Random(7)
        for _ in range(30):
            subject, name, file = (" ".join(dice.choices(WORDS, k=dice.randint(1, 6))) for _ in range(3))
            text = "\n".join(dice.choices(WORDS + [".", "From me", "> quoted", "long " * 60], k=20))
            data = dice.randbytes(500)
            mail, raw = self.answer(
                subject=subject, from_name=name, text=text,
                attachments=[{"name": file, "content_type": "text/plain", "content_base64": base64.b64encode(data).decode()}],
            )
            with self.subTest(subject=subject, name=name, file=file):
                self.assertEqual(mail["Subject"], " ".join(subject.split()))
                self.assertEqual(sender_name(raw), " ".join(name.split())[:200].strip().replace("=?", "= ?"))
                attached = list(mail.iter_attachments())[0]
                self.assertEqual(attached.get_payload(decode=True), data)
                shown = re.sub(r'[/\\:*?"<>|]', "_", " ".join(file.split()).replace("=?", "=_"))
                self.assertTrue(shown.startswith(attached.get_filename()[:50]), (shown, attached.get_filename()))

    def test_large_files_by_command(self):
        data = random.Random(3).randbytes(15 << 20)
        scan = self.place / "Scan für Ada.pdf"
        scan.write_bytes(data)
        before, _ = self.ticketgate.memory()
        done = self.ticketgate.command("tickets", "reply", self.number, "--text", "See the scan.", "--attach", scan, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        mail = email.message_from_bytes(self.ticketgate.admin.raw(json.loads(done.stdout)), policy=email.policy.default)
        attached = list(mail.iter_attachments())[0]
        self.assertEqual((attached.get_filename(), attached.get_content_type()), ("Scan für Ada.pdf", "application/pdf"))
        self.assertEqual(attached.get_content(), data)
        _, peak = self.ticketgate.memory()
        self.report(f"15 MiB attached: {before >> 20} MiB before, {peak >> 20} MiB at the highest")
        scan.write_bytes(data + data)
        refused = self.ticketgate.command("tickets", "reply", self.number, "--text", "x", "--attach", scan)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("replies.max_", refused.stderr)

    def test_nothing_is_injected(self):
        evil = "x\r\nBcc: eve@evil.example\r\n\r\nbody"
        mail, _ = self.answer(subject=evil, from_name=evil, text=evil, attachments=[{"name": evil, "content_type": evil, "content_base64": ""}])
        self.assertIsNone(mail["Bcc"])
        self.assertEqual(len(mail.get_all("Subject")), 1)

    def test_the_same_order_twice(self):
        order = {"text": "once", "idempotency_key": "one"}
        first, second = (self.ticketgate.admin.request("POST", f"/v1/tickets/{self.number}/replies", order) for _ in range(2))
        self.assertEqual((first[0], second[0]), (201, 201))
        self.assertEqual(json.loads(first[2])["id"], json.loads(second[2])["id"])
        other = self.ticketgate.admin.request("POST", f"/v1/tickets/{self.number}/replies", order | {"text": "twice"})
        self.assertEqual(other[0], 409, other[2])
