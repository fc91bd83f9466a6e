"""Events as rows of bytes give back the events that went in, in any order of calls."""

import math

from hypothesis import given
from hypothesis import strategies as st

from consumer.ops.tracing import Carried
from consumer.stream.pending import CONTEXTS, PendingEvents, TracedEvent, Waiting
from schemas.events import STANDARD_EVENT_TYPES, SYNC_REQUEST

TYPES = (*STANDARD_EVENT_TYPES, SYNC_REQUEST)
moments = st.floats(min_value=0, max_value=1e10)
events = st.builds(
    lambda partition, offset, kind, recorded_at, arrived_at: Waiting(
        partition, offset, kind, recorded_at, arrived_at, kind == SYNC_REQUEST
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**63 - 1),
    st.sampled_from(TYPES),
    moments | st.just(math.inf),
    moments,
)


def traced(offset: int) -> TracedEvent:
    return TracedEvent(3, offset, TYPES[0], 1.5, 2.5, False, Carried(b"00-%d" % offset, b""))


def pending(*those: Waiting) -> PendingEvents:
    pending = PendingEvents()
    for event in those:
        pending.append(event)
    return pending


@given(st.lists(events, max_size=12), st.integers(0, 14), st.data())
def test_it_is_a_queue_of_events(those: list[Waiting], count: int, data: st.DataObject) -> None:
    waiting = pending(*those)
    assert list(waiting) == those
    assert list(reversed(waiting)) == those[::-1]
    assert waiting.only_requests == all(event.is_request for event in those)
    if those:
        assert (waiting[-1], waiting[-3:], waiting.first_arrival) == (those[-1], those[-3:], those[0].arrived_at)

    taken = waiting.take(count)
    assert (list(taken), list(waiting)) == (those[:count], those[count:])
    assert taken.only_requests == all(event.is_request for event in those[:count])

    taken.extend(waiting)
    assert list(taken) == those
    assert taken.only_requests == all(event.is_request for event in those)


def test_trace_contexts_go_where_their_events_go_and_only_the_newest_are_kept() -> None:
    waiting = pending(*[traced(offset) for offset in range(CONTEXTS + 10)])
    assert [type(event) for event in waiting] == [Waiting] * 10 + [TracedEvent] * CONTEXTS
    assert waiting[-1] == traced(CONTEXTS + 9)

    taken = waiting.take(11)
    assert taken[10] == traced(10)
    assert waiting[0] == traced(11)
    assert (3, 10) not in waiting.contexts

    taken.extend(waiting)
    assert list(taken)[10:] == [traced(offset) for offset in range(10, CONTEXTS + 10)]
