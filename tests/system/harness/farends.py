"""Far ends that mail is sent on to: Postfix's smtp-sink, which counts, and servers that are no good."""

import contextlib
import os
import socket
import subprocess
import threading

from . import settings
from .settings import free_port
from .wait import until


class Sink:
    """smtp-sink, which counts the mails that it took, or refuses what it is told to by options of its own."""

    def __init__(self, folder, name="sink", *options):
        settings.need("smtp-sink")
        self.process, self.options = None, options
        self.port, self.counts = free_port(), folder / f"{name}.counts"

    def start(self):
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with open(self.counts, "wb") as out:
            command = ["/usr/sbin/smtp-sink", "-c", *user, *self.options, f"127.0.0.1:{self.port}", "1000"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        until(f"smtp-sink greets on port {self.port}", self._greets, 20, every=0.05)
        return self

    def _greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                return probe.recv(3) == b"220"
        except OSError:
            return False

    def mails(self):
        """So many until now: the last number of a line that it writes anew after every mail."""
        with open(self.counts, "rb") as lines:
            lines.seek(0, os.SEEK_END)
            lines.seek(max(0, lines.tell() - 200))
            text = lines.read()
        # What stands behind the last carriage return is half written.
        whole = [line for line in text[:text.rfind(b"\r") + 1].split(b"\r") if b"mesg=" in line]
        return int(whole[-1].rpartition(b"mesg=")[2]) if whole else 0

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)


class Bad:
    """A far end that is no good: "hangs" accepts connections and says nothing; a reply goes to every recipient."""

    def __init__(self, behaviour):
        self.behaviour, self.open, self.seen = behaviour, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.listener.accept()
                self.seen += 1
                self.open.append(link)
                if self.behaviour != "hangs":
                    threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        with contextlib.suppress(OSError), link, link.makefile("rb") as lines:
            link.sendall(b"220 bad.example ESMTP\r\n")
            for line in lines:
                word = line[:4].upper()
                if word == b"RCPT":
                    link.sendall(self.behaviour.encode() + b"\r\n")
                elif word == b"DATA":
                    link.sendall(b"554 5.5.1 no valid recipients\r\n")
                elif word == b"QUIT":
                    link.sendall(b"221 2.0.0 bye\r\n")
                    return
                else:
                    link.sendall(b"250 2.0.0 ok\r\n")

    def stop(self):
        self.listener.close()
        for link in self.open:
            with contextlib.suppress(OSError):
                link.close()


def relay(name, port, concurrency):
    return {"name": name, "kind": "smtp", "host": "127.0.0.1", "port": port, "security": "none", "concurrency": concurrency}


def channel(name, by):
    return {"address": f"{name}@localhost", "name": name.title(), "queue": "Support", "relay": by}
