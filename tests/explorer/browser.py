"""A headless Chromium, driven by its DevTools protocol over two pipes: real pages, real input."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # WebGL in software: machines of tests have no GPU.
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)
DEADLINE_S = 60.0


def executable() -> str | None:
    """A Chromium of this machine, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The page did what it should not, or nothing."""


class Browser:
    """One process, one tab; `events` are those of the page so far."""

    def __init__(self, profile: Path, width: int = 1200, height: int = 760) -> None:
        program = executable()
        assert program is not None
        to_it, ours = os.pipe()
        theirs, from_it = os.pipe()
        size, home = f"--window-size={width},{height}", f"--user-data-dir={profile}"

        def move() -> None:
            # The protocol's ends are file descriptors 3 and 4; ours may lie there already.
            a, b = os.dup(to_it), os.dup(from_it)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, size, home, "about:blank"],
            preexec_fn=move,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it)
        os.close(from_it)
        self._read, self._write = theirs, ours
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            if not chunk:
                raise BrowserError("the browser does not answer")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript in the page, a promise's when it is there."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until JavaScript is true. Raises BrowserError, with what the page complained of."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if value := self.evaluate(condition):
                return value
            if self.complaints():
                break
            time.sleep(0.03)
        raise BrowserError(f"never became true: {condition}; {self.complaints()}")

    def open(self, address: str) -> None:
        self.events.clear()
        # From a page to the same one with another fragment nothing would load.
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)
        self.wait("location.href !== 'about:blank' && Boolean(window.lorastyle && lorastyle.ready)")

    def complaints(self) -> list[Any]:
        """Errors and warnings of the console, and exceptions that nobody caught."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"])
            elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"])
            elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(params["args"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def move(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move and let go."""
        self.draw([start, end])

    def draw(self, corners: Sequence[tuple[float, float]], steps: int = 5) -> None:
        """Press at the first corner, go by the others, and let go at the last."""
        self.move(*corners[0])
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self._mouse("mousePressed", corners[0], **held)
        for start, end in pairwise(corners):
            for step in range(1, steps + 1):
                x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
                self._mouse("mouseMoved", (x, y), **held)
        self._mouse("mouseReleased", corners[-1], **held)

    def _mouse(self, kind: str, at: tuple[float, float], **held: Any) -> None:
        x, y = (float(value) for value in at)
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def press(self, key: str, *, shift: bool = False) -> None:
        event = {"key": key, "code": key, "modifiers": 8 if shift else 0}
        if key == "Tab":
            event["windowsVirtualKeyCode"] = 9
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def resize(self, width: int, height: int, *, mobile: bool = False, scale: float = 1.0) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def prefer(self, theme: str) -> None:
        """What the reader's system asks for: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> Image.Image:
        """What the window shows."""
        found = self.send("Page.captureScreenshot", format="png")
        return Image.open(BytesIO(base64.b64decode(found["data"])))
