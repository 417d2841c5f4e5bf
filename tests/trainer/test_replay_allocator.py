"""The rules of CUDA's caching allocator as tests/bench/replay_allocator.py has them."""

from tests.bench.replay_allocator import MIB, Allocator, affine, replay


def reserved_mib(*steps: tuple[str, int]) -> float:
    """Allocate ("name", bytes) and release ("name", 0) in turn; return what is reserved, in MiB."""
    allocator = Allocator()
    for name, size in steps:
        if size:
            allocator.allocate(name, size)
        else:
            allocator.release(name)
    return allocator.reserved / MIB


def test_segments_come_in_three_sizes():
    """2 MiB for what is at most 1 MiB, 20 MiB below 10, steps of 2 MiB above."""
    assert reserved_mib(("a", 1)) == 2
    assert reserved_mib(("a", MIB), ("b", MIB)) == 2
    assert reserved_mib(("a", 2 * MIB)) == 20
    assert reserved_mib(("a", 11 * MIB)) == 12


def test_a_freed_block_serves_what_is_smaller_and_nothing_larger():
    """This is why rows of changing length leave blocks behind."""
    assert reserved_mib(("a", 40 * MIB), ("a", 0), ("b", 30 * MIB)) == 40
    assert reserved_mib(("a", 40 * MIB), ("a", 0), ("b", 42 * MIB)) == 82


def test_neighbours_merge_when_both_are_free():
    """A segment that was split serves its whole size again."""
    split = [("a", 40 * MIB), ("a", 0), ("b", 20 * MIB), ("c", 20 * MIB)]

    assert reserved_mib(*split, ("b", 0), ("c", 0), ("d", 40 * MIB)) == 40
    assert reserved_mib(*split, ("b", 0), ("d", 40 * MIB)) == 80


def test_a_replay_scales_what_was_traced_with_the_length():
    """Traced at 1,024 and 2,048 tokens: 1 MiB and a thousandth more per token."""
    short, long = [(1, MIB + 1024**2), (-1, 0)], [(1, MIB + 2 * 1024**2), (-1, 0)]
    step = affine(short, long)

    assert step == [(1, MIB, 1024), (-1, 0, 0)]
    assert replay(step, [1024, 4096]).peak == 5 * MIB
