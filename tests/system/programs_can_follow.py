"""What other programs build on: the feed of entries and events, the trace of a mail, the client commands."""

import json
import subprocess
import threading

from harness import smtp
from harness.case import Case
from harness.daemon import json_lines
from harness.settings import BINARY


class ProgramsCanFollow(Case):
    def setUp(self):
        super().setUp()
        self.ticketgate = self.daemon().start()

    def lines_of(self, *arguments):
        """A client command that goes on, and the lines that it prints as they come."""
        process = subprocess.Popen(
            [BINARY, *arguments, "--socket", self.ticketgate.socket], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        timer = threading.Timer(20, process.kill)
        timer.start()
        self.addCleanup(timer.cancel)
        return process

    def test_export_follows(self):
        self.ticketgate.send(smtp.message("one"))
        self.ticketgate.filed("one")
        following = self.lines_of("export", "--follow")
        self.assertEqual(json.loads(following.stdout.readline())["message_id"], "one@client.example")
        for name in ("two", "three"):
            self.ticketgate.send(smtp.message(name))
            self.assertEqual(json.loads(following.stdout.readline())["message_id"], f"{name}@client.example")

    def test_export_goes_on_where_it_stopped(self):
        for name in ("one", "two", "three"):
            self.ticketgate.send(smtp.message(name))
        self.ticketgate.settle("marker")
        everything = json_lines(self.ticketgate.command("export").stdout)
        self.assertEqual([e["message_id"].partition("@")[0] for e in everything], ["one", "two", "three", "marker"])
        after = json_lines(self.ticketgate.command("export", "--after", everything[1]["seq"]).stdout)
        self.assertEqual(after, everything[2:])
        self.ticketgate.stop()
        self.ticketgate.start()
        self.ticketgate.settle("later")
        again = json_lines(self.ticketgate.command("export").stdout)
        self.assertEqual(again[:4], everything)
        self.assertGreater(again[4]["seq"], everything[3]["seq"])

    def test_events_come_as_they_happen(self):
        events = self.ticketgate.admin.events(after=0)
        self.addCleanup(events.close)
        seen = []
        for name in ("one", "two"):
            self.ticketgate.send(smtp.message(name))
            seen.append(next(events))
            entry = self.ticketgate.filed(name)
            number, data = seen[-1]
            self.assertEqual((number, data["entry"], data["ticket"], data["filing"]), (entry["seq"], entry["id"], entry["ticket"], "opened"))
        ids = [number for number, _ in seen]
        self.assertEqual(ids, sorted(set(ids)), "event ids go up")
        again = self.ticketgate.admin.events(after=ids[0])
        self.addCleanup(again.close)
        self.assertEqual(next(again), seen[1])

    def test_a_ticket_change_is_an_event(self):
        self.ticketgate.send(smtp.message("one"))
        number = self.ticketgate.filed("one")["ticket"]
        last = max(e["seq"] for e in self.ticketgate.admin.entries())
        self.assertEqual(self.ticketgate.command("tickets", "close", number).returncode, 0)
        events = self.ticketgate.admin.events(after=last)
        self.addCleanup(events.close)
        _, change = next(events)
        self.assertIn("close", json.dumps(change))

    def test_explain_tells_the_way_of_a_mail(self):
        self.ticketgate.send(smtp.message("puzzling"))
        entry = self.ticketgate.filed("puzzling")
        answer = self.ticketgate.admin.get("/v1/explain", message_id="puzzling@client.example")
        self.assertIn(entry["id"], json.dumps(answer))
        told = self.ticketgate.command("explain", "puzzling@client.example")
        self.assertEqual(told.returncode, 0, told.stderr)
        self.assertIn("opened", told.stdout)
        self.assertEqual(self.ticketgate.command("explain", "never-seen@client.example").returncode, 1)

    def test_commands_and_their_exit_status(self):
        self.ticketgate.send(smtp.message("one", subject="Lamp broken"))
        number = self.ticketgate.filed("one")["ticket"]
        table = [
            (("status",), 0, "metrics 127.0.0.1:"), (("tickets", "list"), 0, "Lamp broken"), (("tickets", "show", number), 0, "Lamp broken"),
            (("tickets", "note", number, "bought a new one"), 0, ""), (("tickets", "show", number), 0, "bought a new one"),
            (("tickets", "show", 4711), 1, ""), (("rejects", "list"), 0, ""), (("nonsense",), 2, ""),
        ]
        for arguments, status, text in table:
            done = self.ticketgate.command(*arguments)
            with self.subTest(arguments):
                self.assertEqual(done.returncode, status, done.stdout + done.stderr)
                self.assertIn(text, done.stdout)
        for arguments in (("tickets", "list"), ("tickets", "show", number), ("status",), ("rejects", "list")):
            json.loads(self.ticketgate.command(*arguments, "--json").stdout)

    def test_errors_of_the_socket_are_problems(self):
        for method, target, wanted in (("GET", "/v1/tickets/4711", 404), ("GET", "/v1/nothing", 404), ("GET", "/v1/entries?after=x", 400)):
            status, headers, body = self.ticketgate.admin.request(method, target)
            with self.subTest(target):
                self.assertEqual((status, headers["Content-Type"]), (wanted, "application/problem+json"))
                self.assertEqual(json.loads(body)["status"], wanted)
        self.assertIn("/v1/entries", self.ticketgate.admin.get("/v1/openapi.json")["paths"])
