"""A real headless Chromium over its DevTools protocol: load, look, click, type, take pictures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websocket

PROGRAM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip
PATIENCE = 60  # seconds, on a busy machine
KEYS = {"Enter": ("\r", 13), "Tab": ("", 9), " ": (" ", 32)}


class Browser:
    """One page of one browser. `problems` has what the console was told, and every request that is not a file's."""

    def __init__(self, profile: Path):
        self.process = subprocess.Popen([PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            port, path = wait(lambda: _lines(profile / "DevToolsActivePort"))[:2]
            address = f"ws://127.0.0.1:{port}{path}"
            self._socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        except BaseException:
            self.process.kill()
            raise
        self._number, self._session = 0, None
        self.problems: list[str] = []
        self._loaded = False
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come meanwhile are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _note(self, event: str | None, about: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.problems.append(json.dumps(about["args"]))
        elif event == "Log.entryAdded":
            self.problems.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent" and not about["request"]["url"].startswith(("file:", "data:")):
            self.problems.append(f"asked for {about['request']['url']}")

    def open(self, page: Path) -> None:
        """Loads a page from its file, at the window's present size."""
        self._loaded, self.problems = False, []
        self.send("Page.navigate", url=page.as_uri())
        wait(lambda: self.run("document.readyState") == "complete" and self._loaded)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """What a reader sees of all elements that match and are shown."""
        seen = f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility())"
        return self.run(f"{seen}.map(e => e.innerText.trim())")

    def press(self, key: str) -> None:
        """A key, where the focus is."""
        text, code = KEYS[key]
        about = {"key": key, "code": key if key != " " else "Space", "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def choose(self, selector: str, value: str | bool) -> None:
        """Sets a field as a person would, with its event."""
        field = "checked" if isinstance(value, bool) else "value"
        self.run(
            f"(f => {{ f.{field} = {json.dumps(value)}; f.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def window(self, width: int, height: int, phone: bool = False, dark: bool = False) -> None:
        """Size and colours from now on."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="", features=[scheme])

    def picture(self, where: Path) -> None:
        """The whole page as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        where.write_bytes(base64.b64decode(shot["data"]))


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.is_file() else []


def wait(ready: Callable[[], Any]) -> Any:
    """What `ready` gives, once that is something."""
    end = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < end, "the browser did not answer in time"
        time.sleep(0.02)
    return found
