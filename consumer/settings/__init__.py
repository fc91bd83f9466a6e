"""Every setting of the program: `load` reads them, `Settings` holds them, `tree` is the table behind both."""

from consumer.failure import SettingsError
from consumer.settings.loading import EVERY_PART, load
from consumer.settings.proxies import Proxies
from consumer.settings.tree import (
    AdminSettings,
    IngestSettings,
    KafkaSettings,
    LogSettings,
    MailmojoSettings,
    SesamySettings,
    Settings,
    SyncSettings,
)

__all__ = [
    "EVERY_PART",
    "AdminSettings",
    "IngestSettings",
    "KafkaSettings",
    "LogSettings",
    "MailmojoSettings",
    "Proxies",
    "SesamySettings",
    "Settings",
    "SettingsError",
    "SyncSettings",
    "load",
]
