"""What the shell offers after Tab: jobs, pools, namespaces, contexts, fields. Silent and quick: a shell shows no errors."""

from typing import Any

from finetune_operator.cli.target import find_target

PATIENCE_SECONDS = 2.0


def job_names(ctx: Any, incomplete: str) -> list[str]:
    """Return the jobs of the namespace."""
    return [one for one in _listed(ctx, "FineTuneJob") if one.startswith(incomplete)]


def pool_names(ctx: Any, incomplete: str) -> list[str]:
    """Return the GPUPools."""
    return [one for one in _listed(ctx, "GPUPool") if one.startswith(incomplete)]


def namespaces(ctx: Any, incomplete: str) -> list[str]:
    """Return the namespaces of the cluster."""
    return [one for one in _listed(ctx, "Namespace") if one.startswith(incomplete)]


def contexts(ctx: Any, incomplete: str) -> list[str]:
    """Return the contexts of the kubeconfig."""
    target = find_target(ctx.params.get("kubeconfig") or "")
    if target is None or not target.kubeconfig:
        return []
    from finetune_operator.cli.kubeconfig import read_kubeconfig  # noqa: PLC0415

    try:
        found = read_kubeconfig(target.kubeconfig).contexts
    except Exception:  # noqa: BLE001  # nothing may be printed while a user types
        return []
    return [name for name in found if name.startswith(incomplete)]


def fields(incomplete: str) -> list[str]:
    """Return the fields of a spec as --set takes them, each with its `=`."""
    from finetune_operator.api.spec import FineTuneJobSpec  # noqa: PLC0415  # slow to load
    from finetune_operator.cli.known_fields import leaf_paths  # noqa: PLC0415

    return [f"{path}=" for path in leaf_paths(FineTuneJobSpec) if path.startswith(incomplete)]


def _listed(ctx: Any, kind: str) -> list[str]:
    """Return the names of a kind of object; nothing where the cluster cannot be asked."""
    options = {name: ctx.params.get(name) or "" for name in ("kubeconfig", "context", "namespace")}
    import asyncio  # noqa: PLC0415  # every command imports this module

    try:
        target = find_target(options["kubeconfig"])
        return [] if target is None else asyncio.run(_names(target, options["context"], options["namespace"], kind))
    except Exception:  # noqa: BLE001  # nothing may be printed while a user types
        return []


async def _names(target: Any, context: str, namespace: str, kind: str) -> list[str]:
    import asyncio  # noqa: PLC0415

    from finetune_operator.cli.jobs import jobs_of  # noqa: PLC0415  # slow to load
    from finetune_operator.controller.stored import collection  # noqa: PLC0415

    async with asyncio.timeout(PATIENCE_SECONDS), jobs_of(target, context, namespace) as jobs:
        path = (
            "/api/v1/namespaces"
            if kind == "Namespace"
            else collection(kind, jobs.namespace if kind != "GPUPool" else "")
        )
        items, _ = await jobs.api.list(path)
    return [item["metadata"]["name"] for item in items]
