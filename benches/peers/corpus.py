"""Mails as a help desk gets them: most of them small, some with attachments, every one different and the same each time."""

import base64
import math
import random

WORDS = (
    "order invoice printer password delivery account server refund update meeting screen thanks please regards help error "
    "customer and the a is of to in not when after with your our this that it on for we you have can again still since"
).split()
# Log-normal sizes: half of the mails are below MEDIAN bytes, and none is larger than MOST.
MEDIAN, SPREAD, MOST = 8192, 1.25, 3_000_000
# From this size on, most of a mail is an attachment.
ATTACHED = 20_000


def prose(rnd, size):
    lines, length, line = [], 0, ""
    while length < size:
        word = rnd.choice(WORDS)
        if len(line) + len(word) > 71:
            lines.append(line)
            length += len(line) + 2
            line = ""
        line = f"{line} {word}".strip()
    return "\r\n".join([*lines, line]) + "\r\n"


def body(rnd, size, number):
    """Content type and body of about this size."""
    if size > ATTACHED:
        lines = base64.encodebytes(rnd.randbytes(int(size * 0.72))).decode().replace("\n", "\r\n")
        return 'multipart/mixed; boundary="mixed"', (
            f"--mixed\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{prose(rnd, 900)}\r\n--mixed\r\n"
            f'Content-Type: application/pdf; name="{number}.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="{number}.pdf"\r\n\r\n{lines}\r\n--mixed--\r\n'
        )
    if rnd.random() < 0.6:
        text, page = prose(rnd, size // 3), prose(rnd, size * 2 // 3)
        return 'multipart/alternative; boundary="both"', (
            f"--both\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n--both\r\n"
            f"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{page}</p></body></html>\r\n--both--\r\n"
        )
    return "text/plain; charset=utf-8", prose(rnd, size)


def mails(count, seed=20):
    """`count` mails with CRLF line ends; two of five answer an earlier one."""
    rnd, known = random.Random(seed), []
    for number in range(count):
        size = min(MOST, max(900, int(math.exp(rnd.gauss(math.log(MEDIAN), SPREAD)))))
        name = f"<{number}.{rnd.getrandbits(48):x}@client{rnd.randrange(50)}.example>"
        person = rnd.randrange(3000)
        subject = " ".join(rnd.choices(WORDS, k=5))
        if rnd.random() < 0.2:
            subject = f"=?utf-8?B?{base64.b64encode(('Störung: ' + subject).encode()).decode()}?="
        head = [
            f"Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{rnd.randrange(1, 250)}])\r\n"
            f"\tby mail{hop}.example.org with ESMTPS id {rnd.getrandbits(40):X};\r\n\tMon, 23 Nov 2026 10:0{hop}:00 +0000"
            for hop in range(rnd.randrange(1, 5))
        ]
        head += [
            f"From: Person {person} <person{person}@example.net>", "To: Support <support@localhost>", f"Subject: {subject}",
            "Date: Mon, 23 Nov 2026 10:00:00 +0000", f"Message-ID: {name}", "MIME-Version: 1.0",
        ]
        if known and rnd.random() < 0.4:
            earlier = rnd.choice(known)
            head += [f"In-Reply-To: {earlier}", f"References: {earlier}"]
        known.append(name)
        kind, text = body(rnd, max(100, size - sum(map(len, head)) - 300), number)
        yield ("\r\n".join([*head, f"Content-Type: {kind}"]) + "\r\n\r\n" + text).encode()
