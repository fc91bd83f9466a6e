"""Every setting of the program: `load` reads them, `Settings` holds them, `tree` is the table behind both."""

from consumer.settings.loading import SettingsError, load
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
    "AdminSettings",
    "IngestSettings",
    "KafkaSettings",
    "LogSettings",
    "MailmojoSettings",
    "SesamySettings",
    "Settings",
    "SettingsError",
    "SyncSettings",
    "load",
]
