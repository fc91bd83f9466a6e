"""What an error means for the evidence: which call it is about, what would refute it, and whether it can count."""

import errno

import pytest

from consumer.clients.errors import (
    ApiError,
    LocalFault,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
    UnknownList,
    Unreachable,
)
from consumer.mapping.instants import UnreadableState
from consumer.sync.attempt import call_of, failure_of, is_refusal, never_counts
from consumer.sync.evidence import SYNC
from consumer.sync.remedies import remedy


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (Unavailable("sesamy", "list_contracts", 503), ("sesamy", "list_contracts")),
        (UnreadableState("contract.expiresAt is not an ISO 8601 time"), ("sesamy", "list_contracts")),
        (UnreadableState("transaction.createdAt is not an ISO 8601 time"), ("sesamy", "list_transactions")),
        (UnreadableState("entitlement.createdAt is not an ISO 8601 time"), ("sesamy", "list_entitlements")),
        (KeyError("x"), SYNC),
    ],
)
def test_an_error_is_about_a_call(error: Exception, call: tuple[str, str]) -> None:
    assert call_of(error) == call


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (Unavailable("sesamy", "list_contracts", 503, "down - at `$.x`"), None),
        (Unavailable("sesamy", "list_contracts", None, "no answer"), None),
        (Unavailable("sesamy", "list_contracts", 200, "an unreadable answer: JSON is malformed"), ""),
        (
            Unavailable("sesamy", "list_contracts", 200, "Expected `int`, got `str` - at `$[...].issuesRemaining`"),
            "issuesRemaining",
        ),
        (Unavailable("mailmojo", "get_contact", 200, "Expected `str` - at `$.tags[...]`"), "tags"),
        (UnreadableState("contract.expiresAt is not an ISO 8601 time"), "contract.expiresAt"),
    ],
)
def test_a_value_that_cannot_be_read_needs_such_a_value_as_evidence(error: Exception, content: str | None) -> None:
    assert failure_of(error, 0).content == content


@pytest.mark.parametrize(
    "error",
    [
        Throttled("sesamy", "get_user", 429),
        LocalFault("mailmojo", "get_contact", None, "too many open files"),
        OSError(errno.EMFILE, "too many open files"),
        MemoryError(),
    ],
)
def test_a15_requests_to_wait_and_a_lack_of_resources_never_count(error: Exception) -> None:
    assert never_counts(error)


def test_a15_a_lack_of_resources_is_seen_through_what_it_was_wrapped_in() -> None:
    error = RuntimeError("wrapped")
    error.__cause__ = OSError(errno.ENFILE, "too many open files in system")
    assert never_counts(error)


@pytest.mark.parametrize("error", [Unavailable("sesamy", "get_user", 503), KeyError("x"), OSError(errno.EPIPE, "pipe")])
def test_other_failures_may_count(error: Exception) -> None:
    assert not never_counts(error)


def test_only_mailmojo_refuses_and_only_what_was_sent_can_be_a_users_fault() -> None:
    assert is_refusal(Rejected("mailmojo", "patch_contact", 422))
    assert not is_refusal(Rejected("sesamy", "get_user", 400))
    assert not failure_of(Unreachable("sesamy", "get_user"), 0).about_user
    assert failure_of(UnknownList("mailmojo", "add_subscriber", 404), 0).about_account
    assert failure_of(Unauthorized("mailmojo", "get_contact", 401), 0).about_account
    assert not failure_of(Unauthorized("sesamy", "list_contracts", 403), 0).about_account


def test_an_internal_error_is_told_by_its_name_and_not_by_its_text() -> None:
    assert failure_of(KeyError("kari@example.no"), 0).text == "an internal error: KeyError"


@pytest.mark.parametrize(
    ("failure", "setting"),
    [
        (Unauthorized("mailmojo", "get_list", 401), "MAILMOJO_API_TOKEN"),
        (Unauthorized("sesamy", "get_token", 403), "SESAMY_CLIENT_ID, SESAMY_CLIENT_SECRET"),
        (Unauthorized("sesamy", "list_transactions", 403), "scopes"),
        (UnknownList("mailmojo", "get_list", 404), "MAILMOJO_LIST_ID"),
        (Unavailable("sesamy", "get_user", 404), "SESAMY_API_URL"),
        (Unavailable("sesamy", "get_token", 404), "SESAMY_TOKEN_URL"),
        (Unavailable("mailmojo", "get_contact", 200), "MAILMOJO_API_URL"),
        (Unreachable("mailmojo", "get_contact"), "MAILMOJO_API_URL and the network"),
    ],
)
def test_a_remedy_names_the_setting(failure: ApiError, setting: str) -> None:
    assert setting in remedy(failure)
