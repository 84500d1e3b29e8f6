"""Mail that hides a second mail behind a false end of data leaves as the one mail that it is, or not at all."""

from harness import smtp
from harness.case import Case
from harness.outbound import Bed, login, outbox, submission, written
from harness.settings import free_port
from harness.wait import until
from smuggled_mail_is_held_off import SEQUENCES

# A line with a dot by itself, which DATA has to stuff, can only be handed in as it is by BDAT.
BY_BDAT = [*SEQUENCES, b"\r\n.\r\n"]


class SmuggledReplies(Case):
    def setUp(self):
        super().setUp()
        self.bed, self.door = Bed(self), free_port()
        self.gate = self.daemon({"relay": [self.bed.relay()], "submission": submission(self.place, self.door)}).start()

    def bodies(self, sequences, way):
        for number, sequence in enumerate(sequences):
            inner = written(f"smuggled-{way}-{number}", to=b"victim@example.net")
            body = (
                b"Hello" + sequence + b"MAIL FROM:<boss@localhost>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
                + inner + b"\r\n.\r\nQUIT\r\n"
            )
            yield f"outer-{way}-{number}", written(f"outer-{way}-{number}", body)

    def by_data(self, data):
        with smtp.Client(self.door) as client:
            client.greet()
            login(client)
            client.say("MAIL FROM:<support@localhost>")
            client.say("RCPT TO:<alice@example.net>")
            client.say("DATA", 354)
            client.send(smtp.stuffed(data) + b".\r\n")
            return client.reply()[0]

    def by_bdat(self, data):
        with smtp.Client(self.door) as client:
            self.assertIn("CHUNKING", client.greet())
            login(client)
            client.say("MAIL FROM:<support@localhost>")
            client.say("RCPT TO:<alice@example.net>")
            # In two parts, cut in the middle of the mail.
            half = len(data) // 2
            client.send(b"BDAT %d\r\n" % half + data[:half])
            client.expect(250)
            client.send(b"BDAT %d LAST\r\n" % (len(data) - half) + data[half:])
            return client.reply()[0]

    def settled(self):
        def over():
            mails = outbox(self.gate)
            ends = [d for m in mails for d in m["delivery"]]
            return mails if all(d["state"] in ("relayed", "failed") for d in ends) and mails else None
        return until(lambda: f"all have their end: {outbox(self.gate)[:2]}\n{self.gate.log()}", over, 40)

    def test_every_false_end_of_data(self):
        taken = [name for name, data in self.bodies(SEQUENCES, "data") if self.by_data(data) == 250]
        taken += [name for name, data in self.bodies(BY_BDAT, "bdat") if self.by_bdat(data) == 250]
        self.assertIn(f"outer-bdat-{len(SEQUENCES)}", taken)
        until("all are filed", lambda: len(outbox(self.gate)) == len(taken), 20)
        ends = [d for m in self.settled() for d in m["delivery"]]
        relayed = [d for d in ends if d["state"] == "relayed"]
        for end in ends:
            if end["state"] == "failed":
                self.assertIn("5.6.0", end["reply"])
        arrived = self.bed.arrived(len(relayed))
        # What follows would have been smuggled by now.
        until("the queues are empty", lambda: self.bed.smarthost.queued() == self.bed.far.queued() == 0, 20)
        arrived = self.bed.arrived(len(relayed))
        self.assertEqual(len(arrived), len(relayed))
        for mail in arrived:
            fields = mail.partition(b"\n\n")[0]
            self.assertIn(b"Message-ID: <outer-", fields)
            self.assertIn(b"Delivered-To: alice@example.net", fields)
            self.assertIn(b"smuggled-", mail.partition(b"\n\n")[2], "a part of the mail is gone")
        self.report(f"{len(taken)} of {len(SEQUENCES) + len(BY_BDAT)} were taken; {len(relayed)} arrived as one mail, {len(ends) - len(relayed)} did not leave (5.6.0)")
