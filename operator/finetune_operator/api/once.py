"""What passes ask again and again about an object that never changes, answered once. Used by validation and digests."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")

REMEMBERED = 256


def once_each(question: Callable[[K], T]) -> Callable[[K], T]:
    """Return the question with its last answers kept: one for each object itself, since comparing two costs as much."""
    answers: OrderedDict[int, tuple[K, T]] = OrderedDict()

    @functools.wraps(question)
    def answer(asked: K) -> T:
        if id(asked) not in answers:
            answers[id(asked)] = asked, question(asked)  # the object is kept too: no other one can get its id
            while len(answers) > REMEMBERED:
                answers.popitem(last=False)
        return answers[id(asked)][1]

    return answer
