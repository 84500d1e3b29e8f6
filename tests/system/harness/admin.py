"""The admin socket, as a program of its own would use it."""

import http.client
import json
import socket
from urllib.parse import urlencode


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Admin:
    def __init__(self, path):
        self.path = path

    def request(self, method, target, body=None, timeout=30):
        """Status, headers and bytes of one request."""
        connection = UnixConnection(self.path, timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, target, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, target, **query):
        status, _, body = self.request("GET", target + (f"?{urlencode(query)}" if query else ""))
        assert status == 200, f"GET {target} answered {status}: {body[:400]!r}"
        return json.loads(body)

    def raw(self, entry):
        status, _, body = self.request("GET", f"/v1/entries/{entry['id']}/raw", timeout=120)
        assert status == 200, f"raw {entry['id']} answered {status}: {body[:400]!r}"
        return body

    def each_entry(self, after=0):
        """All entries after a sequence number, a page at a time."""
        while (page := self.get("/v1/entries", after=after, limit=500))["entries"]:
            yield from page["entries"]
            after = page["next"]

    def entries(self, after=0):
        return list(self.each_entry(after))

    def tickets(self):
        answer = self.get("/v1/tickets")
        return answer["tickets"] if isinstance(answer, dict) else answer

    def events(self, after=0, timeout=15):
        """The server-sent events as they come: (id, data). Closing the generator ends the connection."""
        connection = UnixConnection(self.path, timeout)
        try:
            connection.request("GET", f"/v1/events?after={after}", headers={"Accept": "text/event-stream"})
            answer = connection.getresponse()
            assert answer.status == 200, f"events answered {answer.status}"
            assert answer.headers["Content-Type"].startswith("text/event-stream"), answer.headers["Content-Type"]
            event = {}
            while line := answer.readline():
                line = line.decode().rstrip("\r\n")
                if line.startswith(":"):
                    continue
                if line:
                    name, _, value = line.partition(":")
                    event[name] = event.get(name, "") + value.removeprefix(" ")
                elif event:
                    if "data" in event:
                        yield int(event.get("id", 0)), json.loads(event["data"])
                    event = {}
        finally:
            connection.close()
