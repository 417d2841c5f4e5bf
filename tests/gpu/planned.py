"""Part 2: the planner against the card. Twenty runs of four steps: peaks of memory, time of a step."""

from tests.gpu.card import Card, Late, free
from tests.gpu.scenarios import PLANNED, of_the_card
from tests.gpu.training import measured


def check(card: Card) -> None:
    """Run the scenarios, the most useful ones first; one that fails is recorded, and the next one runs."""
    chosen = [PLANNED[1], PLANNED[3], PLANNED[4], PLANNED[9], PLANNED[12]] if card.reduced else PLANNED
    for scenario in chosen:
        try:
            found = measured(of_the_card(scenario, reduced=card.reduced), card)
        except Late:
            raise
        except Exception as error:  # noqa: BLE001 - an out-of-memory error is a finding, and the next scenario may be fine
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        card.say({"name": scenario.name, **found})
        free()
