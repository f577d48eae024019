"""A little of the fuzzing that `make fuzz` does for as long as it is told, each time the same."""

from __future__ import annotations

import pytest

from fuzz.run import fuzz
from fuzz.targets import TARGETS

SEED = 20_261

#: Some are a call, others a request, a connection or a transaction.
TRIES = {"memory-log": 2000, "sqlite-log": 300, "view": 600, "doctor": 1000}


@pytest.mark.real
@pytest.mark.parametrize("name", TARGETS)
def test_made_up_input(name: str) -> None:
    """Whatever a parser is given, it raises nothing but what it says, and keeps its promises."""
    fuzz(name, SEED, tries=TRIES.get(name, 4000))


def test_a_broken_promise_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke a promise is named by its target, its seed and its number."""
    monkeypatch.setitem(TARGETS, "broken", lambda: lambda random: 1 // random.randrange(5))

    with pytest.raises(AssertionError, match=r"SEED=7 TARGETS=broken TRY=\d+$") as caught:
        fuzz("broken", 7, tries=1000)

    number = int(str(caught.value).rpartition("=")[2])
    assert fuzz("broken", 7, tries=number) == number
    with pytest.raises(AssertionError, match=f"TRY={number}$"):
        fuzz("broken", 7, first=number, tries=1)
