"""What the moments of a training step are made of, each computed once. Built by estimate for step_moments and zero2."""

from dataclasses import dataclass
from functools import cached_property

from finetune_operator.planning.memory.activations import (
    boundary_bytes,
    cast_bytes,
    layer_bytes,
    mask_bytes,
    ungraded_bytes,
)
from finetune_operator.planning.memory.backward import backward_bytes, working_set_bytes
from finetune_operator.planning.memory.buckets import bucket_bytes
from finetune_operator.planning.memory.constants import Constants
from finetune_operator.planning.memory.gathers import Gathered, gathered
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import gradient_bytes, optimizer_bytes


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one GPU in one step of a run."""

    s: MemoryScenario
    constants: Constants

    @cached_property
    def gradients(self) -> float:
        """All gradients that are there when the backward pass is over."""
        return gradient_bytes(self.s)

    @cached_property
    def first_gradients(self) -> float:
        """Gradients that are there before layers go backward: of earlier micro batches.

        Stage 3 lays its gradients out in advance (stage3.py, grad_partitions_flat_buffer).
        """
        in_advance = self.s.sharding == "zero3" and self.s.adapter is None
        return self.gradients if self.s.accumulates or in_advance else 0.0

    @cached_property
    def optimizer(self) -> float:
        """Optimizer states, which are always there."""
        return optimizer_bytes(self.s)

    @cached_property
    def buckets(self) -> float:
        """Buckets in which gradients are reduced."""
        return bucket_bytes(self.s)

    @cached_property
    def first_buckets(self) -> float:
        """Buckets that are there before the first gradient is: stage 2 makes its own when it comes."""
        return 0.0 if self.s.sharding == "zero2" else self.buckets

    @cached_property
    def gathers(self) -> Gathered:
        """Weights of other GPUs, by moment."""
        return gathered(self.s)

    @cached_property
    def layer(self) -> float:
        """All that one layer saves for its backward pass."""
        return layer_bytes(self.s, self.constants)

    @cached_property
    def backward(self) -> float:
        """Temporaries of one layer's backward pass."""
        return backward_bytes(self.s, self.constants)

    @cached_property
    def recomputed(self) -> float:
        """One layer recomputed and going backward."""
        return working_set_bytes(self.s, self.constants)

    @cached_property
    def saved(self) -> float:
        """All that the forward pass has saved when it is over."""
        s, fixed = self.s, cast_bytes(self.s) + mask_bytes(self.s)
        if s.activation_checkpointing:
            return boundary_bytes(s) + fixed
        if s.activation_offload:
            return fixed  # what a layer saves leaves for the host while the next one runs
        return self.layer * s.shape.num_layers - ungraded_bytes(s) + fixed

    @cached_property
    def saved_at_loss(self) -> float:
        """The same as the loss is made and the head goes backward.

        Autocast forgets its copies with the forward pass, before the gradient of the head is there, where layers have copies
        of their own later. No layer is recomputed yet, whose kernel makes a bias of its mask.
        """
        s = self.s
        forgotten = min(cast_bytes(s), 4.0 * s.shape.num_table_parameters) if self._recasts else 0.0
        biases = mask_bytes(s) - mask_bytes(s, 0) if s.activation_checkpointing else 0.0
        return self.saved - forgotten - biases

    @cached_property
    def saved_at_layers(self) -> float:
        """The same as layers go backward: a layer that is recomputed casts its own weights alone."""
        others = cast_bytes(self.s) * (1 - 1 / self.s.shape.num_layers) if self._recasts else 0.0
        return self.saved - others

    @property
    def _recasts(self) -> bool:
        """Whether trained weights are cast anew as their layer is recomputed."""
        return self.s.activation_checkpointing and self.s.adapter is None

    @cached_property
    def last_layer(self) -> float:
        """What the last layer, the first to go backward, needs then beyond all that is saved.

        A layer that is not recomputed has saved what it needs.
        """
        recomputes = self.s.activation_checkpointing or self.s.activation_offload
        return self.recomputed if recomputes else self.backward

    @property
    def mlp_before_gradients(self) -> bool:
        """Whether the last layer's MLP goes backward before the first gradient is there: adapters on attention alone."""
        adapter = self.s.adapter
        return adapter is not None and not adapter.adapts_down and self.s.attention != "eager"

    @property
    def last_layer_buckets(self) -> float:
        """Buckets that are there at the last layer's widest moment."""
        return self.first_buckets if self.mlp_before_gradients else self.buckets
