"""What waits in front of one sink, bounded as the queue is."""

from collections import deque
from collections.abc import Iterable

from fapilog.pipeline.queue import Item, Overflow
from fapilog.types import WARNING


class Inbox:
    """A bounded line of records. Only the worker's thread changes it, under the pipeline's lock."""

    def __init__(self, max_records: int, max_bytes: int, overflow: Overflow) -> None:
        """Hold at most that much; *overflow* says whether the oldest or the newest go when it is full."""
        self.items: deque[Item] = deque()
        self.bytes = 0
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._oldest_go = overflow == "drop_oldest"

    def __len__(self) -> int:
        return len(self.items)

    @property
    def full(self) -> bool:
        """Whether there is no room at all."""
        return self.bytes >= self.max_bytes or len(self.items) >= self.max_records

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1, and more where an empty one took more than it holds."""
        return max(self.bytes / self.max_bytes, len(self.items) / self.max_records)

    def is_filled(self, parts: int) -> bool:
        """Whether one of so many equal parts of the room is taken."""
        return parts * self.bytes >= self.max_bytes or parts * len(self.items) >= self.max_records

    def fit(self, wanted: list[Item], size: int) -> tuple[list[Item], int]:
        """Choose from *wanted*, oldest first, what there is room for, and how many of the oldest must go first.

        An empty inbox takes all: it is never more than the queue could hold. *size* is the `size_of` all.
        """
        records, room = self.max_records - len(self.items), self.max_bytes - self.bytes
        if (size <= room and len(wanted) <= records) or not self.items:
            return wanted, 0
        evicted = 0
        if self._oldest_go:
            for item in self.items:
                if size <= room and len(wanted) <= records:
                    break
                room, records, evicted = room + len(item[2]), records + 1, evicted + 1
            wanted = wanted[len(wanted) - min(records, len(wanted)) :]
        kept: dict[int, Item] = {}
        for severe in (True, False):
            for position, item in enumerate(wanted):
                if (item[0] >= WARNING) is severe and len(item[2]) <= room and len(kept) < records:
                    room -= len(item[2])
                    kept[position] = item
        return [kept[position] for position in sorted(kept)], evicted

    def extend(self, items: Iterable[Item], size: int) -> None:
        """Put *items*, of that size, behind all others."""
        self.items.extend(items)
        self.bytes += size

    def give_back(self, items: Iterable[Item]) -> None:
        """Put *items*, oldest first, in front of all others. They were taken from here, so there is no bound."""
        kept = list(items)
        self.items.extendleft(reversed(kept))
        self.bytes += size_of(kept)

    def take(self, max_records: int, max_bytes: int) -> list[Item]:
        """Remove and return the oldest records up to these bounds; a single larger one comes alone."""
        if len(self.items) <= max_records and self.bytes <= max_bytes:
            everything = list(self.items)
            self.clear()
            return everything
        # A guess by the mean, then one by one: most lines are of about one length.
        likely = min(max_records, max_bytes * len(self.items) // max(1, self.bytes), len(self.items))
        taken = [self.items.popleft() for _ in range(likely)]
        size = size_of(taken)
        while size > max_bytes and len(taken) > 1:
            size -= len(taken[-1][2])
            self.items.appendleft(taken.pop())
        while self.items and len(taken) < max_records:
            longer = size + len(self.items[0][2])
            if taken and longer > max_bytes:
                break
            size = longer
            taken.append(self.items.popleft())
        self.bytes -= size
        return taken

    def evict(self, count: int) -> list[Item]:
        """Remove and return that many of the oldest."""
        evicted = [self.items.popleft() for _ in range(count)]
        self.bytes -= size_of(evicted)
        return evicted

    def clear(self) -> int:
        """Remove everything; return how many records that was."""
        count = len(self.items)
        self.items.clear()
        self.bytes = 0
        return count


def size_of(items: Iterable[Item]) -> int:
    """Return how many bytes the lines of *items* have together."""
    return sum([len(item[2]) for item in items])
