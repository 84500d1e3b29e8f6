"""Tokens that live for seconds are renewed in time, whatever happens: no pull fails, no refresh token is used twice."""

import random
import signal
import time

from harness.cutting import Line
from harness.mailboxes import USER, mail
from harness.oauth import OAuthCase
from harness.settings import rounds
from harness.wait import until


class Fresh(OAuthCase):
    def connects_anew(self):
        """The session ends in good order and the next one begins, with the token that is valid now."""
        for verb, state in (("pause", "paused"), ("resume", "connected")):
            done = self.gate.command("channels", verb, USER)
            self.assertEqual(done.returncode, 0, done.stderr)
            until(lambda state=state: f"{state}, not {self.connection()}\n{self.gate.log()}", lambda state=state: self.connection()["state"] == state, 10)

    def works_for(self, seconds, sent, meanwhile=lambda _: None):
        """Looks again and again for so long, with new sessions; every look brings the mail that has just come."""
        began = time.monotonic()
        while (age := time.monotonic() - began) < seconds:
            meanwhile(age)
            self.connects_anew()
            sent.append(f"m{len(sent)}")
            self.dovecot.put(USER, [mail(sent[-1])])
            until(lambda: f"{sent[-1]} is imported: {self.connection()}\n{self.gate.log()}", lambda: self.tickets() >= len(sent), 10)

    def test_tokens_of_20_seconds_last_through_a_long_run(self):
        # ROUNDS counts minutes; without it, two refreshes are enough.
        seconds = 60 * rounds(0) or 40
        self.deadline = 60 + 2 * seconds
        signal.alarm(self.deadline)
        self.gateway()
        self.consent()
        self.connected()
        # Before the consent there was nothing to look with.
        sent, failed = [], self.failed_looks()
        self.works_for(seconds, sent)
        self.each_once(sent)
        asked = self.provider.asked()
        self.assertEqual((self.failed_looks() - failed, asked["reused"], asked["errors"]), (0, 0, []))
        self.assertGreaterEqual(asked["refreshed"], seconds // 20)
        self.labelled(sent)
        self.report(f"{seconds} s, {asked['refreshed']} refreshes, {len(sent)} sessions and mails, no failed look")

    def test_secrets_stand_nowhere(self):
        self.gateway(settings={"log": {"level": "trace"}})
        done = self.consent()
        self.connected()
        self.dovecot.put(USER, [mail("one")])
        self.each_once(["one"])
        until("a token was renewed", lambda: self.provider.asked()["refreshed"] >= 1, 30)
        pid = self.gate.process.pid
        admin = self.gate.admin
        places = {f"admin {t}": admin.request("GET", t)[2] for t in ("/v1/status", "/v1/channels", "/v1/entries", f"/v1/channels/{USER}/authorisations/{done['id']}")}
        places["metrics"] = self.gate.metrics().encode()
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                places[name] = file.read()
        self.gate.stop()
        places["log"] = self.gate.log_file.read_bytes()
        for path in (self.place / "data").rglob("*"):
            if path.is_file():
                places[str(path)] = path.read_bytes()
        self.assertGreater(len(places), 8)
        secrets = [secret for kind in self.provider.secrets().values() for secret in kind]
        self.assertGreaterEqual(len(secrets), 5)
        for secret in [*secrets, self.provider.secret, self.provider.app_secret]:
            for place, text in places.items():
                self.assertNotIn(secret.encode(), text, f"a secret stands in {place}")


class Troubled(Fresh):
    access_ttl = 30
    # Only what stands below; what it comes from runs there.
    test_tokens_of_20_seconds_last_through_a_long_run = None
    test_secrets_stand_nowhere = None

    def test_a_provider_that_is_down_while_tokens_are_valid_is_not_noticed(self):
        self.gateway()
        self.consent()
        self.connected()
        before, failed = self.provider.asked()["refreshed"], self.failed_looks()
        down, sent = [False], []
        # Renewal is due after two thirds of a token's life, which began before this does; the provider comes back well
        # before the next try, so that a slow start does not push that behind the token's end.
        def outage(age):
            wanted = 15 < age < 22
            if wanted != down[0]:
                down[0] = wanted
                self.provider.fault(10_000 if wanted else 0, 503)
        self.works_for(32, sent, outage)
        self.each_once(sent)
        asked = self.provider.asked()
        self.assertGreaterEqual(asked["faults"], 1, "nobody noticed that the provider was down")
        self.assertGreaterEqual(asked["refreshed"], before + 1)
        self.assertEqual((self.failed_looks() - failed, asked["reused"]), (0, 0), self.gate.log(12_000))
        self.report(f"down for 7 s, {asked['faults']} requests answered 503, {len(sent)} mails imported meanwhile")

    def test_a_revoked_grant_is_named_and_a_new_consent_loses_nothing(self):
        self.access_ttl = 20
        line = Line(self.dovecot.imaps)
        self.addCleanup(line.stop)
        self.gateway(port=line.port)
        self.consent()
        self.connected()
        self.dovecot.put(USER, [mail("before")])
        self.each_once(["before"])
        self.assertGreaterEqual(self.provider.revoke(USER), 1)
        began = time.monotonic()
        line.cut()
        self.dovecot.put(USER, [mail("meanwhile")])
        problem = self.problem("consent_expired", seconds=30)
        seconds = time.monotonic() - began
        self.assertIn(f"ticketgate reconnect {USER}", problem["action"])
        # Whoever is refused asks again rarely, not at every look.
        asked = self.provider.asked()["token"]
        self.dovecot.put(USER, [mail("still")])
        time.sleep(3)
        self.assertLessEqual(self.provider.asked()["token"], asked + 1)
        self.consent(verb="reconnect")
        self.connected()
        self.dovecot.put(USER, [mail("after")])
        self.each_once(["before", "meanwhile", "still", "after"])
        self.labelled(["before", "meanwhile", "still", "after"])
        self.report(f"named {seconds:.1f} s after the revocation; nothing lost, nothing doubled after the new consent")


class Killed(Fresh):
    access_ttl = 6
    test_tokens_of_20_seconds_last_through_a_long_run = None
    test_secrets_stand_nowhere = None

    def test_killed_in_mid_refresh_it_goes_on_or_says_what_to_do(self):
        random.seed(11)
        times = rounds(4)
        self.deadline = 120 + 40 * times
        signal.alarm(self.deadline)
        self.gateway()
        self.consent()
        self.connected()
        sent, again = [], 0
        for number in range(times):
            before = self.provider.asked()["token"]
            # The answer comes late, so that the kill meets the request, the answer, or the writing of it.
            self.provider.fault(1, delay=150)
            until("a refresh begins", lambda before=before: self.provider.asked()["token"] > before, 15, every=0.005)
            time.sleep(random.uniform(0, 0.3))
            self.gate.kill()
            sent.append(f"k{number}")
            self.dovecot.put(USER, [mail(sent[-1])])
            self.gate.start()
            def settled():
                code = (self.connection().get("problem") or {}).get("code")
                return code or (self.tickets() >= len(sent) and self.connection()["state"])
            state = until(lambda: f"connected, or a named problem: {self.connection()}\n{self.gate.log()}", settled, 30)
            if state != "connected":
                self.assertEqual(state, "consent_expired", self.connection())
                self.assertTrue(self.connection()["problem"]["action"])
                again += 1
                self.consent(verb="reconnect")
            self.connected()
        self.each_once(sent)
        self.labelled(sent)
        self.report(f"{times} kills in mid-refresh: {times - again} times it went on by itself, {again} times a new consent was asked for")
