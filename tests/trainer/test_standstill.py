"""From faulthandler's text to where a rank stands."""

from finetune_trainer.process.standstill import Place, described, place

WORKER = '  File "/app/finetune_trainer/process/worker.py", line 100 in run\n'
BEATING = 'Thread 0x01 (most recent call first):\n  File "/lib/threading.py", line 331 in wait\n'


def stack(*frames: str) -> str:
    """The main thread's stack beside that of a heartbeat, as Python 3.11 writes them."""
    return f"{BEATING}\nCurrent thread 0x02 (most recent call first):\n" + "".join(frames) + WORKER


def test_a_rank_in_a_collective_waits() -> None:
    """Whatever is below the collective."""
    reduce = '  File "/v/torch/distributed/distributed_c10d.py", line 3084 in all_reduce\n'
    ours = '  File "/app/finetune_trainer/runtime/ranks.py", line 66 in _reduced\n'

    assert place(0, stack(reduce, ours), "S") == Place(rank=0, text="waits in a collective (all_reduce)", waits=True)


def test_a_rank_that_stands_elsewhere_is_named_with_its_line() -> None:
    """The two last parts of the path are enough to find it."""
    reading = '  File "/app/finetune_trainer/data/rows.py", line 12 in read\n'

    assert place(1, stack(reading), "S") == Place(rank=1, text="is in read (data/rows.py:12)", waits=False)


def test_processes_without_a_stack_are_told_by_their_state() -> None:
    """Gone, stopped, waiting for a disk, or running code that hears no signal."""
    assert [place(0, "", state).text for state in ("", "T", "D", "R")] == [
        "has ended", "is stopped (SIGSTOP)", "waits for a disk or the network (state D)", "does not answer",
    ]  # fmt: skip


def test_the_ones_that_are_waited_for_are_named() -> None:
    """Where all wait, the cause is outside of this Pod."""
    waiting = [Place(rank=rank, text="waits", waits=True) for rank in (0, 1)]
    busy = Place(rank=2, text="has ended", waits=False)

    assert described([*waiting, busy]) == "rank 0 waits; rank 1 waits; rank 2 has ended. The others wait for rank 2"
    assert described(waiting) == (
        "rank 0 waits; rank 1 waits. All ranks of this Pod wait for each other, for another Pod or for the network"
    )
    assert described([busy]) == "rank 2 has ended"
