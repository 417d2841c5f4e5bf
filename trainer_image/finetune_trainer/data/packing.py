"""Best-fit packing: rows share a sequence, none is cut. Counted in preflight, done in the trainer."""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence


def packed_sequences(counts: Mapping[int, int], capacity: int) -> int:
    """Return how many sequences best_fit makes of so many rows of each length, in the memory of one sequence.

    Rows of one length are laid out together: the fullest sequence that takes one goes on taking them while it has room.
    """
    open_by_room: dict[int, int] = {}
    rooms: list[int] = []  # sorted keys of open_by_room
    total = 0
    for length in sorted(counts, reverse=True):
        left = counts[length]
        while left:
            position = bisect_left(rooms, length)
            room = rooms[position] if position < len(rooms) else capacity
            each = min(room // length, left)
            sequences = min(left // each, open_by_room.get(room, left))
            if position == len(rooms):
                total += sequences
            elif sequences == open_by_room[room]:
                del open_by_room[room], rooms[position]
            else:
                open_by_room[room] -= sequences
            rest = room - each * length
            if rest not in open_by_room:
                open_by_room[rest] = 0
                insort(rooms, rest)
            open_by_room[rest] += sequences
            left -= each * sequences
    return total


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
