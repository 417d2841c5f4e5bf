"""Chromium without a window, driven as a person uses it: keys, names as a screen reader tells them, pictures."""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cluster.client import eventually

Raw = dict[str, Any]

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium: apt-get install chromium")

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
PATIENCE_SECONDS = 60.0
KEYS = {"Tab": 9, "Enter": 13}


class Tab:
    """One page in a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> Raw:
        """Send one command of the DevTools protocol and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=PATIENCE_SECONDS)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]

    async def open(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load an address in a window of a size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self.value(expression):  # noqa: ASYNC110  # nobody tells us
                await asyncio.sleep(0.1)

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], **more
            )

    async def types(self, text: str) -> None:
        """Type a text where the focus is."""
        await self.call("Input.insertText", text=text)

    async def names(self, role: str) -> list[str]:
        """Return the names of the elements of a role, as a screen reader tells them."""
        await self.call("Accessibility.enable")
        nodes = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        return [
            each.get("name", {}).get("value", "")
            for each in nodes
            if not each.get("ignored") and each.get("role", {}).get("value") == role
        ]

    async def picture(self, path: Path) -> None:
        """Save what the window shows."""
        picture = base64.b64decode((await self.call("Page.captureScreenshot"))["data"])
        await asyncio.to_thread(path.write_bytes, picture)


@asynccontextmanager
async def a_tab(folder: Path) -> AsyncIterator[Tab]:
    """Start a browser and yield its page."""
    profile = folder / "profile"
    process = await asyncio.create_subprocess_exec(
        "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await port_of(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                (page,) = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await process.wait()


async def port_of(file: Path) -> int:
    """Return the port that the browser has written down."""
    return int(await asyncio.to_thread(eventually, lambda: first_line(file), "the browser listens", PATIENCE_SECONDS))


def first_line(file: Path) -> str:
    """Return the first line of a file once it is whole; empty before."""
    return file.read_text().partition("\n")[0] if file.exists() and "\n" in file.read_text() else ""
