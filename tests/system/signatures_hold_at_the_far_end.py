"""DKIM signatures verify at the far end by an implementation that is not ours, with and without a smarthost between."""

import base64
import subprocess

from harness import smtp
from harness.case import Case
from harness.outbound import Bed, all_relayed, hand_in, parted, submission, told, written
from harness.pypi import dkim_verdicts, python
from harness.settings import free_port, need

# What signers stumble over: fields that come twice, odd folding, white space, empty lines at the end, long lines.
ODD = (
    b"X-Twice: 1\r\nX-Twice: 2\r\nReferences: <a@b>\r\n\t  <c@d> \r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n"
)
BODIES = [b"Hello\r\n", b"", b"\r\n\r\n\r\n", b"a  b\t c \t\r\n .\r\n.\r\n..\r\n\r\n\r\n", b"\xe4\xf6\r\n" + b"z" * 3000 + b"\r\n"]


class Signatures(Case):
    def setUp(self):
        super().setUp()
        python()
        need("openssl")
        self.bed = Bed(self)
        self.names, keys = {}, []
        for algorithm, made in (("rsa", ["genrsa", "2048"]), ("ed25519", ["genpkey", "-algorithm", "ed25519"])):
            file = self.place / f"{algorithm}.pem"
            file.write_bytes(subprocess.run(["openssl", *made], check=True, capture_output=True).stdout)
            public = subprocess.run(["openssl", "pkey", "-in", file, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
            # RFC 8463 publishes the bare key, without the wrapping that tells its algorithm.
            public = public[-32:] if algorithm == "ed25519" else public
            self.names[f"{algorithm}._domainkey.localhost"] = f"v=DKIM1; k={algorithm}; p={base64.b64encode(public).decode()}"
            keys.append({"domain": "localhost", "selector": algorithm, "key_file": str(file), "algorithm": f"{algorithm}-sha256"})
        near = {"name": "near", "kind": "smtp", "host": "127.0.0.1", "port": self.bed.far.port, "security": "none", "dkim": True}
        self.door = free_port()
        self.settings = {
            "relay": [near, self.bed.relay(dkim=True)], "dkim": keys, "submission": submission(self.place, self.door),
        }

    def verified(self, relay, front):
        gate = self.daemon({**self.settings, "outbox": {"default_relay": relay}}).start()
        mails = [written(f"signed{n}", body, ODD) for n, body in enumerate(BODIES)]
        hand_in(self.door, mails)
        gate.send(smtp.message("question"))
        told(gate, "tickets", "reply", gate.filed("question")["ticket"], "--text", "Signed.")
        all_relayed(gate, len(mails) + 1)
        arrived = self.bed.arrived(len(mails) + 1)
        self.assertEqual(len(arrived), len(mails) + 1)
        for mail in arrived:
            said = dkim_verdicts(mail.replace(b"\n", b"\r\n"), self.names)
            self.assertEqual(sorted(said), ["good ed25519-sha256 localhost ed25519", "good rsa-sha256 localhost rsa"], mail)
        for data in mails:
            fields = [found for found in (parted(mail, data) for mail in arrived) if found]
            self.assertEqual(fields, [front])
        # The judge knows a mail that was changed.
        spoilt = arrived[0].replace(b"\n", b"\r\n") + b"more\r\n"
        self.assertFalse([line for line in dkim_verdicts(spoilt, self.names) if line.startswith("good")])
        self.report(f"{len(arrived)} mails with {2 * len(arrived)} signatures, all good")

    def test_straight_to_the_far_end(self):
        self.verified("near", ["Return-Path", "X-Original-To", "Delivered-To", "Received", "DKIM-Signature", "DKIM-Signature", "Received"])

    def test_behind_a_smarthost(self):
        front = ["Return-Path", "X-Original-To", "Delivered-To", "Received", "Received", "DKIM-Signature", "DKIM-Signature", "Received"]
        self.verified("smarthost", front)
