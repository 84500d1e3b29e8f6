"""No space: mail is turned away with 452, nothing is lost, and mail is taken again once there is space."""

from harness import smtp
from harness.case import Case
from harness.disk import Ext4, Tmpfs, fill
from harness.load import Books, Load
from harness.wait import until


class FullDisk(Case):
    deadline = 300

    def on(self, disk, **store):
        self.addCleanup(disk.remove)
        ticketgate = self.daemon({"server": {"data_dir": str(disk.place / "data")}, "store": {"segment_bytes": 4 << 20, "ballast_bytes": 4 << 20, **store}})
        self.addCleanup(ticketgate.kill)
        return ticketgate

    def answer(self, ticketgate, name):
        """The code that one mail is answered with, wherever in the transaction."""
        try:
            ticketgate.send(smtp.message(name))
            return 250
        except smtp.Refused as refused:
            # 421 comes from a daemon that is about to end, which only a disk full to the last byte may make it do.
            self.assertIn(refused.code, (452, 451, 421), refused.text)
            return refused.code
        except OSError:
            return 421

    def fill_up_and_recover(self, disk, ticketgate):
        books = Books()
        filler = fill(disk.place, leave=40 << 20)
        ticketgate.start()
        # Until 452 comes. Sessions that are turned away dial again, as senders do.
        load = Load(self.place, ticketgate.port, "before", sessions=20, size=20_000, options=["-e", "100"])
        self.addCleanup(load.stop)
        summary = load.wait(120)
        self.assertEqual(set(summary["codes"]), {"250", "452"}, summary)
        self.assertEqual(self.answer(ticketgate, "refused"), 452)
        ticketgate.admin.get("/v1/status")
        self.assertIsNone(ticketgate.process.poll(), ticketgate.log())
        filler.unlink()
        until("mail is taken again", lambda: self.answer(ticketgate, "resumed") == 250, 30, every=0.2)
        ticketgate.settle("marker")
        books.read(ticketgate.admin)
        self.assertEqual(books.faults([*load.acks(), "resumed"]), [])
        self.assertNotIn("refused", books.filed)
        log = ticketgate.log_file.read_text(errors="replace")
        for line in ("the disk is low: no mail is accepted", "the disk has room again"):
            self.assertIn(line, log)
        self.assertEqual(ticketgate.stop(), 0)
        ticketgate.fsck()
        self.report(f"{summary['acked']} mails taken before the first 452, all filed")

    def test_tmpfs_to_the_low_water_mark(self):
        disk = Tmpfs(self.place / "disk", megabytes=160)
        self.fill_up_and_recover(disk, self.on(disk, low_water_bytes=8 << 20))

    def test_ext4_to_the_low_water_mark(self):
        disk = Ext4(self.place / "disk.img", self.place / "disk", megabytes=192)
        self.fill_up_and_recover(disk, self.on(disk, low_water_bytes=8 << 20))

    def test_tmpfs_to_the_last_byte(self):
        """No low-water mark worth its name, so that writes themselves fail. The daemon may end then, for its supervisor
        to start it again; it may not lose a mail, and it says what is wrong."""
        disk, books = Tmpfs(self.place / "disk", megabytes=160), Books()
        ticketgate = self.on(disk, low_water_bytes=64 << 10)
        filler = fill(disk.place, leave=40 << 20)
        ticketgate.start()
        load = Load(self.place, ticketgate.port, "before", sessions=20, size=20_000, options=["-e", "100"])
        self.addCleanup(load.stop)
        until("mail is refused or the daemon ends", lambda: load.process.poll() is not None or ticketgate.process.poll() is not None, 60)
        load.stop()
        ended = []
        if self.gone(ticketgate):
            ended.append("under load")
            try:
                ticketgate.start(page="/healthz", seconds=20)
            except AssertionError as why:
                self.assertRegex(str(why), "(?i)space|full")
                ended.append("at the restart")
        filler.unlink()

        def resumed():
            # It may have met the full disk just before there was space again, and be on its way to its end.
            if self.gone(ticketgate):
                ended.append("in the end")
                ticketgate.start()
            return self.answer(ticketgate, "resumed") == 250

        until("mail is taken again", resumed, 30, every=0.2)
        ticketgate.settle("marker")
        books.read(ticketgate.admin)
        self.assertEqual(books.faults([*load.acks(), "resumed"]), [])
        self.assertEqual(ticketgate.stop(), 0)
        ticketgate.fsck()
        self.report(f"{len(load.acks())} mails taken until the last byte, all filed; the daemon ended {' and '.join(ended) or 'never'}")

    def gone(self, ticketgate):
        """Whether the daemon has ended; then it ended with an error and said that the disk is full."""
        if ticketgate.process.poll() is None:
            return False
        self.assertEqual(ticketgate.process.returncode, 1)
        self.assertRegex(ticketgate.log(), "(?i)no space|disk is full")
        return True

    def test_space_vanishes_within_a_large_mail(self):
        disk = Tmpfs(self.place / "disk", megabytes=160)
        ticketgate = self.on(disk, low_water_bytes=1 << 20).start()
        ticketgate.send(smtp.message("first"))
        with smtp.Client(ticketgate.port) as client:
            client.greet()
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            client.say("DATA", 354)
            client.send(smtp.message("huge"))
            line = b"x" * 998 + b"\r\n"
            client.send(line * 2000)
            filler = fill(disk.place, leave=2 << 20)
            client.send(line * 20_000 + b".\r\n")
            code, text = client.reply()
            self.assertEqual(code, 452, text)
            filler.unlink()
            # A look at the free space stays good for 200 ms.
            until("there is room again", lambda: ticketgate.probe("/readyz") == 200, 10)
            client.mail(smtp.message("second"))
        ticketgate.settle("marker")
        names = [e["message_id"].partition("@")[0] for e in ticketgate.admin.entries() if e["filing"] == "opened"]
        self.assertEqual(names, ["first", "second", "marker"])
        leftover = [path for path in (disk.place / "data" / "tmp").rglob("*") if path.is_file()]
        self.assertEqual(leftover, [], "the broken mail left a file behind")

    def test_a_restart_while_full(self):
        """It starts and refuses mail, or ends with a line that names the trouble; with space it goes on as before."""
        disk = Tmpfs(self.place / "disk", megabytes=120)
        ticketgate = self.on(disk, low_water_bytes=8 << 20).start()
        for number in range(5):
            ticketgate.send(smtp.message(f"before-{number}"))
        ticketgate.kill()
        filler = fill(disk.place, leave=0)
        try:
            ticketgate.start(page="/healthz")
            self.assertEqual(self.answer(ticketgate, "refused"), 452)
            self.assertEqual(ticketgate.probe("/readyz"), 503)
            ticketgate.admin.get("/v1/status")
            self.report("it starts on a full disk and answers 452")
        except AssertionError as ended:
            self.assertRegex(str(ended), r"(?i)space|full")
            self.report("it does not start on a full disk, and says so")
        ticketgate.kill()
        filler.unlink()
        ticketgate.start()
        ticketgate.settle("marker")
        names = [e["message_id"].partition("@")[0] for e in ticketgate.admin.entries()]
        self.assertEqual(names, [*(f"before-{n}" for n in range(5)), "marker"])
