"""A question that is asked again about the same object is answered once."""

from finetune_operator.api import once
from finetune_operator.api.once import once_each


def test_an_object_is_asked_about_once_and_its_equal_by_itself():
    """Only the object itself is known again: two that are equal are two questions."""
    asked: list[list[int]] = []

    @once_each
    def total(numbers: list[int]) -> int:
        asked.append(numbers)
        return sum(numbers)

    one, other = [1, 2], [1, 2]

    assert [total(one), total(other), total(one)] == [3, 3, 3]
    assert [each is one for each in asked] == [True, False]


def test_only_the_last_objects_are_remembered():
    """A thousand jobs do not stay in memory because somebody once asked about them."""
    asked: list[int] = []
    objects = [[number] for number in range(once.REMEMBERED + 1)]

    @once_each
    def first(numbers: list[int]) -> int:
        asked.append(numbers[0])
        return numbers[0]

    for each in (*objects, objects[-1], objects[0]):
        first(each)

    assert asked == [*range(once.REMEMBERED + 1), 0]
