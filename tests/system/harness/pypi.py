"""Programs from PyPI that judge what the daemon has made, in an environment of their own below the build directory."""

import subprocess
import sys
import threading
import unittest

from .settings import TARGET

_installing = threading.Lock()
WANTED = ("dkimpy==1.1.8", "pynacl==1.5.0")

# Verifies the mail on standard input: prints a line for each signature. The only names that exist are the arguments, or
# those that a name server on the port knows that is the only argument.
VERIFY = """
import sys, dkim, dns.resolver
names = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = dns.resolver.Resolver(configure=False)
server.nameservers = ["127.0.0.1"]
server.port = int(sys.argv[1]) if len(sys.argv) == 2 else 53
def txt(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    if len(sys.argv) != 2:
        return names.get(name.rstrip("."), "").encode() or None
    try:
        return b"".join(server.resolve(name, "TXT")[0].strings)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
mail = sys.stdin.buffer.read()
count = sum(line.lower().startswith(b"dkim-signature:") for line in mail.partition(b"\\r\\n\\r\\n")[0].split(b"\\r\\n"))
for index in range(count):
    judge = dkim.DKIM(mail)
    try:
        good = judge.verify(index, dnsfunc=txt)
    except dkim.DKIMException as error:
        print("error", error)
        continue
    print("good" if good else "bad", judge.signature_fields[b"a"].decode(), judge.domain.decode(), judge.selector.decode())
"""


def python():
    """The interpreter that has them; skips the test where they cannot be installed."""
    place = TARGET / "pypi"
    program, stamp = place / "bin" / "python", place / "installed"
    with _installing:
        if not stamp.exists() or stamp.read_text() != str(WANTED):
            pip = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED]
            for command in ([sys.executable, "-m", "venv", place], pip):
                done = subprocess.run(command, capture_output=True, text=True, timeout=100)
                if done.returncode != 0:
                    raise unittest.SkipTest(f"cannot be installed from PyPI: {WANTED}: {done.stderr[-300:]}")
            stamp.write_text(str(WANTED))
    return program


def dkim_verdicts(mail, names):
    """What dkimpy says of each signature; `names` are the TXT records that exist, or the port of a name server."""
    told = [part for pair in names.items() for part in pair] if isinstance(names, dict) else [str(names)]
    done = subprocess.run([python(), "-c", VERIFY, *told], input=mail, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()
