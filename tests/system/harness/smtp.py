"""An SMTP client that says exactly the bytes it is told to, and mails to say."""

import base64
import hashlib
import hmac
import secrets
import socket
import ssl


class Refused(AssertionError):
    """A reply other than the expected one; `code` and `text` are the reply's."""

    def __init__(self, code, text, wanted):
        super().__init__(f"wanted {wanted}, got {code}: {text!r}")
        self.code, self.text = code, text


class Closed(ConnectionError):
    """The daemon closed the connection."""


class Client:
    def __init__(self, port, address="127.0.0.1", timeout=20):
        self.socket = socket.create_connection((address, port), timeout=timeout)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        while b"\n" not in self.buffer:
            more = self.socket.recv(4096)
            if not more:
                raise Closed(f"after {self.buffer!r}")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def reply(self):
        """Code and text of the next whole reply."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return int(lines[-1][:3]), "\n".join(lines)

    def expect(self, wanted):
        code, text = self.reply()
        if code != wanted:
            raise Refused(code, text, wanted)
        return text

    def say(self, line, wanted=250):
        self.send(line.encode() + b"\r\n")
        return self.expect(wanted)

    def ask(self, message):
        """Code and text of the reply to one message of an AUTH exchange."""
        self.send(base64.b64encode(message.encode()) + b"\r\n")
        return self.reply()

    def greet(self, name="client.example"):
        self.expect(220)
        return self.say(f"EHLO {name}")

    def starttls(self):
        self.say("STARTTLS", 220)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)
        return self.say("EHLO client.example")

    def mail(self, data, sender="alice@example.net", recipients=("support@localhost",)):
        """One transaction; `data` has CRLF line ends and gets its dots stuffed here."""
        self.say(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            self.say(f"RCPT TO:<{recipient}>")
        self.say("DATA", 354)
        self.send(stuffed(data) + b".\r\n")
        return self.expect(250)


def stuffed(data):
    data = data if data.endswith(b"\r\n") else data + b"\r\n"
    data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if data.startswith(b".") else data


def send(port, data, **transaction):
    """Greets, sends one mail, and leaves."""
    with Client(port) as client:
        client.greet()
        client.mail(data, **transaction)
        client.say("QUIT", 221)


def message(name, subject="A question", body="How do I do this?\r\n", sender="Alice <alice@example.net>", extra=""):
    """A small mail whose Message-ID is `name`@client.example."""
    return (
        f"From: {sender}\r\nTo: support@localhost\r\nSubject: {subject}\r\nMessage-ID: <{name}@client.example>\r\n"
        f"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n{extra}\r\n{body}"
    ).encode()


def scram(client, name, password):
    """Logs in by SCRAM-SHA-256 (RFC 5802), and asserts that the server knows the password too."""
    text = lambda data: base64.b64encode(data).decode()
    first = f"n={name},r={secrets.token_hex(12)}"
    said = client.say(f"AUTH SCRAM-SHA-256 {text(b'n,,' + first.encode())}", 334)
    server = base64.b64decode(said.partition(" ")[2]).decode()
    told = dict(part.split("=", 1) for part in server.split(","))
    last = f"c={text(b'n,,')},r={told['r']}"
    whole = f"{first},{server},{last}".encode()
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(told["s"]), int(told["i"]))
    sign = lambda key, data: hmac.digest(key, data, "sha256")
    key = sign(salted, b"Client Key")
    proof = bytes(a ^ b for a, b in zip(key, sign(hashlib.sha256(key).digest(), whole)))
    code, answer = client.ask(f"{last},p={text(proof)}")
    if code == 334:
        assert base64.b64decode(answer.partition(" ")[2]) == b"v=" + text(sign(sign(salted, b"Server Key"), whole)).encode(), answer
        code, answer = client.ask("")
    assert code == 235, answer
