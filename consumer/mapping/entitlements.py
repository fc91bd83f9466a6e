"""Which entitlements count, and as what (`docs/reference/sesamy.md`)."""

from schemas.sesamy import Entitlement


def has_access(entitlement: Entitlement) -> bool:
    """Tell whether it opens anything now. One that does not say so opens nothing (assumption)."""
    return entitlement.has_access is True


def is_external(entitlement: Entitlement) -> bool:
    """Tell whether it came from outside a purchase."""
    return entitlement.origin is not None and _word(entitlement.origin.type) == "external"


def is_bought_article(entitlement: Entitlement) -> bool:
    """Tell whether it is an article that the user paid for, with or without access today (assumption)."""
    return _word(entitlement.type) == "article" and not is_external(entitlement)


def _word(text: str | None) -> str:
    return (text or "").strip().lower()
