"""Every unknown of both references as a switch: which of the possible answers the fakes give.

A fact of `docs/reference/sesamy.md` or `docs/reference/mailmojo.md` is never a switch; what is marked "?" or
contradictory there is. A client is right when it works under each of `Answers.variants()`.
"""

from collections.abc import Iterable
from typing import Literal, Self, get_args, get_type_hints

from msgspec import Struct, convert


class Answers(Struct, frozen=True, kw_only=True):
    """One answer to each unknown; the defaults are the most likely ones. All values are text, as on a command line."""

    # Sesamy
    profile_id: Literal["userId", "id"] = "userId"
    """The key of a profile's id."""
    sesamy_lists: Literal["bare", "meta", "pagination"] = "bare"
    """A list's shape: an array, or `data` beside `meta` or `pagination`."""
    totals: Literal["yes", "no"] = "yes"
    """Whether a wrapped list says its `total`."""
    page_cap: Literal["none", "100"] = "none"
    """The longest page, whatever `limit` asked for."""
    guest_mark: Literal["isGuest", "guest", "temporary"] = "isGuest"
    """The key that marks a guest's profile (guests by id prefix exist beside it)."""
    unauthorized: Literal["401", "403"] = "401"
    """The status for a token that is wrong, expired or revoked."""
    sesamy_throttle: Literal["body", "seconds", "date"] = "body"
    """How a 429 says when to come back: `retry_after` in the body, or a `Retry-After` header beside it."""

    # Mailmojo
    custom: Literal["merge", "replace"] = "merge"
    """What PATCH does with keys of `custom` that were not sent: keeps or removes them."""
    clear: Literal["null", "blank"] = "null"
    """What clears a value of `custom`; the other one is refused unless the field is a text."""
    empty: Literal["null", "blank", "absent"] = "null"
    """How no value comes back: `null`, `""` (`[]`, `{}`) or not at all."""
    values: Literal["typed", "text", "digits"] = "typed"
    """How account fields come back: in their type, as text, or booleans as 0 and 1 and dates with a time."""
    status: Literal["both", "contact", "association"] = "both"
    """Where u, b and d show: on the contact, on its association with the list, or on both."""
    deleted: Literal["shown", "hidden"] = "shown"
    """Whether a deleted contact is answered (status d) or 404."""
    address: Literal["kept", "lower"] = "kept"
    """Whether an address comes back as first written or in lower case."""
    patch_echo: Literal["base", "contact"] = "base"
    """What PATCH answers: a BaseContact as declared, or a Contact."""
    existing: Literal["merge", "replace", "leave"] = "merge"
    """What POST subscribers does to the data of a contact that exists."""
    unregistered: Literal["accept", "refuse"] = "accept"
    """What happens to a key of `custom` that is no account field."""
    refusal: Literal["400", "409", "422"] = "400"
    """The status for a contact that Mailmojo does not take."""
    errors: Literal["detail", "title", "message", "error", "errors", "text"] = "detail"
    """Where an error's text stands."""
    not_found: Literal["json", "html", "empty"] = "json"
    """The body of a 404."""
    throttle: Literal["seconds", "date", "body", "headers", "silent"] = "seconds"
    """How a 429 says when to come back: `Retry-After` (seconds, date), in the body, by `X-RateLimit-…`, or not."""
    contact_lists: Literal["bare", "data"] = "bare"
    """The shape of a list of contacts."""
    listed: Literal["whole", "address"] = "whole"
    """Whether a listed contact shows all that it holds, or its address alone."""
    contacts_cap: Literal["none", "100"] = "none"
    """The longest list of contacts, whatever `limit` asked for."""
    contacts_offset: Literal["taken", "ignored", "refused"] = "taken"
    """What becomes of an `offset` when contacts are listed (the reference knows `limit` alone)."""
    unsubscribed: Literal["listed", "404"] = "listed"
    """Whether there is the list of who unsubscribed."""
    slashless: Literal["404", "redirect"] = "404"
    """What a path without its trailing slash gets."""
    fields: Literal["default", "elsewhere", "none"] = "default"
    """Where account fields are: at the default path, at one that only the Swagger document tells, nowhere."""
    fields_list: Literal["bare", "data"] = "bare"
    """The shape of the list of account fields."""
    fields_missing: Literal["404", "405"] = "404"
    """What the default path answers when account fields are not there."""
    field_conflict: Literal["400", "409"] = "400"
    """The status for creating an account field that exists."""
    swagger: Literal["open", "token"] = "open"
    """Whether `GET /` needs a token."""
    swagger_base: Literal["root", "v1"] = "root"
    """Whether the Swagger document's paths carry `/v1` themselves or have it as `basePath`."""

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Return the possible answers to each unknown."""
        return {name: get_args(hint) for name, hint in get_type_hints(cls).items()}

    @classmethod
    def of(cls, pairs: Iterable[str] = ()) -> Self:
        """Return the defaults with these `name=answer` pairs instead.

        Raises:
            ValueError: no such unknown or answer; the text names what there is.
        """
        choices, chosen = cls.choices(), {}
        for pair in pairs:
            name, _, answer = pair.partition("=")
            if name not in choices:
                raise ValueError(f"no unknown is called {name!r}; there are {', '.join(choices)}")
            if answer not in choices[name]:
                raise ValueError(f"{name} is one of {', '.join(choices[name])}, not {answer!r}")
            chosen[name] = answer
        return convert(chosen, cls)

    @classmethod
    def variants(cls) -> dict[str, Self]:
        """Return `default` and, for each unknown, each other answer with everything else at its default."""
        usual = cls()
        others = {
            f"{name}={answer}": cls.of([f"{name}={answer}"])
            for name, answers in cls.choices().items()
            for answer in answers
            if answer != getattr(usual, name)
        }
        return {"default": usual, **others}
