"""Best-fit packing: rows share a sequence, none is cut. Counted in preflight, done in the trainer."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put rows into sequences of at most `capacity` tokens, longest first, each where it leaves the least room.

    Returns the row indices of each sequence. Rows must not be longer than the capacity.
    """
    sequences: list[list[int]] = []
    open_by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted keys of open_by_room
    for row in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        position = bisect_left(rooms, lengths[row])
        if position < len(rooms):
            room = rooms[position]
            sequence = open_by_room[room].pop()
            if not open_by_room[room]:
                del open_by_room[room], rooms[position]
            sequences[sequence].append(row)
        else:
            room, sequence = capacity, len(sequences)
            sequences.append([row])
        left = room - lengths[row]
        if left not in open_by_room:
            open_by_room[left] = []
            insort(rooms, left)
        open_by_room[left].append(sequence)
    return sequences
