"""A mail server that keeps what it gets in memory and answers as a test wants."""

import asyncio
import re
import threading
import time

from .settings import free_port


class Mail:
    """One mail that was answered with 250."""

    def __init__(self, sender, recipients, data):
        self.at, self.sender, self.recipients, self.data = time.monotonic(), sender, recipients, data

    @property
    def message_id(self):
        found = re.search(rb"^Message-ID:\s*<([^>]+)>", self.data, re.IGNORECASE | re.MULTILINE)
        return found and found[1].decode()


class Sink:
    """`rule(verb, argument)` is asked at MAIL, RCPT and DATA (after the final dot), and may give a reply to say instead."""

    def __init__(self, rule=None):
        self.port, self.rule = free_port(), rule or (lambda *_: None)
        # `began` has the time of each MAIL that was taken, `refused` what the rule has said.
        self.mails, self.began, self.refused = [], [], []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        ready = threading.Event()
        self.loop.call_soon(ready.set)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._session, "127.0.0.1", self.port, limit=1 << 22))
        self.thread.start()
        ready.wait(10)
        return self

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self):
        self.loop.call_soon_threadsafe(self._leave)
        self.thread.join(10)
        self.loop.close()

    def _leave(self):
        """Ends the sessions that are still open, and then the loop."""
        self.server.close()
        sessions = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        for session in sessions:
            session.cancel()
        ended = asyncio.gather(*sessions, return_exceptions=True)
        ended.add_done_callback(lambda _: self.loop.stop())

    def _ruled(self, verb, argument):
        said = self.rule(verb, argument)
        if said:
            self.refused.append((time.monotonic(), verb, said))
        return said

    async def _session(self, reader, writer):
        try:
            writer.write(b"220 sink.example ESMTP\r\n")
            sender, recipients = None, []
            while line := await reader.readline():
                verb, _, argument = line.decode("latin-1").strip().partition(" ")
                verb = verb.upper()
                if verb in ("EHLO", "HELO"):
                    writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH PLAIN\r\n250 SIZE 100000000\r\n")
                elif verb == "QUIT":
                    writer.write(b"221 2.0.0 Bye\r\n")
                    break
                elif verb == "AUTH":
                    # Whoever it is may come in.
                    if argument.strip().upper() == "PLAIN":
                        writer.write(b"334 \r\n")
                        await reader.readline()
                    writer.write(b"235 2.7.0 Ok\r\n")
                elif verb == "DATA" and not recipients:
                    writer.write(b"503 5.5.1 No recipients\r\n")
                elif verb == "DATA":
                    await self._data(reader, writer, sender, recipients)
                    sender, recipients = None, []
                else:
                    said = self._ruled(verb, argument) if verb in ("MAIL", "RCPT") else None
                    if not said and verb == "MAIL":
                        sender, recipients = path(argument), []
                        self.began.append(time.monotonic())
                    elif not said and verb == "RCPT":
                        recipients.append(path(argument))
                    writer.write(f"{said or '250 2.0.0 Ok'}\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _data(self, reader, writer, sender, recipients):
        writer.write(b"354 Go on\r\n")
        await writer.drain()
        lines = []
        while (line := await reader.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        if not line:
            # The mail did not come to its end, so it is not ours.
            raise ConnectionResetError
        mail = Mail(sender, recipients, b"".join(lines))
        said = self._ruled("DATA", mail)
        if not said:
            self.mails.append(mail)
        writer.write(f"{said or '250 2.0.0 Ok'}\r\n".encode())


def path(argument):
    return argument.partition("<")[2].partition(">")[0]
