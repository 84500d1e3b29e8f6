"""kill -9 at random moments while 2,000 mails are being sent: each arrives, and none twice but the one under way.

ROUNDS=30 is the long run.
"""

import collections
import random
import threading
import time

from harness.case import Case
from harness.outbound import all_relayed, hand_in, submission, written
from harness.settings import free_port, rounds
from harness.sink import Sink
from harness.wait import until

MAILS = 2000


class Kills(Case):
    deadline = 60 + 90 * rounds(3)

    def setUp(self):
        super().setUp()
        self.sink = Sink().start()
        self.addCleanup(self.sink.stop)
        self.door = free_port()
        relay = {"name": "sink", "kind": "smtp", "host": "127.0.0.1", "port": self.sink.port, "security": "none",
                 # One at a time, so that one mail at most stands between its answer and the commit.
                 "concurrency": 1, "mails_per_connection": 100}
        self.gate = self.daemon({
            "relay": [relay], "submission": submission(self.place, self.door),
            "loops": {"per_recipient": [], "per_ticket_and_recipient": [], "overall": []},
            "outbox": {"retry_waits": ["1s"]},
        })

    def handed(self, number):
        """Hands in a round's mails on several connections; returns the names."""
        names = [f"r{number}.{n}" for n in range(MAILS)]
        parts = [names[start::4] for start in range(4)]
        def hand(part):
            hand_in(self.door, (written(name) for name in part))
        threads = [threading.Thread(target=hand, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return names

    def test_each_at_least_once_and_at_most_one_twice_for_each_kill(self):
        times, twice_in_all, took = rounds(3), 0, 0.0
        for number in range(times):
            self.gate.start(seconds=120)
            before = len(self.sink.mails)
            names = self.handed(number)
            target = before + random.randrange(1, MAILS - 100)
            # Mail leaves while it is handed in, so the kill may come at once.
            until(lambda: f"{target - before} mails leave\n{self.gate.log()}", lambda: len(self.sink.mails) >= target, 60, every=0.001)
            time.sleep(random.uniform(0, 0.05))
            self.gate.kill()
            self.gate.fsck()
            began = time.monotonic()
            self.gate.start(seconds=120)
            wanted = {f"{name}@crm.example" for name in names}
            def count():
                return collections.Counter(mail.message_id for mail in self.sink.mails[before:])
            until(lambda: f"all arrive, not {len(count())}\n{self.gate.log()}", lambda: wanted <= count().keys(), 90, every=0.1)
            took += time.monotonic() - began
            all_relayed(self.gate, MAILS * (number + 1), 30)
            found = count()
            self.assertEqual(found.keys(), wanted)
            twice = [name for name, seen in found.items() if seen > 1]
            self.assertLessEqual(sum(found.values()) - len(found), 1, f"round {number}: twice: {twice}")
            twice_in_all += len(twice)
            states = [d["state"] for e in self.gate.admin.each_entry() if e["direction"] == "outbound" for d in e["delivery"]]
            self.assertEqual(collections.Counter(states), {"relayed": MAILS * (number + 1)})
            self.assertEqual(self.gate.stop(), 0)
        self.gate.fsck("--deep")
        self.report(f"{times} kills while {MAILS} mails were sent each: {times * MAILS} arrived, {twice_in_all} of them twice, none lost")
