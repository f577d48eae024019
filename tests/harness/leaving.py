"""What a client does at the end of its `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self  # typing's from Python 3.11 on

__all__ = ["Leaves"]


class Leaves(ABC):
    """A context manager that closes itself at the end of the block, however that is left."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
