"""Memory of a candidate, remembered: many candidates differ in nothing that memory depends on. For search."""

from dataclasses import dataclass, field, replace
from functools import cached_property

from finetune_operator.planning.layouts import LOSS_KERNEL, Layout, Work, adapter_of
from finetune_operator.planning.memory.estimate import MemoryEstimate, estimate
from finetune_operator.planning.memory.generating import answer_gib, answers_at_once, with_one_answer
from finetune_operator.planning.memory.our_trainer import TrainerLayout, scenario_for
from finetune_operator.planning.models.adapter import Adapter


@dataclass(frozen=True)
class MemoryModel:
    """Estimates for one work, each computed once."""

    work: Work
    raised: float = 1.0
    """By how much more than estimated a run of this job needed."""
    seen: dict[tuple[object, ...], MemoryEstimate] = field(default_factory=dict)

    def of(self, layout: Layout) -> MemoryEstimate:
        """Return the memory of a layout."""
        # without sharding one GPU more changes nothing: from the second on there are NCCL's buffers, that is all
        shards = layout.gpus if layout.rung.zero_stage else min(layout.gpus, 2)
        accumulates = layout.gradient_accumulation_steps > 1
        key = (shards, layout.rung, layout.activation_checkpointing, layout.micro_batch_size, accumulates)
        if key not in self.seen:
            found = estimate(scenario_for(self.work.architecture, self._trainer_layout(layout, shards)))
            found = with_one_answer(found, self._answer_gib) if self.work.answered_tokens else found
            self.seen[key] = replace(found, margin=found.margin * self.raised)
        return self.seen[key]

    def answers_at_once(self, layout: Layout, usable_gib: float) -> int:
        """Return how many held-out rows a GPU answers at once."""
        if not self.work.answered_tokens:
            return 1
        return answers_at_once(self.of(layout), self._answer_gib, usable_gib=usable_gib)

    @cached_property
    def _answer_gib(self) -> float:
        return answer_gib(self.work.architecture, self.work.answered_tokens)

    def _trainer_layout(self, layout: Layout, shards: int) -> TrainerLayout:
        lora, training = self.work.resolved.lora, self.work.resolved.training
        return TrainerLayout(
            method=layout.method,
            adapter=self._adapter,
            dropout=lora is not None and float(lora.dropout) > 0,
            trains_embeddings=lora is not None and bool(lora.modules_to_save),
            precision=training.precision,
            optimizer=training.optimizer,
            gpus=shards,
            zero_stage=layout.rung.zero_stage,
            offload=layout.rung.offload,
            activation_checkpointing=layout.activation_checkpointing,
            micro_batch_size=layout.micro_batch_size,
            sequence_length=self.work.sequence_length,
            accumulates=layout.gradient_accumulation_steps > 1,
            packed=self.work.packed,
            attention=self.work.attention,
            loss_kernel=LOSS_KERNEL,
        )

    @cached_property
    def _adapter(self) -> Adapter | None:
        lora = self.work.resolved.lora
        return None if lora is None else adapter_of(lora)
