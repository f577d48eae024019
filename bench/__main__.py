"""The commands of the benchmark; `make bench` calls them.

python -m bench install
python -m bench run [--cases fanout burst] [--peers floor ours-sqlite] [--rounds 5] [--quick]
python -m bench report
python -m bench plan [streams] [older] [sqlite] [redis]
python -m bench list

`run` keeps all values in a file, adds to what the file has where --add is given, and writes the
report. Peers take turns within a round, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bench import (  # noqa: E402  tests/ is no package
    machine,
    microbenchmarks,
    packages,
    peers,
    planning,
    plots,
    report,
)
from bench.cases import CASES, QUICK, WHOLE, Case, chosen  # noqa: E402
from bench.delivery import Scale  # noqa: E402
from bench.programs import CannotRun, compiled  # noqa: E402
from bench.results import Results  # noqa: E402

FOLDER = ROOT / "docs" / "explanation" / "performance"
ROUNDS = 5
#: A failing peer is tried again in the next round, but not for ever: its deadlines are long.
TRIES = 2
REASON_CHARACTERS = 400


def main() -> int:
    """Do what the command line says."""
    arguments = parsed_arguments()
    try:
        return int(arguments.command(arguments))
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2


def parsed_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    commands.add_parser("install").set_defaults(command=do_install)
    commands.add_parser("list").set_defaults(command=do_list)
    plan = commands.add_parser("plan")
    plan.add_argument("measures", nargs="*", default=[*planning.MEASURES], help="which figures")
    plan.set_defaults(command=do_plan)
    for name, command in (("run", do_run), ("report", do_report)):
        sub = commands.add_parser(name)
        sub.add_argument("--folder", type=Path, default=FOLDER, help="where results and report go")
        sub.set_defaults(command=command)
    run = sub = commands.choices["run"]
    run.add_argument("--cases", nargs="*", default=[], help="beginnings of names")
    run.add_argument("--peers", nargs="*", default=[])
    run.add_argument("--rounds", type=int, default=ROUNDS)
    run.add_argument("--quick", action="store_true", help="a smoke run: small, one round")
    run.add_argument("--add", action="store_true", help="keep the other values of the file")
    return parser.parse_args()


def do_install(_arguments: argparse.Namespace) -> int:
    """Install the peers."""
    for problem in packages.install():
        print(f"NOT INSTALLED: {problem}", file=sys.stderr)
    return 0


def do_list(_arguments: argparse.Namespace) -> int:
    """Print cases and peers."""
    for case in CASES.values():
        print(f"{case.name:<14} {case.title}")
    for peer in peers.PEERS.values():
        print(f"{peer.name:<20} {peer.title}")
    return 0


def do_plan(arguments: argparse.Namespace) -> int:
    """Print what docs/explanation/scale.md plans with."""
    for name in arguments.measures:
        planning.MEASURES[name]()
    return 0


def do_report(arguments: argparse.Namespace) -> int:
    """Write the report of a file of results."""
    write(Results.load(arguments.folder / "results.json"), arguments.folder)
    return 0


def write(results: Results, folder: Path) -> None:
    """Write the report and its plots."""
    report.write(results, folder)
    plots.draw(results, folder)


def do_run(arguments: argparse.Namespace) -> int:
    """Measure, and write the report."""
    cases = chosen([word for word in arguments.cases if word != "micro"])
    if arguments.cases == ["micro"]:
        cases = []
    peers.check(arguments.peers)
    scale = QUICK if arguments.quick else WHOLE
    path = arguments.folder / "results.json"
    results = Results.load(path) if arguments.add and path.exists() else Results()
    results.machine, results.versions = machine.facts(), packages.versions()
    results.scale, results.quick = asdict(scale), arguments.quick
    for case in cases:
        results.values.pop(case.name, None)
        results.failures.pop(case.name, None)
    holds = machine.allow_descriptors(max(scale.growth))
    if holds < max(scale.growth):
        raise CannotRun(
            f"one process may hold {holds} streams only: raise `ulimit -Hn`, or QUICK=1"
        )
    os.sched_setaffinity(0, {machine.load_core()})
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = compiled("load", Path(folder))
        for number in range(rounds):
            for case in cases:
                run_round(case, arguments.peers, results, program=program, scale=scale, turn=number)
                results.save(path)
    if not arguments.cases or "micro" in arguments.cases:
        results.micro = microbenchmarks.run(quick=arguments.quick)
    results.save(path)
    write(results, arguments.folder)
    return 0


def run_round(
    case: Case,
    only: Sequence[str],
    results: Results,
    *,
    program: Path,
    scale: Scale,
    turn: int,
) -> None:
    """Run one case once with each of its peers; who begins changes from round to round."""
    names = [name for name in case.peers if not only or name in only]
    first = turn % max(len(names), 1)
    for name in names[first:] + names[:first]:
        if len(results.failures.get(case.name, {}).get(name, ())) >= TRIES:
            continue
        peer, began_s = peers.PEERS[name], time.monotonic()
        try:
            if case.name in peer.cannot:
                raise CannotRun(peer.cannot[case.name])
            measures = case.run(peer, program, scale)
        except Exception as error:  # noqa: BLE001  one peer's trouble must not end an hour's run
            reason = (str(error) or type(error).__name__).replace(str(ROOT), "")
            reason = reason[:REASON_CHARACTERS]
            results.fail(case.name, name, reason)
            said = f"FAILED: {reason}"
        else:
            results.add(case.name, name, measures)
            said = "  ".join(f"{key} {value:.4g}" for key, value in measures.items())
        print(
            f"[{turn + 1}] {case.name} {name} ({time.monotonic() - began_s:.0f} s): {said}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
