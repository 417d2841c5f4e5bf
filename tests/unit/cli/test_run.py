"""`finetune run`: its options are the settings of the operator."""

import inspect
from dataclasses import asdict

from finetune_operator.cli.run import command
from finetune_operator.controller.settings import OperatorSettings

RENAMED = {"pod_logs": "read_logs", "port": "http_port"}
DECIDED_BY_THE_PLACE = {"namespace", "leader_elect", "host", "pod_settings"}
"""Options whose default depends on whether the process runs in a Pod, or that take several values or JSON text."""


def test_options_have_the_defaults_of_the_settings():
    """An operator that is made in a test behaves as one that is started without options."""
    settings = asdict(OperatorSettings())
    options = {
        RENAMED.get(name, name): option.default
        for name, option in inspect.signature(command).parameters.items()
        if name not in DECIDED_BY_THE_PLACE
    }

    assert options == {name: settings[name] for name in options}
    assert set(settings) - set(options) == {"namespaces", "leader_election", "http_host", "pods"}
