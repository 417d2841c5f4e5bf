"""The date that templates write into the system prompt: one for all days, so that the same run tomorrow is the same run."""

from datetime import datetime

from transformers.utils.chat_template_utils import (
    _compile_jinja_template as compiled_template,  # pinned version; remembers
)

PINNED = datetime(2024, 7, 26)  # noqa: DTZ001 - a template formats it, in no time zone
"""The date that the template of Llama 3.2 itself writes where there is no clock."""

CLOCK = "strftime_now"
"""The function by which templates ask for the date."""


def strftime_now(form: str) -> str:
    """Return the pinned date as a template wants it written."""
    return PINNED.strftime(form)


def pin_date(template: str) -> None:
    """Let a template see the pinned date wherever this process renders it: transformers keeps what it has compiled."""
    compiled_template(template).globals[CLOCK] = strftime_now


def date_warning(template: str) -> tuple[str, ...]:
    """Say what stands in the rows where a template writes the date of the day."""
    if CLOCK not in template:
        return ()
    return (
        f"the chat template writes today's date: every row gets {PINNED:%d %b %Y} instead, so that the run does not depend "
        "on the day it starts. A server writes the real date",
    )
