"""The benchmark's instruments: its load counts exactly, and its report hides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from bench import delivery, report
from bench.cases import CASES, QUICK, chosen
from bench.delivery import Scene, on_stage
from bench.load import LoadFailed, loading
from bench.machine import cpu_ns, group_of
from bench.peers import PEERS, Peer, start_floor
from bench.programs import CannotRun, compiled
from bench.results import Results

pytestmark = pytest.mark.real

STREAMS = 50
EVENTS = 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, compiled."""
    return compiled("load", tmp_path_factory.mktemp("bench"))


@pytest.fixture
def floor(program: Path) -> Iterator[Callable[[str], Scene]]:
    """Start a floor with a fault, and its streams."""
    with ExitStack() as stack:

        def start(fault: str) -> Scene:
            peer = Peer("floor", "floor", partial(start_floor, fault))
            scene = stack.enter_context(on_stage(peer, program))
            scene.open(STREAMS)
            return scene

        yield start


def test_every_delivery_is_counted(floor: Callable[[str], Scene]) -> None:
    """Each event of each stream is counted once, those of a burst too."""
    scene = floor("")
    scene.send()
    scene.site.burst(2, EVENTS)
    scene.take(EVENTS)

    answer = scene.load.run(0.1)

    assert (answer.opened, answer.delivered) == (STREAMS, STREAMS * (EVENTS + 1))
    assert (answer.doubled, answer.missing, answer.other, answer.ended) == (0, 0, 0, 0)
    assert scene.load.delays().samples == STREAMS * (EVENTS + 1)


def test_a_long_event_is_counted(floor: Callable[[str], Scene]) -> None:
    """An event that comes in many pieces counts once."""
    scene = floor("")
    scene.send(size=100_000)

    assert scene.load.run(0.1).delivered == STREAMS


@pytest.mark.parametrize(("fault", "word"), [("double", "came twice: 50"), ("skip", "missing: 50")])
def test_a_fault_is_noticed(floor: Callable[[str], Scene], fault: str, word: str) -> None:
    """An event that a stream gets twice, or does not get, fails the round."""
    scene = floor(fault)
    scene.site.burst(1, 15)

    def read() -> None:
        scene.load.wait(STREAMS * 14, within_s=10)
        scene.load.run(0.5)

    with pytest.raises(LoadFailed, match=word):
        read()


def test_a_last_event_that_is_missing_is_noticed(floor: Callable[[str], Scene]) -> None:
    """What does not come within its time fails the round."""
    scene = floor("skip")
    scene.site.burst(1, 10)

    with pytest.raises(LoadFailed, match="only 450 of 500 deliveries came"):
        scene.load.wait(STREAMS * 10, within_s=1)


def test_a_refusal_is_noticed(program: Path) -> None:
    """Streams that do not open fail the round."""
    with start_floor() as site, loading(program, site.port) as load:
        pass

    with loading(program, site.port) as load, pytest.raises(LoadFailed, match="failed: 5"):
        load.open(5, "/stream", within_s=10)


@pytest.mark.parametrize("name", ["floor", "ours-memory", "ours-sqlite"])
def test_a_case_runs(name: str, program: Path) -> None:
    """A fan-out gives its figures, of the floor and of this project."""
    measures = delivery.fanout(PEERS[name], program, QUICK, streams=STREAMS)

    assert 0 < measures["cpu_us"] < 100_000
    assert measures["delay_ms"] > 0


def test_a_reader_that_comes_back_is_counted_on(program: Path) -> None:
    """Resumed streams go on where they were: nothing twice, nothing missing."""
    measures = delivery.resume(PEERS["ours-sqlite"], program, QUICK)

    assert measures["took_s"] > 0


def test_nothing_is_left() -> None:
    """The processes of a server are gone with its block."""
    with PEERS["floor"].start() as site:
        pids = site.pids()
        assert cpu_ns(pids) > 0

    assert [pid for leader in pids for pid in group_of(leader)] == []


def test_the_report_says_what_failed() -> None:
    """The report has what was measured, why something was not, and whether it was enough."""
    results = Results(quick=True)
    measured = {"delay_ms": 7.0, "event_us": 5100.0, "publish_us": 100.0}
    results.add("fanout-1000", "floor", {**measured, "cpu_us": 5.0})
    measured = {"delay_ms": 7.0, "event_us": 6500.0, "publish_us": 500.0}
    results.add("fanout-1000", "ours-memory", {**measured, "cpu_us": 6.0})
    results.add("fanout-1000", "ours-memory", {**measured, "cpu_us": 7.0})
    results.fail("fanout-1000", "nchan", "the module is not there")

    page = report.text(results)

    assert "| Flask-EventStream, memory | **1.3** | 6.5 (6 – 7) | 7 |" in page
    assert "cannot: the module is not there" in page
    alone = "1.2 × without the request that publishes"
    assert f"at most 1.3 × the floor (memory) | 1.3 ×; {alone} | yes |" in page
    assert "not measured: fanout-1000 of flask-sse" in page


def test_results_come_back(tmp_path: Path) -> None:
    """A report can be made again from the file."""
    results = Results(machine={"cores": "2"})
    results.add("idle", "floor", {"bytes": 1.5})
    results.save(tmp_path / "results.json")

    assert Results.load(tmp_path / "results.json") == results


def test_cases_are_chosen_by_their_beginning() -> None:
    """`fanout` is both fan-outs, no word is all cases, and a wrong word is an error."""
    assert [case.name for case in chosen(["fanout"])] == ["fanout-1000", "fanout-10000"]
    assert len(chosen([])) == len(CASES)
    with pytest.raises(CannotRun, match="no case is called fan-in"):
        chosen(["fan-in"])
