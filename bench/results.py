"""What was measured: per case, peer and measure a value of each round; kept as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.delivery import Measures

__all__ = ["Results", "Spread"]

#: case → peer → measure → a value per round
Values = dict[str, dict[str, dict[str, list[float]]]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The rounds of one measure."""

    median: float
    least: float
    most: float
    rounds: int


@dataclass
class Results:
    """A run, or what is left of it on disk."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    scale: dict[str, object] = field(default_factory=dict)
    quick: bool = False
    values: Values = field(default_factory=dict)
    failures: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """case → peer → why it gave nothing, an entry per round."""
    micro: dict[str, dict[str, float]] = field(default_factory=dict)
    """Microbenchmark → statistics in seconds."""

    def add(self, case: str, peer: str, measures: Measures) -> None:
        """Add a round."""
        known = self.values.setdefault(case, {}).setdefault(peer, {})
        for name, value in measures.items():
            known.setdefault(name, []).append(value)

    def fail(self, case: str, peer: str, reason: str) -> None:
        """Add a round that gave nothing."""
        self.failures.setdefault(case, {}).setdefault(peer, []).append(reason)

    def spread(self, case: str, peer: str, measure: str) -> Spread | None:
        """The rounds of a measure, or ``None`` where there is none."""
        values = self.values.get(case, {}).get(peer, {}).get(measure)
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def median(self, case: str, peer: str, measure: str) -> float | None:
        """The middle of the rounds."""
        spread = self.spread(case, peer, measure)
        return None if spread is None else spread.median

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
