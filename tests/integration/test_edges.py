"""What a deployment may meet besides: odd ids, envelopes, large records, new secrets, more instances than work."""

import json
from pathlib import Path

from tests.integration.oracle import View, expected
from tests.integration.stage import NewStage, Stage, event, headers, stop
from tests.kafka_client import Message
from tests.waiting import wait_until

ODD_IDS = (
    "email|a/b",
    "auth0|a b+c",
    "google-oauth2|100%25",
    "email|æøå-ß",
    "email|?x=1&y=2#z",
    "...",
    "a%2Fb",
    'email|"quoted"',
    "日本|語",
)
METRICS = {
    "events_total": {"type", "outcome"},
    "syncs_total": {"outcome"},
    "api_requests_total": {"api", "operation", "status"},
    "api_request_duration_seconds": {"api", "operation", "status"},
    "rate_limit_wait_seconds": {"api"},
    "quota_share": {"api"},
    "circuit_open": {"api"},
    "event_age_seconds": set(),
    "users_in_flight": set(),
    "events_pending": set(),
    "oldest_pending_seconds": set(),
    "consumer_lag": {"partition"},
    "committed_offset": {"partition"},
    "assigned_partitions": set(),
    "rebalances_total": set(),
    "lease_remaining_seconds": set(),
    "commit_failures_total": set(),
    "retries_total": set(),
    "records_lost_total": set(),
    "echo_mismatches_total": set(),
    "contact_conflicts_total": set(),
    "last_success_timestamp_seconds": set(),
    "build_info": {"version"},
    "dead_letters_total": {"reason"},
    "order_violations_total": set(),
    "commit_violations_total": set(),
}
"""As `docs/contract.md` has them."""


async def test_ids_and_addresses_of_any_spelling_arrive_as_they_are(stage: Stage) -> None:
    for number, user_id in enumerate(ODD_IDS):
        stage.world.add_user(user_id, profile={"email": f"Odd+{number}%/?#&'{number}@Example.no", "lastName": "Ærø"})
    service = await stage.service()
    await stage.send(*(event(user_id) for user_id in ODD_IDS))
    await stage.all_committed()
    assert {user_id: stage.contact(user_id) for user_id in ODD_IDS} == {
        user_id: expected(stage.user(user_id), None, 7) for user_id in ODD_IDS
    }
    assert await stage.dead_letters() == []
    await stop(service)


async def test_an_event_inside_an_envelope_is_found_by_a_pointer(stage: Stage) -> None:
    first, second = stage.users(2)
    service = await stage.service(KAFKA_VALUE_POINTER="/detail/0/data")
    bare = event(first)
    enveloped = Message(bare.key, json.dumps({"detail": [{"data": json.loads(bare.value or b"")}]}).encode())
    await stage.send(enveloped, bare)
    await stage.all_committed()
    assert stage.stale([first]) == {}
    assert [letter.value for letter in await stage.dead_letters()] == [bare.value]
    asked = await stage.finish("sync", second, settings={"KAFKA_VALUE_POINTER": "/detail/0/data"})
    assert asked.returncode == 0
    assert stage.stale([second]) == {}
    await stop(service)


async def test_a_value_too_large_to_be_produced_again_is_left_out_of_its_dead_letter(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    service = await stage.service()
    huge = Message(user_id.encode(), b"x" * 1_048_450, (("trace", b"1"),))
    await stage.send(huge, event(user_id))
    await stage.all_committed()
    (letter,) = await stage.dead_letters()
    assert (letter.key, letter.value or b"", letter.headers[0]) == (huge.key, b"", ("trace", b"1"))
    assert headers(letter)["dead-letter-truncated"] == "true"
    assert headers(letter)["dead-letter-reason"] == "malformed"
    assert stage.stale([user_id]) == {}
    await stop(service)


async def test_a_dead_letter_topic_that_takes_only_small_records_gets_all_letters(stage: Stage) -> None:
    letters = f"{stage.topic}.small"
    await stage.kafka.create_topic(letters, 1, {"max.message.bytes": "2000"})
    service = await stage.service(KAFKA_DEAD_LETTER_TOPIC=letters)
    values = [b"small", b"x" * 5000, b"small", b"y" * 5000, b"small"]
    for value in values:
        await stage.send(Message(b"k", value))
        await stage.all_committed()
    stored = [letter.value or b"" for letter in await stage.kafka.read_all(letters)]
    assert stored == [value if value == b"small" else b"" for value in values]
    huge_header = Message(b"k", b"small", (("h", b"z" * 5000),))
    await stage.send(*(Message(b"k", value) for value in values), huge_header)
    await stage.all_committed()
    more = (await stage.kafka.read_all(letters))[len(values) :]
    assert sorted(letter.value or b"" for letter in more) == [b"", b"", b"", b"small", b"small", b"small"]
    assert [letter.key for letter in more] == [b"k"] * len(more)
    assert all(name != "h" for letter in more for name, _ in letter.headers)
    await stop(service)


async def test_a_secret_in_a_file_is_read_again_when_it_is_refused(stage: Stage, tmp_path: Path) -> None:
    users = stage.users(4)
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text(f"{stage.sandbox.api_token}\n")
    secret.write_text(stage.sandbox.client_secret)
    service = await stage.service(
        MAILMOJO_API_TOKEN="",
        MAILMOJO_API_TOKEN_FILE=str(token),
        SESAMY_CLIENT_SECRET="",
        SESAMY_CLIENT_SECRET_FILE=str(secret),
    )
    await stage.send(event(users[0]))
    await stage.all_committed()
    stage.sandbox.mailmojo._token = "rotated-token"
    token.write_text("rotated-token")
    stage.sandbox.sesamy._client = (stage.sandbox.client_id, "rotated-secret")
    secret.write_text("rotated-secret")
    stage.sandbox.sesamy.revoke_tokens()
    await stage.send(*(event(user_id) for user_id in users[1:]))
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert await stage.dead_letters() == []
    assert "rotated" not in service.output()
    await stop(service)


async def test_an_instance_without_a_partition_is_ready_calls_nobody_and_takes_over(new_stage: NewStage) -> None:
    stage = await new_stage(1)
    users = stage.users(10)
    first = await stage.service()
    second = await stage.service()

    async def settled() -> bool:
        return sorted([await one.metric("assigned_partitions") for one in (first, second)]) == [0, 1]

    await wait_until(settled, what="one of them owns the partition")
    owner, standby = (first, second) if await first.metric("assigned_partitions") else (second, first)
    await stage.send(*(event(user_id) for user_id in users[:5]))
    await stage.all_committed()
    assert (await standby.get("/readyz"))[0] == 200
    assert await standby.metric("api_requests_total") == 0
    assert await standby.metric("quota_share") == 0
    await stop(owner)
    await stage.send(*(event(user_id) for user_id in users[5:]))
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert await standby.metric("events_total") == 5
    await stop(standby)


async def test_every_metric_of_the_contract_is_there(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    stage.fail(api="mailmojo", operation="get_contact", status=500, times=1)
    service = await stage.service()
    await stage.send(event(user_id), Message(b"x", b"malformed"))
    await stage.all_committed()
    _, text = await service.get("/metrics")
    missing = {
        name
        for name, labels in METRICS.items()
        if not any(
            line.startswith(f"sesamy_mailmojo_{name}") and all(f'{label}="' in line for label in labels)
            for line in text.splitlines()
            if not line.startswith("#")
        )
    }
    assert missing == set()
    assert await service.metric("retries_total") >= 1
    assert await service.metric("syncs_total", outcome="created") == 1
    assert await service.metric("last_success_timestamp_seconds") > 1.7e9
    assert await service.metric("event_age_seconds_count") == 2
    status = await service.status()
    assert status["ready"] is True
    await stop(service)


async def test_a_user_whose_state_cannot_be_read_is_never_cleared_and_ends_as_a_dead_letter(stage: Stage) -> None:
    broken, fine = stage.users(2)
    before = stage.world.add_contact(
        "user.0000@example.no", tags=("mine", "sesamy_active_subscriber"), custom={"Active Subscriptions": 1}
    )
    stage.user(broken).contracts = [{"id": "contract_1", "status": "ACTIVE", "nextBillAt": {"no": "date"}}]
    service = await stage.service(SYNC_MAX_ATTEMPTS="3")
    await stage.send(event(broken), event(fine))
    await stage.all_committed()
    (letter,) = await stage.dead_letters()
    assert (letter.key, headers(letter)["dead-letter-reason"]) == (broken.encode(), "exhausted")
    assert stage.contact(broken) == View.of(before)
    assert stage.stale([fine]) == {}
    await stop(service)


async def test_one_audit_line_per_write_names_what_changed_and_no_value(stage: Stage) -> None:
    user_id = "email|audited"
    profile = {
        "email": "audited@example.no",
        "firstName": "Hemmelig",
        "lastName": "Navnesen",
        "mobilePhone": "+4799999999",
    }
    stage.world.add_user(user_id, profile=profile)
    service = await stage.service()
    ((partition, offset),) = await stage.send(event(user_id))
    await stage.all_committed()
    await stop(service)  # and so its log is complete
    (line,) = [line for line in service.events() if line.get("user_id") == user_id and line["level"] == "info"]
    text = json.dumps(line)
    assert "first_name" in text
    assert "Sesamy User ID" in text
    assert "sesamy_tag_v-000001" in text
    assert (line["partition"], line["offsets"]) == (partition, [offset])
    assert not any(value in service.output() for value in ("Hemmelig", "Navnesen", "99999999"))
