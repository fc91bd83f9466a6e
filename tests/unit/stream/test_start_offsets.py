import pytest

from consumer.kafka import Committed
from consumer.stream.start_offsets import Reset, Start, decide


@pytest.mark.parametrize(
    ("reset", "new", "offset"),
    [
        ("earliest", True, 5),
        ("latest", True, 90),
        ("earliest", False, 5),
        ("latest", False, 5),
    ],
)
def test_without_a_commit(reset: Reset, new: bool, offset: int) -> None:
    assert decide(None, first=5, end=90, group_is_new=new, reset=reset) == Start(offset, "", 90)


@pytest.mark.parametrize(
    ("committed", "start"),
    [
        (5, Start(5, "map", 90)),
        (60, Start(60, "map", 90)),
        (90, Start(90, "map", 90)),
        (2, Start(5, "", 90, lost=3)),
        (91, Start(5, "", 90)),
    ],
)
@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_with_a_commit(committed: int, start: Start, reset: Reset) -> None:
    assert decide(Committed(committed, "map"), first=5, end=90, group_is_new=False, reset=reset) == start
