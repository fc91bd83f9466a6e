"""What `check` reports of one thing that it verified."""

from typing import Literal

from msgspec import Struct


class Check(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
