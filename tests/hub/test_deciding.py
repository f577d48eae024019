"""The moment before a decision."""

from __future__ import annotations

from collections.abc import Sequence

from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.hub.deciding import Deciding, Decision
from flask_eventstream.log.entries import CONTROL_CHANNEL, Missed, Standing


class Watched(MemoryBroker):
    """A log in memory that counts how often it is asked where it stands."""

    def __init__(self) -> None:
        super().__init__("memory://", retention=None)
        self.asked = 0
        self.away = False
        self.new = False

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        self.asked += 1
        if self.away:
            raise BrokerUnavailable(self.url, "it is away")
        return Missed() if self.new else super().arrive(channels, after)


class Seconds:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_requests_share_a_position() -> None:
    """Requests of two seconds note one moment; later ones another."""
    broker, clock = Watched(), Seconds()
    deciding = Deciding(broker, clock=clock)

    first = deciding.begin(hears=False)
    clock.now_s += 1.5
    assert deciding.begin(hears=False) == first
    assert first.at_s == 100.0
    assert first.position is not None
    broker.control("later")
    clock.now_s += 1.0
    later = deciding.begin(hears=False)

    assert broker.asked == 2
    assert later.at_s == 102.5
    assert later.position != first.position


def test_where_a_hub_hears_nobody_is_asked() -> None:
    """With a hub that hears the moment is now, and costs no question."""
    broker, clock = Watched(), Seconds()
    deciding = Deciding(broker, clock=clock)

    assert deciding.begin(hears=True) == Decision(100.0)
    assert broker.asked == 0


def test_who_asks_together_notes_the_first() -> None:
    """A request whose question was overtaken by another's notes that one's moment."""
    clock = Seconds()

    class Overtaken(Watched):
        def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
            if not self.asked:
                self.asked += 1
                clock.now_s += 0.1
                others.append(deciding.begin(hears=False))
            return super().arrive(channels, after)

    others: list[Decision] = []
    deciding = Deciding(Overtaken(), clock=clock)

    assert deciding.begin(hears=False) == others[0]
    assert others[0].at_s == 100.1


def test_a_broker_that_is_away_gives_no_position() -> None:
    """Where the broker does not answer nobody knows, and the hub asks the reader again."""
    broker = Watched()
    broker.away = True

    assert Deciding(broker, clock=Seconds()).begin(hears=False) == Decision(100.0)


def test_a_log_that_is_not_there_is_begun() -> None:
    """Where there is no log yet, an entry that orders nothing makes one."""
    broker = Watched()
    broker.new = True

    decision = Deciding(broker, clock=Seconds()).begin(hears=False)

    assert [entry.position for entry in broker.newest(CONTROL_CHANNEL, 9)] == [decision.position]
