"""Every route of the admin socket answers as /v1/openapi.json says: each status is described, each body fits its schema."""

import json
import re
from urllib.parse import quote

from harness import smtp
from harness.case import Case
from harness.config import SUPPORT
from harness.settings import free_port

JSON = "application/json"
PROBLEM = "application/problem+json"


class Description:
    """An OpenAPI document, as far as it is used here."""

    def __init__(self, document):
        self.document = document

    def operations(self):
        return {(method.upper(), path) for path, item in self.document["paths"].items() for method in item}

    def operation(self, method, target):
        """The path's template and what is said about the method."""
        plain = target.partition("?")[0]
        fits = [
            path for path in self.document["paths"]
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), plain) and method.lower() in self.document["paths"][path]
        ]
        # What is written out goes before what is a parameter.
        path = min(fits, key=lambda path: path.count("{"))
        return path, self.document["paths"][path][method.lower()]

    def faults(self, value, schema, where="answer"):
        """Where a value does not fit its schema, or says more than that."""
        schema = self.whole(schema)
        for word in ("oneOf", "anyOf"):
            if word in schema:
                found = [self.faults(value, part, where) for part in schema[word]]
                return min(found, key=len)
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(is_kind(value, kind) for kind in kinds):
            return [f"{where} is {value!r}, not {' or '.join(kinds)}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{where} is {value!r}, not one of {schema['enum']}"]
        if isinstance(value, dict):
            return self.faults_of_object(value, schema, where)
        if isinstance(value, list):
            items = schema.get("items", {})
            return [fault for n, item in enumerate(value) for fault in self.faults(item, items, f"{where}[{n}]")]
        return []

    def whole(self, schema):
        """A schema with what it refers to, and all parts of it in one."""
        if "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "allOf" not in schema:
            return schema
        parts = [self.whole(part) for part in schema["allOf"]]
        properties = {name: inner for part in parts for name, inner in part.get("properties", {}).items()}
        return {"type": "object", "properties": properties, "required": [n for part in parts for n in part.get("required", [])]}

    def faults_of_object(self, value, schema, where):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        faults = [f"{where} has no {name}" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            if name in known:
                faults += self.faults(inner, known[name], f"{where}.{name}")
            elif isinstance(others, dict):
                faults += self.faults(inner, others, f"{where}.{name}")
            elif known:
                faults.append(f"{where}.{name} is not described")
        return faults


def is_kind(value, kind):
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}[kind])


class AnswersAreDescribed(Case):
    def setUp(self):
        super().setUp()
        dead = {"host": "127.0.0.1", "port": free_port(), "security": "none"}
        self.gate = self.daemon({
            "channel": [SUPPORT, {"address": "desk@localhost", "queue": "Support", "source": dead}],
            "relay": [{"name": "sandbox", "kind": "maildir"}, {"name": "dead", "kind": "smtp", **dead}],
            "outbox": {"default_relay": "sandbox"},
            "loops": {"per_recipient": [[10, 3]]},
        }).start()
        self.described = Description(self.gate.admin.get("/v1/openapi.json"))
        self.asked, self.wrong = set(), []

    def ask(self, method, target, wanted, body=None):
        """Asks, holds the answer against the description, and returns it."""
        status, headers, data = self.gate.admin.request(method, target, body)
        path, operation = self.described.operation(method, target)
        self.asked.add((method, path))
        at = f"{method} {target} ({path}): {status}"
        described = operation["responses"].get(str(status)) or {}
        media = headers["Content-Type"].partition(";")[0]
        schema = described.get("content", {}).get(media, {}).get("schema")
        faults = [] if status == wanted else [f"not {wanted}: {data[:200]!r}"]
        faults += [] if described else ["this status is not described"]
        faults += [] if status < 400 or media == PROBLEM else [f"an error as {media}"]
        if media not in (JSON, PROBLEM):
            value = data
        else:
            value = json.loads(data)
            if schema:
                faults += self.described.faults(value, schema)
            elif described and path != "/v1/openapi.json":
                faults.append(f"its body, {media}, is not described")
        self.wrong += [f"{at}: {fault}" for fault in faults]
        return value

    def test_every_route(self):
        for name in ("one", "two"):
            self.gate.send(smtp.message(name))
        mails = [self.gate.filed(name) for name in ("one", "two")]
        first, second = (mail["ticket"] for mail in mails)
        self.ask("GET", "/v1/openapi.json", 200)
        self.tickets(first, second)
        self.entries(mails[1]["id"])
        self.channels()
        self.outbox(first)
        for target in ("/v1/status", "/v1/secrets", "/v1/rejects"):
            self.ask("GET", target, 200)
        self.ask("POST", "/v1/secrets/rotate", 200, {"prune": False})
        event = next(self.gate.admin.events())
        schema = {"$ref": "#/components/schemas/EventJson"}
        self.assertEqual(self.described.faults(event[1], schema), [], event)
        self.asked.add(("GET", "/v1/events"))
        self.ask("GET", "/v1/events?after=x", 400)
        self.assertFalse(self.wrong, "\n" + "\n".join(self.wrong))
        self.assertEqual(self.described.operations() - self.asked, set(), "these were never asked")

    def tickets(self, first, second):
        self.ask("GET", "/v1/tickets", 200)
        self.ask("GET", "/v1/tickets?limit=0", 400)
        self.ask("GET", f"/v1/tickets/{first}", 200)
        self.ask("GET", "/v1/tickets/99", 404)
        self.ask("GET", "/v1/tickets/none", 400)
        note = self.ask("POST", f"/v1/tickets/{first}/notes", 200, {"text": "called", "author": "eve"})
        self.assertEqual(note["filing"], "noted")
        self.ask("POST", f"/v1/tickets/{first}/notes", 400, {"txt": 1})
        self.ask("POST", "/v1/tickets/99/notes", 404, {"text": "x"})
        for order in ("close", "reopen"):
            self.ask("POST", f"/v1/tickets/{first}/{order}", 200, {"author": "eve"})
            self.ask("POST", f"/v1/tickets/99/{order}", 404, {})
        self.ask("POST", f"/v1/tickets/{second}/merge", 400, {"into": second})
        self.ask("POST", f"/v1/tickets/{second}/merge", 404, {"into": 99})
        self.ask("POST", f"/v1/tickets/{second}/merge", 200, {"into": first})
        self.ask("POST", f"/v1/tickets/{second}/merge", 409, {"into": first})
        answer = {"text": "It prints again.", "idempotency_key": "k"}
        self.ask("POST", f"/v1/tickets/{first}/replies", 201, answer)
        self.ask("POST", f"/v1/tickets/{first}/replies", 409, answer | {"text": "other"})
        self.ask("POST", f"/v1/tickets/{first}/replies", 400, {})
        self.ask("POST", "/v1/tickets/99/replies", 404, {"text": "x"})
        fresh = {"channel": "support@localhost", "to": ["ada@example.org"], "subject": "s", "text": "x"}
        self.ask("POST", "/v1/tickets", 201, fresh)
        self.ask("POST", "/v1/tickets", 400, fresh | {"to": []})

    def entries(self, mail):
        self.ask("GET", "/v1/entries?after=0", 200)
        self.ask("GET", "/v1/entries?befor=0", 400)
        self.ask("GET", f"/v1/entries/{mail}", 200)
        self.ask("GET", "/v1/entries/none", 404)
        self.ask("GET", f"/v1/entries/{mail}/raw", 200)
        self.ask("GET", "/v1/entries/none/raw", 404)
        self.ask("GET", f"/v1/entries/{mail}/attachments/0", 404)
        self.ask("GET", f"/v1/entries/{mail}/attachments/x", 400)
        self.ask("GET", f"/v1/explain?message_id={mail}", 200)
        self.ask("GET", "/v1/explain?message_id=none", 404)
        self.ask("GET", "/v1/explain", 400)
        self.ask("POST", f"/v1/entries/{mail}/retry", 409, {})
        self.ask("POST", "/v1/entries/none/retry", 404, {})
        self.ask("POST", f"/v1/entries/{mail}/erase", 200, {})
        self.ask("POST", "/v1/entries/none/erase", 404, {})
        self.ask("GET", f"/v1/entries/{mail}/raw", 410)

    def channels(self):
        self.ask("GET", "/v1/channels", 200)
        desk = "/v1/channels/desk@localhost"
        for below in ("", "/ledger", "/parity"):
            self.ask("GET", desk + below, 200)
            self.ask("GET", "/v1/channels/none@localhost" + below, 404)
        self.ask("GET", f"{desk}/ledger?state=none", 400)
        self.ask("GET", f"{desk}/parity?since=1y", 400)
        self.ask("POST", f"{desk}/connect", 409, {"password": "x"})
        self.ask("POST", f"{desk}/connect", 400, {"pass": "x"})
        self.ask("POST", "/v1/channels/none@localhost/connect", 404, {"password": "x"})
        for order in ("pause", "resume", "look", "sweep", "disconnect"):
            self.ask("POST", f"{desk}/{order}", 200, {})
        self.ask("POST", f"{desk}/nonsense", 404, {})
        for method, below, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/answer", {"redirected_to": "http://127.0.0.1/"})):
            self.ask(method, f"{desk}/authorisations/none{below}", 404, body)
        self.ask("POST", "/v1/channels/support@localhost/default", 200, {})
        self.ask("POST", "/v1/channels/none@localhost/default", 404, {})

    def outbox(self, ticket):
        for _ in range(3):
            self.ask("POST", f"/v1/tickets/{ticket}/replies", 201, {"text": "again"})
        brakes = self.ask("GET", "/v1/loops", 200)["brakes"]
        self.ask("POST", f"/v1/loops/{brakes[0]['id']}/release", 200, {})
        self.ask("POST", f"/v1/loops/{brakes[0]['id']}/release", 409, {})
        self.ask("POST", "/v1/outbox", 200, {"order": "retry"})
        self.ask("POST", "/v1/outbox", 400, {"order": "none"})
        fresh = {"channel": "support@localhost", "to": ["bob@example.org"], "subject": "s", "text": "x"}
        self.ask("GET", "/v1/outbox?state=none", 400)
        mail = self.ask("POST", "/v1/tickets", 201, fresh)["id"]
        self.ask("GET", "/v1/outbox", 200)
        self.ask("GET", f"/v1/outbox/{mail}", 200)
        self.ask("GET", "/v1/outbox/none", 404)
        self.ask("POST", "/v1/outbox/none/hold", 404, {})
        self.ask("POST", f"/v1/outbox/{mail}/none", 404, {})
        self.ask("POST", f"/v1/outbox/{mail}/reroute", 400, {"relay": "none"})
        self.ask("GET", "/v1/suppressions?all=true", 200)
        self.ask("POST", f"/v1/suppressions/{quote('a@b.example')}/clear", 409, {})
        self.ask("GET", "/v1/relays", 200)
        self.ask("GET", "/v1/relays/dead", 200)
        self.ask("GET", "/v1/relays/none", 404)
        self.ask("POST", "/v1/relays/dead/probe", 202, {"channel": "support@localhost"})
        self.ask("POST", "/v1/relays/none/probe", 404, {})
        self.ask("POST", "/v1/relays/sandbox/probe", 409, {})
