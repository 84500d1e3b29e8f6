"""However many and however large the mails are that come, are filed and are read: memory stays within a bound."""

from harness.case import Case
from harness.load import Load

MIB = 1 << 20


class Memory(Case):
    def use(self, sessions, messages, size, most):
        ticketgate = self.daemon().start()
        at_rest, _ = ticketgate.memory()
        load = Load(self.place, ticketgate.port, "load", sessions=sessions, messages=messages, size=size)
        self.assertEqual(load.wait()["acked"], messages)
        _, accepted = ticketgate.memory()
        ticketgate.settle("marker")
        after, filed = ticketgate.memory()
        for _ in ticketgate.admin.each_entry():
            pass
        _, read = ticketgate.memory()
        self.report(
            f"{messages} mails of {size} bytes, {sessions} sessions: {at_rest / MIB:.0f} MiB at rest, at most {accepted / MIB:.0f} "
            f"while accepting, {filed / MIB:.0f} with filing, {read / MIB:.0f} with reading; {after / MIB:.0f} afterwards"
        )
        self.assertLess(at_rest, 25 * MIB)
        self.assertLess(read, most * MIB)

    def test_many_small_mails(self):
        self.use(sessions=100, messages=20_000, size=10_240, most=80)

    def test_many_large_mails(self):
        self.use(sessions=4, messages=300, size=400_000, most=160)
