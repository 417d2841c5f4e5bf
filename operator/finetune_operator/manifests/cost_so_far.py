"""What the earlier attempts of a job cost: GPU-seconds, and dollars at the price of each plan. Called by run_config and money."""

from decimal import Decimal

from finetune_contract import CostSoFar, cost

from finetune_operator.api.plan import Plan
from finetune_operator.api.status import FineTuneJobStatus, ReplannedStatus, ReportedStatus


def cost_so_far(status: FineTuneJobStatus, plan: Plan, attempt: int) -> CostSoFar:
    """Return what an attempt is told of those before it, which have ended: the same for each of its Pods, whenever it is made."""
    earlier = (one.gpu_seconds for one in status.attempts or () if one.number < attempt)
    held, price = status.archived_gpu_seconds + sum(earlier), plan.pool.price_per_gpu_hour_usd
    return CostSoFar(
        gpu_seconds=held,
        cost_usd=cost.amount(usd(status, held, price)),
        price_per_gpu_hour_usd=price if Decimal(price) else None,
    )


def usd(status: ReportedStatus, gpu_seconds: int, price_per_gpu_hour_usd: str) -> Decimal:
    """Return what GPU-seconds cost that include those of earlier plans, which have a price of their own."""
    earlier = status.replanned or ReplannedStatus()
    return Decimal(earlier.cost_usd) + (gpu_seconds - earlier.gpu_seconds) * Decimal(price_per_gpu_hour_usd) / 3600
