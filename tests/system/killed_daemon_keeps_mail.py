"""kill -9 at random moments under load: what was answered 250 is filed exactly once after the restart, nothing twice.

ROUNDS=50 is the long run.
"""

import contextlib
import random
import subprocess

from harness.case import Case
from harness.load import Books, Load, check_bytes
from harness.settings import rounds
from harness.wait import until


class KilledDaemon(Case):
    deadline = 120 * rounds(8)

    def test_acknowledged_mail_is_filed_exactly_once(self):
        ticketgate, books, acknowledged = self.daemon(), Books(), []
        ticketgate.start()
        for number in range(rounds(8)):
            many = Load(self.place, ticketgate.port, f"many{number}", sessions=random.choice((1, 10, 50)), size=4000)
            # Larger than what goes into the log inline, so that bodies in files of their own are caught half-way too.
            large = Load(self.place, ticketgate.port, f"large{number}", sessions=3, size=400_000, messages=300)
            for load in (many, large):
                self.addCleanup(load.stop)
            target = random.randrange(1, 3000)
            until(lambda: f"{target} mails are acknowledged\n{ticketgate.log()}", lambda: many.count() + large.count() >= target, 60)
            ticketgate.kill()
            many.stop()
            large.stop()
            new = many.acks() + large.acks()
            acknowledged += new
            ticketgate.fsck()
            ticketgate.start(seconds=120)
            ticketgate.settle(f"marker{number}", after=books.seq)
            books.read(ticketgate.admin)
            self.assertEqual(books.faults(acknowledged), [], f"round {number}\n{ticketgate.log()}")
            check_bytes(ticketgate.admin, books, random.sample(new, min(20, len(new))))
        self.assertEqual(ticketgate.stop(), 0)
        ticketgate.fsck("--deep")
        self.report(f"{len(acknowledged)} acknowledged mails over {rounds(8)} kills, 0 lost, 0 twice")

    def test_killed_while_it_starts(self):
        """A start that is cut short at any moment leaves a store that opens."""
        ticketgate, books = self.daemon(), Books()
        ticketgate.start()
        load = Load(self.place, ticketgate.port, "before", messages=2000, sessions=20)
        self.assertEqual(load.wait()["acked"], 2000)
        ticketgate.kill()
        for _ in range(rounds(8)):
            ticketgate.launch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                ticketgate.process.wait(random.uniform(0.0, 0.3))
            ticketgate.kill()
        ticketgate.start(seconds=120)
        ticketgate.settle("marker")
        books.read(ticketgate.admin)
        self.assertEqual(books.faults(load.acks()), [])
        ticketgate.stop()
        ticketgate.fsck()
