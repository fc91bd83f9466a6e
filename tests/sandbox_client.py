"""A plain client for tests of the fakes: it sends what a test says, raw targets and wrong headers included."""

from typing import Any

import aiohttp
from yarl import URL

from consumer.sandbox import Sandbox


class SandboxClient:
    """Requests to one of the fakes; keeps headers, type and text of the last answer."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession, base: str) -> None:
        self.sandbox, self._session, self._base = sandbox, session, base
        self.headers: dict[str, str] = {}
        self.answer_headers: dict[str, str] = {}
        self.answer_type = self.answer_text = ""

    async def __call__(self, method: str, target: str, body: Any = None, **kwargs: Any) -> tuple[int, Any]:
        """Send a request and return the status and the JSON of the answer (None when it is none)."""
        kwargs.setdefault("headers", self.headers)
        if body is not None:
            kwargs["json"] = body
        url = URL(self._base + target, encoded=True)
        async with self._session.request(method, url, allow_redirects=False, **kwargs) as response:
            self.answer_text = await response.text()
            self.answer_headers, self.answer_type = dict(response.headers), response.content_type
            is_json = self.answer_text and response.content_type == "application/json"
            return response.status, await response.json() if is_json else None

    @property
    def rules_broken(self) -> list[str]:
        """The rules that requests broke so far."""
        return [violation.rule for violation in self.sandbox.log.violations]
