"""A line between client and server that is not to be trusted: it cuts, hangs, or changes what the server says.

Bytes are handed through as they are, so TLS may run inside; faults that look for words need it in clear.
"""

import contextlib
import socket
import threading

from .settings import free_port


class Fault:
    """Ends a connection at a command. `word` stands in what the client sends; the server's answer to it is passed on up
    to so many bytes, and None does not even let the command through. Without a word it is the greeting that is cut. It
    happens `times` times, then no more."""

    def __init__(self, word, after=None, times=1):
        self.word, self.after, self.left = word.encode(), after, times
        self.happened = 0
        self.lock = threading.Lock()

    def take(self, data):
        with self.lock:
            if self.left <= 0 or self.word not in data:
                return False
            self.left -= 1
            self.happened += 1
            return True


class Line:
    """A proxy on `port`. Without a fault it passes everything on. `silent` accepts and never says a word, `replace` is a
    pair of bytes to change in what the server says."""

    def __init__(self, upstream, fault=None, silent=False, replace=None):
        self.upstream, self.fault, self.silent, self.replace = upstream, fault, silent, replace
        self.port = free_port()
        self.open = set()
        self.accepted = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self.listener.close()
        self.cut()

    def cut(self):
        """Ends all connections there are now, in the middle of whatever they do."""
        with self.lock:
            ends, self.open = self.open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with self.lock:
                self.open.add(client)
            if not self.silent:
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream), timeout=60)
        except OSError:
            client.close()
            return
        with self.lock:
            self.open.add(server)
        budget = Budget()
        if self.fault and not self.fault.word and self.fault.take(b""):
            budget.limit(self.fault.after)
        back = threading.Thread(target=self._to_client, args=(server, client, budget), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                if self.fault and self.fault.word and self.fault.take(data):
                    if self.fault.after is None:
                        break
                    budget.limit(self.fault.after)
                server.sendall(data)
        self._end(client, server)

    def _to_client(self, server, client, budget):
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                if self.replace:
                    data = data.replace(*self.replace)
                allowed, over = budget.take(data)
                client.sendall(allowed)
                if over:
                    break
        self._end(client, server)

    def _end(self, *ends):
        with self.lock:
            self.open -= set(ends)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Budget:
    """How many bytes may still pass; without a limit, all."""

    def __init__(self):
        self.left = None

    def limit(self, count):
        self.left = count

    def take(self, data):
        """What of the bytes may pass, and whether the end is reached."""
        if self.left is None:
            return data, False
        allowed = data[: self.left]
        self.left -= len(allowed)
        return allowed, self.left == 0
