"""The servers that are measured, each started in a directory of its own. A mail that any of these acknowledges is synced
to disk, but for smtp-sink, which throws it away and so shows what the client and the machine can do at most."""

import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from harness import postfix
from harness.daemon import Daemon
from harness.settings import TARGET, free_port
from harness.wait import until


class Unavailable(Exception):
    """This server cannot run here."""


class Ticketgate:
    def __init__(self, folder):
        # The store as it is by default; the tests' small segments are not what people run.
        self.daemon = Daemon(folder, {"store": {"segment_bytes": None, "low_water_bytes": None, "ballast_bytes": None}})
        self.daemon.start()
        self.port = self.daemon.port

    def pid(self):
        return self.daemon.process.pid

    def filed(self):
        """How many tickets stand committed: each mail of a bench opens one. Reading them all would be measured too."""
        return self.daemon.admin.get("/v1/status")["store"]["tickets"]

    def delete_all(self):
        """Erases every mail that it has, through its own admin socket."""
        until("everything is filed", lambda: self.daemon.admin.get("/v1/status")["spool"]["mails"] == 0, 600)
        ids = [entry["id"] for entry in self.daemon.admin.each_entry()]
        with ThreadPoolExecutor(16) as several:
            for status in several.map(self._erase, ids):
                assert status // 100 == 2, f"erase answered {status}"

    def _erase(self, entry):
        return self.daemon.admin.request("POST", f"/v1/entries/{entry}/erase", {})[0]

    def stop(self):
        self.daemon.stop(60)


class Postfix:
    role = postfix.HOLDING

    def __init__(self, folder):
        self.folder = folder
        self.server = postfix.Postfix(folder, self.role).start()
        self.port = self.server.port
        answers(self.port)

    def pid(self):
        return self.server.pid()

    def delete_all(self):
        """Empties its queue with its own tool."""
        subprocess.run(["/usr/sbin/postsuper", "-c", self.server.base / "etc", "-d", "ALL"], check=True, capture_output=True)

    def stop(self):
        self.server.stop()


class PostfixToMaildir(Postfix):
    role = postfix.MAILDIR

    def filed(self):
        box = self.server.base / "mail" / "box" / "new"
        return len(os.listdir(box)) if box.exists() else 0


class Process:
    """A server that is one process."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answers(self.port)

    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class SmtpSink(Process):
    def __init__(self, _folder):
        program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
        if not program:
            raise Unavailable("smtp-sink comes with Debian's postfix package")
        self.port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        super().__init__([program, *user, f"127.0.0.1:{self.port}", "1000"])


class Aiosmtpd(Process):
    """The usual Python server, writing each mail to a synced file."""

    def __init__(self, folder):
        venv = TARGET / "aiosmtpd"
        if not (venv / "bin" / "aiosmtpd").exists():
            made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True).returncode == 0 and subprocess.run(
                [venv / "bin" / "pip", "install", "--quiet", "aiosmtpd"], capture_output=True).returncode == 0
            if not made:
                raise Unavailable("aiosmtpd cannot be installed from PyPI")
        (folder / "mail").mkdir()
        self.port = free_port()
        super().__init__([venv / "bin" / "python", "-c", SYNCED_FILES, str(self.port), str(folder / "mail")])


SYNCED_FILES = """
import asyncio, os, sys
from aiosmtpd.smtp import SMTP
folder, number = sys.argv[2], 0
class Keep:
    async def handle_DATA(self, server, session, envelope):
        global number
        number += 1
        path = f"{folder}/{number}"
        file = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, envelope.original_content)
        os.fsync(file)
        os.close(file)
        os.rename(path + ".tmp", path)
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        return "250 kept"
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Keep(), hostname="bench"), "127.0.0.1", int(sys.argv[1]), backlog=1000)
    await server.serve_forever()
asyncio.run(main())
"""


def answers(port):
    """Waits until a server greets on this port."""
    def greets():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
                return probe.recv(3) == b"220"
        except OSError:
            return False
    until(f"a server greets on port {port}", greets, 20, every=0.05)


ACCEPTING = {"ticketgate": Ticketgate, "Postfix": Postfix, "smtp-sink": SmtpSink, "aiosmtpd": Aiosmtpd}
FILING = {"ticketgate": Ticketgate, "Postfix to Maildir": PostfixToMaildir}
DELETING = {"ticketgate": Ticketgate, "Postfix": Postfix}
