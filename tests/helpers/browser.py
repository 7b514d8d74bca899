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
    """A `Browser` in a window of some size; the test is skipped, with the reason, where Chromium or its driver is missing.

    `seconds` is how long its start, a page and a script may take.
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
    """A page in Chromium: what a person would do with it, and what a test wants to know of it."""

    def __init__(self, driver, seconds):
        self._driver, self._seconds, self._session = driver, seconds, ""

    def start(self, options):
        """Starts the browser (called by `open_browser`)."""
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
        """Ends the browser."""
        self._ask("DELETE", "")

    def open(self, url):
        """Goes to a page, http:// or file://, and waits until it is loaded."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What a piece of JavaScript with a ``return`` in it gives; `arguments` are its ``arguments``."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, *, seconds=None):
        """Runs JavaScript until it returns something true, and gives that; TimeoutError where it does not in time."""
        end = time.monotonic() + (seconds or self._seconds)
        while True:
            found = self.run(script)
            if found:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"{script!r} gives {found!r} still; the page says {self.text('body')[:500]!r}")
            time.sleep(0.05)

    def text(self, selector):
        """The visible text of an element, by CSS selector."""
        return self._ask("GET", f"/element/{self._find(selector)}/text")

    def click(self, selector):
        """Clicks an element; an error where it is hidden or covered."""
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector, text):
        """Types into an element; for an ``<input type=file>`` the text is the path of the file to choose."""
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": str(text)})

    def console_errors(self):
        """What the page's console has said since the last call that is an error (list of str), its own scripts' and the
        browser's, such as of files that are missing or refused by the page's policy."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def resize(self, width, height):
        """Gives the window another size."""
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def screenshot(self, path):
        """Writes what the window shows into a PNG file."""
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
