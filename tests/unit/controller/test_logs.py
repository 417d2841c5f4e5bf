"""What the API server answers is one line of the log; what nobody foresaw has its trace."""

import logging
import sys

import pytest
from aiohttp import ClientConnectionError
from finetune_operator.controller.logs import TextLines, without_trace


def logged(error: Exception, cause: Exception | None = None) -> str:
    """Return the line of an exception."""
    try:
        raise error from cause
    except type(error):
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "a watch has failed: %s", (error,), sys.exc_info())
    record.created = 0.0
    assert without_trace(record)
    return TextLines().format(record)


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ClientConnectionError("fault 409"), None), (RuntimeError("fault 409"), ClientConnectionError("409"))],
)
def test_an_answer_of_the_api_server_has_no_trace(error: Exception, cause: Exception | None):
    """kopf logs its own error, which an error of the HTTP client caused."""
    assert logged(error, cause) == "1970-01-01T00:00:00.000Z ERROR   a watch has failed: fault 409"


def test_a_fault_of_ours_has_its_trace():
    """Nobody could mend it otherwise."""
    first, second, *_, last = logged(KeyError("pod")).splitlines()

    assert (first, second, last) == (
        "1970-01-01T00:00:00.000Z ERROR   a watch has failed: 'pod'",
        "Traceback (most recent call last):",
        "KeyError: 'pod'",
    )
