"""The frame of the command line: which commands exist. A command's module is imported when it is called, not before."""

from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from finetune_operator.cli.usage_words import Command
from finetune_operator.cli.version import command as print_version

COMMANDS = {
    "init": "Write a job.yaml for your data.",
    "import": "Write a job.yaml for the job of another tool.",
    "plan": "Show the memory, time and cost of a job before running it.",
    "submit": "Create the job of a file.",
    "get": "List jobs, or show one job.",
    "watch": "Follow jobs live until they finish.",
    "wait": "Wait until a job finishes; the exit code is its result.",
    "logs": "Print the trainer log of a job.",
    "suspend": "Suspend a job: it keeps its checkpoint and releases its GPUs.",
    "resume": "Resume a suspended job from its checkpoint.",
    "rerun": "Run a job again under a new name, with some fields changed.",
    "diff": "Print the settings in which two jobs differ.",
    "compare": "Print settings and results in which jobs differ.",
    "report": "Write an HTML report of a job.",
    "delete": "Delete a job; its published result stays.",
    "top": "Show the GPUs and dollars of running and waiting jobs.",
    "cost": "Show what jobs have cost since a day.",
    "merge": "Make one adapter of several.",
    "chat": "Ask the result of a job in the terminal.",
    "serve": "Serve the result of a job on this machine.",
    "manifests": "Print manifests that serve the results of jobs in a cluster.",
    "serve-ui": "Serve a page with a calculator and the jobs.",
    "data": "Preview the data of a job as the model will see it.",
    "vram": "Estimate the GPU memory of training runs.",
    "models": "List the models and model families that can be tuned.",
    "gpus": "List the known GPU types.",
    "pools": "Generate GPUPools from the nodes of a cluster.",
    "calibrate": "Compare predictions with measurements of finished jobs.",
    "local": "Run a Kubernetes control plane on this machine.",
    "run": "Run the operator against a cluster.",
    "generate": "Generate the CRDs, the API reference and parts of the chart.",
    "version": "Print the version.",
}
"""Name -> sentence. Module finetune_operator.cli.NAME, with _ for -, has `app` (a typer.Typer) or `command` (a function)."""

MODULES = {"import": "import_job", "serve-ui": "serve_ui"}
"""Of commands whose name is a word of Python."""


ELSEWHERE = {
    "status": "get", "list": "get", "ls": "get", "ps": "get", "queue": "get", "jobs": "get", "describe": "get", "launch": "submit",
    "apply": "submit", "create": "submit", "start": "submit", "train": "submit", "cancel": "suspend", "stop": "suspend",
    "down": "delete", "rm": "delete", "attach": "logs -f", "tail": "logs -f", "price": "plan", "dashboard": "serve-ui", "help": "-h",
}  # fmt: skip
"""What other tools call it -> what it is called here."""

HELP = {"help_option_names": ["-h", "--help"]}


def load(name: str) -> TyperCommand | TyperGroup:
    """Return the typer command `name`, importing its module."""
    module = import_module(f"finetune_operator.cli.{MODULES.get(name, name)}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        group.command(name)(module.command)
    for each in group.registered_commands:
        each.cls = Command
    group.rich_markup_mode = None  # the panels of rich cut the names of options at 80 columns
    command = typer.main.get_command(group)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.context_settings = HELP | each.context_settings
    return cast("TyperCommand | TyperGroup", command)


class LazyGroup(TyperGroup):
    """Shows every command by its sentence and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:  # typer's own settings, handed on
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name=name, help=sentence) for name, sentence in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer keeps these types private
        """Replace the named placeholder by the real command, then resolve it."""
        if args and args[0] in ELSEWHERE:
            ours = f"{args[1]} -h" if args[0] == "help" and args[1:2] and args[1] in COMMANDS else ELSEWHERE[args[0]]
            ctx.fail(f"No such command '{args[0]}'. Use `finetune {ours}`.")
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)


EXITS = (
    "Exit codes: 0 success, 1 failure (with an error message on stderr), 2 usage error, 70 a bug, 130 Ctrl-C. `wait` has others; see "
    "its help."
)

app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    epilog=EXITS, context_settings=HELP,
)  # fmt: skip


def show_version(wanted: bool) -> None:
    """Print the version and exit where --version is given."""
    if wanted:
        print_version()
        raise typer.Exit


@app.callback()
def frame(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune language models on Kubernetes: one YAML file in, one adapter out."""
