"""A server that enforces Exchange's 10 mails a minute never has to refuse one, and the outbox says until when mail waits."""

import re
import threading
import time

from harness.case import Case
from harness.outbound import all_relayed, hand_in, outbox, submission, told, written
from harness.settings import free_port
from harness.sink import Sink
from harness.wait import until

MAILS, MOST, WINDOW = 25, 10, 60.0


class Quotas(Case):
    deadline = 240

    def test_ten_a_minute(self):
        lock, taken = threading.Lock(), []
        def rule(verb, _):
            if verb != "MAIL":
                return None
            with lock:
                now = time.monotonic()
                taken[:] = [at for at in taken if now - at < WINDOW]
                if len(taken) >= MOST:
                    return "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"
                taken.append(now)
                return None
        sink, door = Sink(rule).start(), free_port()
        self.addCleanup(sink.stop)
        secret = self.place / "mailbox.password"
        secret.write_text("x\n")
        # The limits of the preset, at a server of ours.
        relay = {"name": "exchange", "kind": "smtp", "preset": "exchange", "host": "127.0.0.1", "port": sink.port,
                 "security": "none", "user": "support@localhost", "password_file": str(secret)}
        gate = self.daemon({"relay": [relay], "submission": submission(self.place, door)}).start()
        began = time.monotonic()
        hand_in(door, [written(f"quota{n}") for n in range(MAILS)])
        until(lambda: f"the first ten leave: {len(sink.mails)}\n{gate.log()}", lambda: len(sink.mails) >= MOST, 20)
        def waits():
            mails = [m for m in outbox(gate, state="waiting") if m["waits_for"] or m["due"]]
            return next((m for m in mails if m["waits_for"] and "quota" in m["waits_for"]), None)
        mail = until(lambda: f"a mail says what it waits for: {outbox(gate, state='waiting')[:1]}", waits, 10)
        self.assertRegex(mail["waits_for"], r"the quota of support@localhost at relay \"exchange\" \(.*\) until 20\d\d-")
        shown = gate.command("outbox", "show", mail["id"])
        self.assertEqual(shown.returncode, 0, shown.stderr)
        # Long lines are wrapped for people.
        self.assertTrue(re.search(r"quota.*until", " ".join(shown.stdout.split())), shown.stdout)
        # What was counted stands on disk, also for the next process.
        gate.stop()
        gate.start()
        all_relayed(gate, MAILS, 170)
        took = time.monotonic() - began
        self.assertEqual((len(sink.mails), sink.refused), (MAILS, []))
        self.assertGreater(took, 2 * WINDOW - 1)
        self.assertLess(took, 2 * WINDOW + 25)
        self.report(f"{MAILS} mails left in {took:.0f} s across a restart, none was refused")
