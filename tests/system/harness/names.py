"""Real name servers: Knot signs a zone and answers for it, Unbound asks it, validates, and vouches for what is secure."""

import socket
import subprocess

from .settings import free_port, need
from .wait import until

KNOT = """
server:
    rundir: "{base}/run"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: info
database:
    storage: "{base}/keys"
policy:
  - id: quick
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
  - domain: example
    storage: "{base}"
    file: example.zone
    zonefile-sync: -1
    dnssec-signing: on
    dnssec-policy: quick
"""

# Everything below "example" is asked of Knot; there is nothing else in this world.
UNBOUND = """
server:
    directory: "{base}"
    chroot: ""
    username: ""
    pidfile: ""
    logfile: ""
    use-syslog: no
    do-daemonize: no
    interface: 127.0.0.1
    port: {port}
    do-ip6: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    root-hints: ""
    local-zone: "." static
    local-zone: "example." transparent
    trust-anchor: "{anchor}"
{insecure}
stub-zone:
    name: "example."
    stub-addr: 127.0.0.1@{knot}
remote-control:
    control-enable: no
"""

ZONE = """
$ORIGIN example.
$TTL 60
@ SOA ns.example. root.example. 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
"""


def text(value):
    """A TXT record of any length: strings of at most 255 bytes (RFC 1035 section 3.3.14)."""
    parts = [value[at:at + 255] for at in range(0, len(value), 255)]
    return "TXT " + " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


class Names:
    """A resolver on loopback, at `port`, that knows `records`: pairs of a name below "example" and a record.

    Of the domains in `insecure` it does not vouch for what it says, as if they were not signed."""

    def __init__(self, case, records, insecure=()):
        need("knotd", "keymgr", "unbound")
        self.base, self.port = case.place / "names", free_port()
        for folder in ("run", "keys"):
            (self.base / folder).mkdir(parents=True)
        knot = free_port()
        lines = [f"{name}. {record}" for name, record in records]
        (self.base / "example.zone").write_text(ZONE + "\n".join(lines) + "\n")
        self.settings = self.base / "knot.conf"
        self.settings.write_text(KNOT.format(base=self.base, port=knot))
        self._start(case, "knotd", "-c", self.settings)
        anchor = until(lambda: f"Knot has signed its zone\n{self.log('knotd')}", self._anchor, 20)
        unbound = self.base / "unbound.conf"
        lines = "\n".join(f'    domain-insecure: "{domain}."' for domain in insecure)
        unbound.write_text(UNBOUND.format(base=self.base, port=self.port, knot=knot, anchor=anchor, insecure=lines))
        self._start(case, "unbound", "-d", "-c", unbound)
        until(lambda: f"Unbound answers\n{self.log('unbound')}\n{self.log('knotd')}", self._answers, 20, every=0.1)

    def _start(self, case, program, *options):
        with open(self.base / f"{program}.log", "ab") as log:
            process = subprocess.Popen(["/usr/sbin/" + program, *map(str, options)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        case.addCleanup(process.wait, 20)
        case.addCleanup(process.terminate)

    def log(self, program):
        return (self.base / f"{program}.log").read_text(errors="replace")[-3000:]

    def _anchor(self):
        done = subprocess.run(["/usr/sbin/keymgr", "-c", self.settings, "example", "ds"], capture_output=True, text=True, timeout=20)
        # Among digests of one key SHA-256 is number 2.
        return next((line for line in done.stdout.splitlines() if " DS " in line and line.split()[-2] == "2"), None)

    def _answers(self):
        """Whether it vouches for the zone's own record."""
        question = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\0" + b"\x07example\0\0\x06\0\x01"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(1)
            probe.sendto(question, ("127.0.0.1", self.port))
            try:
                answer = probe.recv(4096)
            except OSError:
                return False
        # AD, no error, and an answer.
        return answer[3] & 0x2F == 0x20 and answer[7] == 1
