"""Headless Chromium for tests of pages, driven through its chromedriver (W3C WebDriver over HTTP, by the standard library).

>>> with open_browser() as browser:
...     browser.open(path.as_uri())
...     browser.wait("return document.querySelectorAll('table').length > 0")
...     assert browser.console_errors() == []
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which WebDriver names an element


@contextlib.contextmanager
def open_browser(*, width=1000, height=800, seconds=300):
    """Open a `Browser`; skip the test, with the reason, where Chromium or its driver is missing.

    `seconds` limits its start, the loading of a page, and a script.
    """
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("needs Chromium and its chromedriver: apt-get install chromium chromium-driver")
    with contextlib.ExitStack() as stack:
        profile = tempfile.mkdtemp()
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        words = [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--headless=new", "--disable-gpu"]
        words += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        words += [
            "--disable-dev-shm-usage",
            "--proxy-server=direct://",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        browser = Browser(f"http://127.0.0.1:{port}", seconds)
        browser.start({"binary": program, "args": words})
        stack.callback(browser.close)
        yield browser


class Browser:
    """A page in Chromium: the actions of a user, and questions of a test about the page."""

    def __init__(self, driver, seconds):
        self._driver, self._seconds, self._session = driver, seconds, ""

    def start(self, options):
        """Start the browser (called by `open_browser`)."""
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        end = time.monotonic() + self._seconds
        while not self._is_ready():
            if time.monotonic() > end:
                raise TimeoutError(f"chromedriver does not answer within {self._seconds} s")
            time.sleep(0.05)
        found = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{found['sessionId']}"
        limit = self._seconds * 1000
        self._ask("POST", "/timeouts", {"script": limit, "pageLoad": limit})

    def close(self):
        """Close the browser."""
        self._ask("DELETE", "")

    def open(self, url):
        """Open a page, http:// or file://, and wait until it is loaded."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Run JavaScript with a ``return`` in it, and return its result; `arguments` are its ``arguments``."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, *, seconds=None):
        """Run JavaScript until its result is true, and return that; TimeoutError where it takes too long."""
        end = time.monotonic() + (seconds or self._seconds)
        while True:
            found = self.run(script)
            if found:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"{script!r} gives {found!r} still; the page says {self.text('body')[:500]!r}")
            time.sleep(0.05)

    def text(self, selector):
        """Return the visible text of an element, by CSS selector."""
        return self._ask("GET", f"/element/{self._find(selector)}/text")

    def click(self, selector):
        """Click an element; an error where it is hidden or covered."""
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector, text):
        """Type into an element; for an ``<input type=file>`` the text is the path of the file to choose."""
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": str(text)})

    def console_errors(self):
        """Return the errors in the page's console since the last call (list of str).

        They include the browser's own, such as files that are missing or refused by the page's policy.
        """
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def resize(self, width, height):
        """Resize the window."""
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def screenshot(self, path):
        """Write the content of the window into a PNG file."""
        pathlib.Path(path).write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def _find(self, selector):
        return self._ask("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _is_ready(self):
        try:
            return self._ask("GET", "/status")["ready"]
        except OSError:
            return False

    def _ask(self, method, path, body=None):
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._driver}{self._session}{path}", content, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=2 * self._seconds) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            value = json.loads(error.read())["value"]
            raise RuntimeError(f"{value['error']}: {value['message'].splitlines()[0]}") from None
