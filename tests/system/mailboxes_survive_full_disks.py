"""No space while a mailbox is pulled: its mail stays on the server and the problem has a name; with space it goes on."""

from harness.disk import Ext4, Tmpfs, fill
from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

MAILS = 4000


class FullDisk(MailboxCase):
    deadline = 300

    def fill_up_and_recover(self, disk):
        self.addCleanup(disk.remove)
        store = {"segment_bytes": 4 << 20, "ballast_bytes": 4 << 20, "low_water_bytes": 8 << 20}
        self.ticketgate(settings={"server": {"data_dir": str(disk.place / "data")}, "store": store})
        self.addCleanup(self.gate.kill)
        self.connected()
        filler = fill(disk.place, leave=40 << 20)
        names = [f"m{n}" for n in range(MAILS)]
        self.dovecot.put(USER, [mail(name, body=f"{name:<998}\r\n" * 12) for name in names])
        self.problem("disk_low", seconds=60)
        self.assertIn("disk_low", [problem["code"] for problem in self.told("status")["problems"]])
        until("what was taken is filed", lambda: self.gate.admin.get("/v1/status")["spool"]["mails"] == 0, 30)
        taken = self.tickets()
        self.assertTrue(0 < taken < MAILS, taken)
        filler.unlink()
        until(lambda: f"all are tickets, not {self.tickets()}\n{self.gate.log()[-2000:]}", lambda: self.tickets() == MAILS, 90)
        self.each_once(names)
        self.labelled(names, seconds=60)
        self.assertEqual(self.gate.stop(), 0)
        self.gate.fsck()
        self.report(f"{taken} of {MAILS} mails until the disk was full, the others when there was space")

    def test_tmpfs(self):
        self.fill_up_and_recover(Tmpfs(self.place / "disk", megabytes=160))

    def test_ext4(self):
        self.fill_up_and_recover(Ext4(self.place / "disk.img", self.place / "disk", megabytes=192))
