"""A command that answers the habits of other tools: an option that is called otherwise here, or that is given twice. Called by app."""

from typing import Any

from typer.core import TyperCommand

INSTEAD = {
    "--json": "-o json", "--yaml": "-o yaml", "--format": "-o json or -o yaml", "--watch": "`finetune watch`", "-w": "`finetune watch`",
    "--dry-run": "`finetune plan -f FILE`", "--follow": "`finetune watch`", "--all-namespaces": "-A", "--filename": "-f",
}  # fmt: skip
"""What other tools call an option -> what does the same here."""

MANIFESTS = (".yaml", ".yml")


class Command(TyperCommand):
    """Refuses what would be misread, with the words that do what was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer keeps this type private
        """Parse the words behind the command's name."""
        if not (ctx.resilient_parsing or ctx.ignore_unknown_options):  # `local kubectl` hands its words on
            self._answer_habits(ctx, args)
            self._refuse_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _answer_habits(self, ctx: Any, args: list[str]) -> None:
        known = {name for param in self.params for name in param.opts}
        for word in (each.partition("=")[0] for each in args if each.startswith("-")):
            if word in known:
                continue
            if word in ("-f", "--file", "--filename") and "file" in known:
                ctx.fail(f"No such option: {word}. The file is named alone: `{typed(ctx)} FILE`.")
            if word in INSTEAD:
                ctx.fail(f"No such option: {word}. Use {INSTEAD[word]}.")

    def _refuse_repeated(self, ctx: Any, args: list[str]) -> None:
        """Of two values the last would silently win."""
        _, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        for param in order:
            times = order.count(param)
            if (
                times > 1
                and param.param_type_name == "option"
                and not (param.multiple or getattr(param, "is_flag", False))
            ):
                ctx.fail(f"{param.opts[0]} is given {times} times, and takes one value.")
        if rest and rest[0].endswith(MANIFESTS) and any("-f" in param.opts for param in self.params):
            ctx.fail(f"A file is named with -f: `{typed(ctx)} -f {rest[0]}`.")


def typed(ctx: Any) -> str:
    """Return a command as documents write it, whether it is run as finetune, as a plugin of kubectl or as a module."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return " ".join(["finetune", *words])
