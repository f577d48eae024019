"""Feed each parser made-up input for a time: `make fuzz SECONDS=600 SEED=7 TARGETS="links view"`.

Prints the seed. What breaks a promise is shown with the number of the try, which finds it again.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from random import Random

from fuzz.targets import TARGETS

__all__ = ["fuzz"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds of CPU. No input may cost more, whatever it is.
LONG_S = 2.0


def fuzz(name: str, seed: int, *, first: int = 0, tries: int | None, seconds: float = 0) -> int:
    """Try a target so often, or for so long; returns how often.

    Raises:
        AssertionError: A promise was broken; names the try.
    """
    _LOGGER.setLevel(logging.CRITICAL)  # what is skipped is said; here that is no news
    target = TARGETS[name]()
    ends_s = time.monotonic() + seconds
    number = first
    try:
        while (number < first + tries) if tries is not None else (time.monotonic() < ends_s):
            began_s = time.process_time()
            try:
                target(Random(f"{seed} {name} {number}"))
            except BaseException as error:
                again = f"make fuzz SEED={seed} TARGETS={name} TRY={number}"
                raise AssertionError(f"{error!r}; again: {again}") from error
            took_s = time.process_time() - began_s
            assert took_s < LONG_S, f"try {number} of {name} with {seed=} took {took_s:.1f} s"
            number += 1
    finally:
        _LOGGER.setLevel(logging.NOTSET)
        close = getattr(target, "close", None)
        if close is not None:
            close()
    return number - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--only", type=int, help="this one try")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    print(f"seed {asked.seed}")
    for name in names:
        if asked.only is None:
            done = fuzz(name, asked.seed, tries=None, seconds=asked.seconds / len(names))
        else:
            done = fuzz(name, asked.seed, first=asked.only, tries=1)
        print(f"{name}: {done:,} tries")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
