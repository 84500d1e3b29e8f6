"""Mailboxes are connected by OAuth at a real provider: every flow, and every reason to refuse, with nothing stored then."""

import urllib.parse

from harness.browser import Browser
from harness.mailboxes import USER, mail
from harness.oauth import OAuthCase


class Connects(OAuthCase):
    def imports(self, name):
        """Mail comes, so the token lets us in."""
        self.connected()
        self.dovecot.put(USER, [mail(name)])
        self.each_once([name])
        self.labelled([name])

    def test_code_flow_with_a_browser_on_this_machine_by_xoauth2(self):
        self.gateway(mechanism="xoauth2")
        begun = self.begin()
        self.assertEqual((begun["flow"], begun["state"]), ("code", "waiting"))
        back, page = Browser(USER).follow(begun["url"])
        self.assertTrue(back.startswith("http://127.0.0.1:"), back)
        self.assertIn("connected", page.lower())
        granted = self.ended(begun, "granted")
        self.assertEqual(granted["account"], USER)
        self.assertIn("IMAP.AccessAsUser.All", granted["scopes"])
        self.imports("by-code")
        self.assertIn("method=XOAUTH2", (self.dovecot.base / "dovecot.log").read_text())

    def test_code_flow_with_a_pasted_address(self):
        self.gateway(mechanism="oauthbearer")
        begun = self.begin()
        away, _ = Browser(USER).walk(begun["url"])
        status, said = self.paste(begun, away)
        self.assertEqual(status, 200, said)
        self.ended(begun, "granted")
        self.imports("by-paste")
        self.assertIn("method=OAUTHBEARER", (self.dovecot.base / "dovecot.log").read_text())
        # The same answer a second time is not redeemed again.
        asked = self.provider.asked()["token"]
        self.paste(begun, away)
        self.assertEqual(self.provider.asked()["token"], asked)
        self.assertEqual((self.connection()["state"], self.authorisation(begun)["state"]), ("connected", "granted"))

    def test_device_flow(self):
        self.gateway(flow="device")
        begun = self.begin("--flow", "device")
        self.assertTrue(begun["user_code"] and begun["verification_url"].startswith(self.provider.issuer), begun)
        Browser(USER).walk(begun["verification_url_complete"])
        self.ended(begun, "granted", 30)
        self.imports("by-device")

    def test_the_application_itself(self):
        self.gateway(oauth="app", flow="app")
        begun = self.begin("--flow", "app")
        self.ended(begun, "granted")
        self.imports("by-app")
        self.assertEqual(self.provider.asked()["grants"].keys(), {"client_credentials"})

    def refused(self, begun, code):
        """It was refused for this reason, and nothing of it is kept, also after a restart."""
        ended = self.ended(begun, "refused")
        self.assertEqual(ended["code"], code, ended)
        self.assertTrue(ended["said"] and ended["action"], ended)
        self.assertNotEqual(self.connection()["state"], "connected")
        self.gate.stop()
        self.gate.start()
        self.assertIsNone(self.channel_now().get("credential"))
        self.assertNotEqual(self.connection()["state"], "connected")
        return ended

    def test_a_wrong_account_is_refused(self):
        self.gateway()
        begun = self.begin()
        Browser("boss@localhost").follow(begun["url"])
        ended = self.refused(begun, "wrong_account")
        self.assertIn("boss@localhost", ended["said"])
        self.assertIn(USER, ended["said"] + ended["action"])

    def test_a_missing_scope_is_refused(self):
        self.provider.grants_less(["openid", "offline_access", "email"])
        self.gateway()
        begun = self.begin()
        Browser(USER).follow(begun["url"])
        self.assertIn("IMAP.AccessAsUser.All", self.refused(begun, "scope_missing")["said"])

    def test_somebody_who_says_no_is_believed(self):
        self.gateway()
        begun = self.begin()
        Browser(USER, consents=False).follow(begun["url"])
        self.refused(begun, "consent_declined")

    def test_an_answer_with_another_state_is_refused(self):
        self.gateway()
        begun = self.begin()
        away, _ = Browser(USER).walk(begun["url"])
        parts = urllib.parse.urlsplit(away)
        query = dict(urllib.parse.parse_qsl(parts.query))
        for state in ("another", ""):
            forged = parts._replace(query=urllib.parse.urlencode(query | {"state": state})).geturl()
            status, said = self.paste(begun, forged)
            self.assertGreaterEqual(status, 400, said)
            self.assertNotEqual(self.connection()["state"], "connected")
        asked = self.provider.asked()
        self.assertEqual(asked["token"], 0, f"a forged code was redeemed: {asked}")
        self.assertIsNone(self.channel_now().get("credential"))

    def test_what_the_provider_says_becomes_a_named_problem(self):
        self.gateway(oauth="app", flow="app")
        table = [
            (400, "invalid_client", "AADSTS7000222: The provided client secret keys are expired.", "client_secret_expired"),
            (401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", "client_wrong"),
            (400, "unauthorized_client", "AADSTS700016: Application not found in the directory.", "client_wrong"),
            (400, "invalid_grant", "AADSTS65001: The user or administrator has not consented.", "consent_missing"),
            (400, "invalid_grant", "AADSTS50057: The user account is disabled.", "no_access"),
            (503, None, None, "oauth_provider_trouble"),
        ]
        for status, error, description, code in table:
            with self.subTest(description or status):
                self.provider.fault(20, status, error, description)
                begun = self.begin("--flow", "app")
                ended = self.ended(begun, "refused", 40)
                self.assertEqual(ended["code"], code, ended)
                self.assertTrue(ended["action"])
        self.provider.fault(0)
        self.ended(self.begin("--flow", "app"), "granted")
        self.imports("after-all")
