"""Two gateways that answer each other, one of ours and programs, and everything that a customer's side may say back:
each comes to its end after the number of mails that is written here. Nothing that came in is lost.
"""

from harness import smtp
from harness.answering import (
    Answering, brakes, field, fields, fresh_id, from_others, metric, plain, plain_fields, quiet, sent, stripped, told_of,
    with_fields,
)
from harness.case import Case
from harness.outbound import told
from harness.wait import until


def relay(port):
    return {"name": "out", "kind": "smtp", "host": "127.0.0.1", "port": port, "security": "none"}


def limited(recipient=None, ticket=None, overall=None):
    """Brakes of so many mails in ten minutes; the defaults where nothing is said."""
    names = {"per_recipient": recipient, "per_ticket_and_recipient": ticket, "overall": overall}
    return {name: [[10, mails]] for name, mails in names.items() if mails}


class Gateways(Case):
    """Each knows its own support address only, acknowledges every new ticket, and sends by the door of the other."""

    def gateway(self, name):
        place = self.place / name
        place.mkdir()
        gate = self.daemon(place=place)
        gate.address = f"support@{name}.example"
        return gate

    def joined(self, change=None, loops=({}, {})):
        """Both, started. With `change` a server stands between them that does so to each mail; without, nothing does."""
        gates = self.gateway("a"), self.gateway("b")
        self.between = []
        for gate, other, brakes_of in zip(gates, reversed(gates), loops):
            port = other.port
            if change:
                # Mail to strangers ends here.
                answer = lambda mail, there=other.address: change(mail) if there in mail.recipients else None
                middle = Answering(answer, other).start()
                self.addCleanup(middle.stop)
                self.between.append(middle)
                port = middle.port
            channel = {"address": gate.address, "name": "Support", "queue": "Support", "acknowledge": True}
            gate.configure({
                "server": {"hostname": gate.address.partition("@")[2]},
                "channel": [channel], "relay": [relay(port)], "loops": brakes_of,
            })
            gate.start()
        return gates

    def begin(self, first, other):
        """The one mail that it begins with: somebody at the other side writes to the first."""
        first.send(smtp.message("begin", sender=other.address), sender=other.address, recipients=[first.address])

    def kept(self, gate, count):
        """So many mails have come in from the other side, and each has opened a ticket."""
        entries = from_others(gate)
        self.assertEqual([e["filing"] for e in entries], ["opened"] * count, entries)
        self.assertEqual(len({e["ticket"] for e in entries}), count)

    def test_as_they_are_the_first_answer_is_the_last(self):
        a, b = self.joined()
        self.begin(a, b)
        quiet(a, b)
        self.assertEqual((len(sent(a)), len(sent(b))), (1, 0))
        self.kept(a, 1)
        self.kept(b, 1)
        self.assertEqual(from_others(b)[0]["automatic"], "auto-generated")
        said = [step["said"] for step in told(b, "explain", from_others(b)[0]["message_id"])["entries"][0]["trace"]]
        self.assertTrue([line for line in said if line.startswith("no acknowledgement: a machine wrote it")], said)
        self.assertEqual((brakes(a), brakes(b)), ([], []))
        self.report("marked as they are: 1 mail from A to B, 0 back")

    def runs_into_the_brake(self, loops, number):
        a, b = self.joined(stripped, loops)
        self.begin(a, b)
        held = lambda: brakes(a) or brakes(b)
        until(lambda: f"a brake trips: {len(sent(a))} and {len(sent(b))} mails\n{a.log()}", held, 60, every=0.1)
        quiet(a, b)
        self.assertEqual((len(sent(a)), len(sent(b)), len(sent(a, "held")), brakes(b)), (number, number, 1, []))
        self.kept(a, number + 1)
        self.kept(b, number)
        brake = brakes(a)[0]
        self.assertEqual((brake["scope"], brake["recipient"], brake["held"]), ("recipient", b.address, 1))
        self.assertEqual((metric(a, "ticketgate_loop_brakes_tripped"), metric(a, "ticketgate_loop_brake_trips_total")), (1, 1))
        tripped = told_of(a, "brake_tripped")[0]
        self.assertIn(f"brake {brake['id']}: over {brake['mails']} mails in {brake['minutes']} minutes to {b.address}", tripped["said"])
        self.assertIn("loop_brakes", [p["code"] for p in told(a, "status")["problems"]])
        self.assertIn(brake["id"], a.command("loops", "list").stdout)
        self.assertEqual([entry["delivery"][0]["brake"] for entry in told(a, "outbox", "list", "--state", "held")["mails"]], [brake["id"]])
        return a, b, brake

    def test_with_all_marks_taken_off_small_brakes_end_it_and_a_release_lets_it_go_on(self):
        a, b, brake = self.runs_into_the_brake((limited(recipient=4), limited(recipient=6)), 4)
        self.assertEqual((brake["mails"], brake["minutes"]), (4, 10))
        # A restart neither opens a brake nor lets anything go.
        a.stop()
        a.start()
        quiet(a, b)
        self.assertEqual((brakes(a), len(sent(a)), len(sent(a, "held"))), ([brake], 4, 1))
        done = a.command("loops", "release", brake["id"])
        self.assertEqual((done.returncode, done.stdout.strip()), (0, f"brake {brake['id']} is released; 1 mail goes out"), done)
        self.assertIn(brake["id"], told_of(a, "brake_released")[0]["said"])
        # A sends what was held, and counts anew. B has answered 4 times, so that 2 more are allowed: then B's brake ends it.
        until("the brake of B trips", lambda: brakes(b), 30)
        quiet(a, b)
        self.assertEqual((len(sent(a)), len(sent(b)), len(sent(b, "held"))), (4 + 1 + 2, 4 + 2, 1))
        self.assertEqual((brakes(a), brakes(b)[0]["mails"], metric(a, "ticketgate_loop_brakes_tripped")), ([], 6, 0))
        self.kept(a, 1 + len(sent(b)))
        self.kept(b, len(sent(a)))
        for gate in (a, b):
            gate.stop()
            gate.fsck("--deep")
        self.report("stripped, brakes of 4 and 6: 4 + 4 mails, then A's brake; released: 3 + 2 more, then B's brake")

    def test_with_all_marks_taken_off_the_default_brake_ends_it(self):
        _, _, brake = self.runs_into_the_brake(({}, {}), 30)
        self.assertEqual((brake["mails"], brake["minutes"]), (30, 10))
        self.report("stripped, default brakes: 30 + 30 mails, then A's brake of 30 in 10 minutes")

    def test_a_program_that_answers_a_robot_is_ended_by_the_brake_of_the_ticket(self):
        def answer(mail):
            extra = f"In-Reply-To: {field(mail, 'Message-ID')}\r\n"
            name = f"robot{len(robot.mails)}"
            return "robot@far.example", [mail.sender], smtp.message(name, sender="robot@far.example", extra=extra)
        robot = Answering(answer).start()
        self.addCleanup(robot.stop)
        gate = robot.gate = self.gateway("a")
        channel = {"address": gate.address, "name": "Support", "queue": "Support"}
        gate.configure({"channel": [channel], "relay": [relay(robot.port)]})
        gate.start()
        gate.send(smtp.message("begin", sender="robot@far.example"), sender="robot@far.example", recipients=[gate.address])
        heard = gate.filed("begin")
        for number in range(100):
            told(gate, "tickets", "reply", heard["ticket"], "--text", "Thank you.")
            if until("it is sent or held", lambda: len(robot.mails) > number and "sent" or brakes(gate), 20) != "sent":
                break
            heard = gate.filed(f"robot{number}", after=heard["seq"])
            self.assertEqual((heard["filing"], heard["matched_by"]), ("appended", "token"))
        self.assertEqual((len(robot.mails), len(from_others(gate))), (10, 11))
        brake = brakes(gate)[0]
        self.assertEqual((brake["scope"], brake["ticket"], brake["mails"]), ("ticket_recipient", heard["ticket"], 10))
        self.report("a program and a robot in one ticket, default brakes: 10 answers, then the brake of the ticket")


class Robots(Case):
    """One gateway, and robots that answer its acknowledgements."""

    def house(self, answer, **settings):
        robot = Answering(answer).start()
        self.addCleanup(robot.stop)
        gate = robot.gate = self.daemon()
        gate.address = "support@localhost"
        channel = {"address": gate.address, "name": "Support", "queue": "Support", "acknowledge": True}
        gate.configure({"channel": [channel], "relay": [relay(robot.port)], **settings})
        gate.start()
        return gate, robot

    def ask(self, gate, who, name=None):
        """Somebody opens a ticket; returns its entry."""
        name = name or who.partition("@")[0]
        gate.send(smtp.message(name, sender=who), sender=who, recipients=[gate.address])
        return gate.filed(name)

    def test_what_answers_once_is_not_answered(self):
        # What each says about itself, where it sends it, and whether it says what it answers; what that becomes.
        ways = {
            "marked": ("Auto-Submitted: auto-replied", "sender", True, "appended", "auto-replied"),
            "forgetful": ("Auto-Submitted: auto-replied", "plain", False, "opened", "auto-replied"),
            "exchange": ("X-Auto-Response-Suppress: All", "plain", False, "opened", "auto-generated"),
            "precedence": ("Precedence: auto_reply", "plain", False, "opened", "auto-replied"),
            "null": ("X-Nothing: 1", "null", False, "opened", "auto-replied"),
            "subject": ("X-Nothing: 1", "subject", False, "opened", "auto-replied"),
            "list": ("List-Id: <all.far.example>", "plain", False, "opened", "list"),
            # These two hide what they are; what they say that they answer ties them to the ticket all the same.
            "unmarked": ("X-Nothing: 1", "sender", True, "appended", "no"),
            "reference": ("X-Nothing: 1", "plain", True, "appended", "no"),
        }
        def answer(mail):
            who = mail.recipients[0]
            name = who.partition("@")[0]
            if name not in ways:
                return None
            mark, to, tells, _, _ = ways[name]
            extra = mark + "\r\n" + (f"In-Reply-To: {field(mail, 'Message-ID')}\r\n" if tells else "")
            subject = "Out of office" if to == "subject" else "Not here"
            data = smtp.message(f"answer-{name}", subject, "I am away.\r\n", who, extra)
            return "" if to == "null" else who, [mail.sender if to == "sender" else plain(mail.sender)], data
        gate, robot = self.house(answer)
        for name in ways:
            self.ask(gate, f"{name}@far.example")
        for name, (_, _, _, filing, automatic) in ways.items():
            entry = gate.filed(f"answer-{name}")
            self.assertEqual((entry["filing"], entry["automatic"]), (filing, automatic), name)
        quiet(gate)
        for name in ways:
            self.assertEqual(len(robot.to(f"{name}@far.example")), 1, name)
        self.assertEqual((len(from_others(gate)), brakes(gate)), (2 * len(ways), []))
        self.report(f"{len(ways)} robots that tell what they are or what they answer: 1 acknowledgement each")

    def hides(self, number, **settings):
        def answer(mail):
            who = mail.recipients[0]
            data = smtp.message(f"again{len(robot.mails)}", f"Number {len(robot.mails)}", "I am away.\r\n", who)
            return (who, [plain(mail.sender)], data) if who == "robot@far.example" else None
        gate, robot = self.house(answer, **settings)
        self.ask(gate, "robot@far.example")
        until(lambda: f"the brake trips after {len(robot.mails)}", lambda: brakes(gate), 60, every=0.1)
        quiet(gate)
        entries = from_others(gate)
        self.assertEqual((len(robot.to("robot@far.example")), [e["filing"] for e in entries]), (number, ["opened"] * (number + 1)))
        self.report(f"a robot that hides what it is and what it answers: {number} acknowledgements, then the brake")
        return gate, robot

    def test_a_robot_that_hides_is_ended_by_a_small_brake_and_goes_on_when_released(self):
        gate, robot = self.hides(5, loops=limited(recipient=5))
        gate.command("loops", "release", brakes(gate)[0]["id"])
        until("the brake trips again", lambda: len(robot.to("robot@far.example")) >= 11 and brakes(gate), 30)
        quiet(gate)
        # The one that was held, and five that count anew.
        self.assertEqual((len(robot.to("robot@far.example")), len(from_others(gate))), (5 + 1 + 5, 12))
        # A person is answered at any time.
        self.ask(gate, "ann@near.example")
        until("she is acknowledged", lambda: robot.to("ann@near.example"), 10)

    def test_a_robot_that_hides_is_ended_by_the_default_brake(self):
        self.hides(30)

    def test_robots_with_ever_new_addresses_are_ended_by_the_brake_on_all_automatic_mail(self):
        def answer(mail):
            who = f"robot{len(robot.mails)}@far.example"
            return who, [plain(mail.sender)], smtp.message(f"again{len(robot.mails)}", sender=who)
        gate, robot = self.house(answer, loops=limited(overall=7))
        self.ask(gate, "robot@far.example")
        until("the brake trips", lambda: brakes(gate), 30)
        quiet(gate)
        self.assertEqual((len(robot.mails), len(from_others(gate)), brakes(gate)[0]["scope"]), (7, 8, "overall"))
        # People are not held up by it.
        told(gate, "tickets", "reply", from_others(gate)[0]["ticket"], "--text", "A person says this.")
        until("the answer leaves", lambda: len(robot.mails) == 8, 10)
        self.report("robots with ever new addresses, brake of 7: 7 acknowledgements")

    def test_a_list_that_sends_our_own_mail_back(self):
        ours = lambda mail: b"Message-ID: " + field(mail, "Message-ID").encode()
        ways = {
            "plain": fields,
            "list": lambda mail: [b"List-Id: <list.far.example>", b"Sender: list-bounces@far.example", *fields(mail)],
            # Every mark is gone, but for our Message-ID.
            "bare": lambda mail: [*plain_fields(mail), ours(mail)],
            # It writes Message-IDs of its own, and says what it is.
            "renamed": lambda mail: [*plain_fields(mail), fresh_id(), b"List-Id: <list.far.example>"],
        }
        def answer(mail):
            name = mail.recipients[0].partition("@")[0]
            if name not in ways:
                return None
            return f"{name}-bounces@far.example", [plain(mail.sender)], with_fields(ways[name](mail), mail, b"_____\r\nfooter\r\n")
        gate, robot = self.house(answer)
        for name in ways:
            self.ask(gate, f"{name}@far.example")
        quiet(gate)
        for name in ways:
            self.assertEqual(len(robot.to(f"{name}@far.example")), 1, name)
        filings = sorted((e["filing"], e["reason"]) for e in from_others(gate)[1:] if e["from"]["address"] == gate.address)
        self.assertEqual(filings, [("dropped", "loop_own_mail")] * 3 + [("opened", None)])
        self.assertEqual((len(from_others(gate)), brakes(gate)), (2 * len(ways), []))
        self.report("lists that send our own mail back, marked or not: 1 acknowledgement each")
