"""What waits in front of one sink, bounded as the queue is."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from fapilog.diagnostics import DropReason
from fapilog.pipeline.queue import Item, Overflow
from fapilog.types import INFO, WARNING


class Inbox:
    """A bounded line of records, by the rules of the queue. It is changed under the pipeline's lock alone."""

    def __init__(
        self, max_records: int, max_bytes: int, overflow: Overflow, *, chance: Callable[[], float] = random.random
    ) -> None:
        """Hold at most that much; *overflow* says what goes when it fills up."""
        self.items: deque[Item] = deque()
        self.bytes = 0
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._overflow = overflow
        self._chance = chance

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

    def put(self, items: list[Item], size: int, *, waited_for: bool = False) -> dict[DropReason, list[Item]]:
        """Put *items*, oldest first and of that *size*, behind all others, as the policy says; return what is lost.

        An empty inbox takes all: it is never more than the queue could hold. In a full one the oldest records of the
        lowest level give way to a warning or worse, unless the oldest go in any case. If the sink is *waited_for*,
        ``auto`` refuses nothing before the inbox is full: log calls that must not wait met the policy at the queue.
        """
        fill = max((self.bytes + size) / self.max_bytes, (len(self.items) + len(items)) / self.max_records)
        by_level = self._overflow == "drop" or (self._overflow == "auto" and not waited_for)
        fits = fill <= (0.5 if self._overflow == "sample" else 0.8 if by_level else 1)
        if fits or not self.items or not items:
            self.items.extend(items)
            self.bytes += size
            return {}
        if self._overflow == "drop_oldest":
            return {"inbox_full": self._put_newest(items)}
        return self._put_admitted(items, by_level=by_level)

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

    def clear(self) -> int:
        """Remove everything; return how many records that was."""
        count = len(self.items)
        self.items.clear()
        self.bytes = 0
        return count

    def _put_newest(self, items: list[Item]) -> list[Item]:
        """Let the oldest make room, and return what went."""
        lost = []
        for item in items:
            size = len(item[2])
            if size > self.max_bytes:
                lost.append(item)
                continue
            while self.bytes + size > self.max_bytes or len(self.items) >= self.max_records:
                oldest = self.items.popleft()
                self.bytes -= len(oldest[2])
                lost.append(oldest)
            self.items.append(item)
            self.bytes += size
        return lost

    def _put_admitted(self, items: list[Item], *, by_level: bool) -> dict[DropReason, list[Item]]:
        """Admit one after the other as the queue does; what is severe and finds no room comes last."""
        max_records, max_bytes = self.max_records, self.max_bytes
        records, size = len(self.items), self.bytes
        kept: dict[int, Item] = {}
        full: list[Item] = []
        sampled: list[Item] = []
        late: list[tuple[int, Item]] = []
        for at, item in enumerate(items):
            level, length = item[0], len(item[2])
            fill = max((size + length) / max_bytes, (records + 1) / max_records)
            if level >= WARNING:
                if fill > 1:
                    late.append((at, item))
                    continue
            elif fill > 1 or (by_level and _refuses(level, fill)):
                full.append(item)
                continue
            elif self._overflow == "sample" and self._chance() >= 2 * (1 - fill):
                sampled.append(item)
                continue
            kept[at] = item
            records, size = records + 1, size + length
        if late:
            full += self._give_way(late, kept)
        rest = [kept[at] for at in sorted(kept)]
        self.items.extend(rest)
        self.bytes += size_of(rest)
        lost: dict[DropReason, list[Item]] = {"inbox_full": full, "sampled_under_pressure": sampled}
        return {reason: items for reason, items in lost.items() if items}

    def _give_way(self, late: list[tuple[int, Item]], kept: dict[int, Item]) -> list[Item]:
        """Move of *late* to *kept* what the lowest levels, here and there, can make room for; return what goes.

        The most severe come first, so that a record which may give way need not be looked at again for each of them.
        """
        first = len(self.items)
        records = max(0, self.max_records - first - len(kept))
        room = max(0, self.max_bytes - self.bytes - size_of(kept.values()))
        lower = self._lowest_first(dict(kept))
        ready: deque[tuple[int, Item]] = deque()
        ready_bytes = 0
        gone: dict[int, Item] = {}
        refused = []
        for at, item in sorted(late, key=lambda each: -each[1][0]):
            level, length = item[0], len(item[2])
            while ready and ready[-1][1][0] >= level:
                ready_bytes -= len(ready.pop()[1][2])
            while room + ready_bytes < length or records + len(ready) < 1:
                found = next(lower, None)
                if found is None or found[1][0] >= level:
                    break
                ready.append(found)
                ready_bytes += len(found[1][2])
            else:
                while room < length or records < 1:
                    place, victim = ready.popleft()
                    gone[place] = victim
                    ready_bytes -= len(victim[2])
                    room, records = room + len(victim[2]), records + 1
                room, records = room - length, records - 1
                kept[at] = item
                continue
            refused.append(item)
        self._remove({place for place in gone if place < first})
        for place in gone:
            kept.pop(place - first, None)
        return [*gone.values(), *refused]

    def _lowest_first(self, kept: dict[int, Item]) -> Iterator[tuple[int, Item]]:
        """Give what is here and then *kept*, each with its place in both, by level and then oldest first."""
        first = len(self.items)
        for level in sorted({item[0] for item in self.items} | {item[0] for item in kept.values()}):
            for place, item in enumerate(self.items):
                if item[0] == level:
                    yield place, item
            for at, item in kept.items():
                if item[0] == level:
                    yield first + at, item

    def _remove(self, places: set[int]) -> None:
        if places:
            oldest = [self.items.popleft() for _ in range(max(places) + 1)]
            self.bytes -= sum([len(oldest[place][2]) for place in places])
            self.items.extendleft(reversed([item for place, item in enumerate(oldest) if place not in places]))


def _refuses(level: int, fill: float) -> bool:
    """Whether a record below warning is refused at that fill, as the queue refuses it."""
    return fill >= 0.9 or (fill > 0.8 and level < INFO)


def size_of(items: Iterable[Item]) -> int:
    """Return how many bytes the lines of *items* have together."""
    return sum([len(item[2]) for item in items])
