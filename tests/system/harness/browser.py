"""A browser that a person sits at: follows redirects, keeps cookies, logs in, says yes or no."""

import html
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Browser:
    def __init__(self, user, consents=True):
        self.user, self.consents = user, consents
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(_Stay, jar)

    def _get(self, url, form=None):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            answer = self.opener.open(url, data, timeout=20)
        except urllib.error.HTTPError as refused:
            answer = refused
        return answer, answer.read().decode(errors="replace")

    def walk(self, url):
        """Goes on from page to page at this site. Returns the address that leads away from it, not visited yet, or
        None, and the text of the last page."""
        site, form = urllib.parse.urlsplit(url).netloc, None
        for _ in range(30):
            answer, page = self._get(url, form)
            form = None
            if answer.status in (301, 302, 303, 307, 308):
                url = urllib.parse.urljoin(url, answer.headers["Location"])
                if urllib.parse.urlsplit(url).netloc != site:
                    return url, page
                continue
            asked = re.search(r'<form[^>]*action="([^"]*)"', page)
            if not asked:
                return None, page
            form = self._fill(page)
            url = urllib.parse.urljoin(url, html.unescape(asked[1]))
        raise AssertionError(f"no end at {url}")

    def _fill(self, page):
        form = {}
        for field in re.findall(r"<input[^>]*>", page):
            attributes = dict(re.findall(r'(\w+)="([^"]*)"', field))
            if attributes.get("type") == "hidden":
                form[attributes["name"]] = html.unescape(attributes.get("value", ""))
        if 'name="login"' in page:
            form |= {"login": self.user, "password": "any"}
        elif not self.consents and 'value="consent"' in page:
            form["decision"] = "no"
        return form

    def follow(self, url):
        """As `walk`, and then visits the address that leads away: the program that waits there gets its answer. Returns
        that address and what the program said."""
        away, page = self.walk(url)
        assert away, f"the provider led nowhere: {page[:500]}"
        answer, said = urllib.request.build_opener(_Stay).open(away, timeout=20), ""
        with answer:
            said = answer.read().decode(errors="replace")
        return away, said
