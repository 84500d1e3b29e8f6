"""The power goes under load: every mail that was acknowledged before the cut is there after the restart.

The data lies on an ext4 on a loop device, which is shut down without flushing its journal: whatever was not synced is
gone, as with the power. ROUNDS=20 is the long run.
"""

import random

from harness.case import Case
from harness.disk import Ext4
from harness.load import Books, Load, check_bytes
from harness.settings import rounds
from harness.wait import until


class PowerCut(Case):
    deadline = 180 * rounds(4)

    def test_acknowledged_mail_survives(self):
        disk = Ext4(self.place / "disk.img", self.place / "disk", megabytes=1024 + 256 * rounds(4))
        self.addCleanup(disk.remove)
        ticketgate = self.daemon({"server": {"data_dir": str(disk.place / "data")}})
        self.addCleanup(ticketgate.kill)
        books, acknowledged, after_the_cut = Books(), [], 0
        ticketgate.start()
        for number in range(rounds(4)):
            many = Load(self.place, ticketgate.port, f"many{number}", sessions=random.choice((1, 10, 50)), size=4000)
            large = Load(self.place, ticketgate.port, f"large{number}", sessions=2, size=400_000, messages=300)
            for load in (many, large):
                self.addCleanup(load.stop)
            target = random.randrange(500, 4000)
            until(lambda: f"{target} mails are acknowledged\n{ticketgate.log()}", lambda: many.count() + large.count() >= target, 120)
            cut = disk.cut()
            # Answers that are on their way are not waited for: only those from before the cut count.
            ticketgate.kill()
            many.stop()
            large.stop()
            new = many.acks(before=cut) + large.acks(before=cut)
            after_the_cut += many.count() + large.count() - len(new)
            acknowledged += new
            disk.unmount()
            disk.mount()
            ticketgate.fsck()
            ticketgate.start(seconds=120)
            ticketgate.settle(f"marker{number}", after=books.seq)
            books.read(ticketgate.admin)
            self.assertEqual(books.faults(acknowledged), [], f"cut {number}\n{ticketgate.log()}")
            check_bytes(ticketgate.admin, books, random.sample(new, min(20, len(new))))
        self.assertEqual(ticketgate.stop(), 0)
        ticketgate.fsck("--deep")
        self.report(f"{len(acknowledged)} mails acknowledged before {rounds(4)} cuts, 0 lost, 0 twice; {after_the_cut} answers within the cut not counted")
