"""Replay training steps through CUDA's caching allocator: how much it keeps in reserve. `python tests/bench/replay_allocator.py`.

The allocations are those of transformers' own Llama code on fake tensors, forward and backward, with an adapter and stock
loss; the allocator's rules are those of torch/csrc (c10/cuda/CUDACachingAllocator.cpp, without expandable segments). The
slack of estimate for rows of equal and of changing length comes from here. Simulated, never measured.
"""

import random
import sys
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from finetune_trainer.model import varlen
from finetune_trainer.simulate.kernels import emulated
from finetune_trainer.simulate.ledger import Category, Ledger
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.initialization import no_init_weights

MIB, GIB = 2**20, 2**30
LAYERS, STEPS = 8, 120
LENGTHS = (1024, 2048)
"""Traced; what a length in between allocates is affine in it."""


@dataclass(eq=False)
class Block:
    """A piece of a segment."""

    size: int
    small: bool
    before: "Block | None" = None
    after: "Block | None" = None
    free: bool = False
    number: int = field(default_factory=count().__next__)
    """Ties between blocks of one size are broken by age."""


@dataclass
class Allocator:
    """CUDA's caching allocator: best fit among cached blocks, which are split and merged inside their segment only."""

    reserved: int = 0
    allocated: int = 0
    peak: int = 0
    """Of what is allocated."""
    _cached: list[tuple[bool, int, int]] = field(default_factory=list)
    _blocks: dict[int, Block] = field(default_factory=dict)
    _held: dict[Any, Block] = field(default_factory=dict)

    def allocate(self, key: Any, size: int) -> None:
        """Give a block of at least so many bytes to a key."""
        size = max(512, -(-size // 512) * 512)
        small = size <= MIB
        place = bisect_left(self._cached, (small, size, 0))
        if place < len(self._cached) and self._cached[place][0] == small:
            block = self._blocks.pop(self._cached.pop(place)[2])
        else:
            block = self._segment(size, small=small)
        rest = block.size - size
        if rest >= 512 if small else rest > MIB:
            left = Block(rest, small, block, block.after)
            if block.after:
                block.after.before = left
            block.after, block.size = left, size
            self._cache(left)
        block.free = False
        self._held[key] = block
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)

    def release(self, key: Any) -> None:
        """Take a key's block back into the cache, with its free neighbours."""
        block = self._held.pop(key)
        self.allocated -= block.size
        for near in (block.before, block.after):
            if near is not None and near.free:
                self._uncache(near)
                block.size += near.size
                if near is block.before:
                    block.before = near.before
                else:
                    block.after = near.after
        if block.before:
            block.before.after = block
        if block.after:
            block.after.before = block
        self._cache(block)

    def _segment(self, size: int, *, small: bool) -> Block:
        """Take new memory from the driver: 2 MiB for small blocks, 20 MiB up to 10, else in steps of 2 MiB."""
        taken = 2 * MIB if small else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        self.reserved += taken
        return Block(taken, small)

    def _cache(self, block: Block) -> None:
        block.free = True
        self._blocks[block.number] = block
        insort(self._cached, (block.small, block.size, block.number))

    def _uncache(self, block: Block) -> None:
        del self._blocks[block.number]
        self._cached.pop(bisect_left(self._cached, (block.small, block.size, block.number)))


class Recorder(Ledger):
    """Writes down every allocation as (number, bytes), and every release as (-number, 0)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.events: list[tuple[int, int]] = []
        self.numbers: dict[int, int] = {}

    def add(self, tensor: torch.Tensor, category: Category, operation: Any = "") -> None:
        """Count a tensor's storage, once."""
        key = tensor.untyped_storage()._cdata
        if key not in self.live:
            super().add(tensor, category, operation)
            self.numbers[key] = len(self.events) + 1
            self.events.append((self.numbers[key], self.live[key].size))

    def _free(self, key: int) -> None:
        super()._free(key)
        self.events.append((-self.numbers.pop(key), 0))


def config(vocabulary: int) -> LlamaConfig:
    """Return a 7B model's widths, cut to a few layers."""
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=4096, intermediate_size=11008, num_hidden_layers=LAYERS,
        num_attention_heads=32, num_key_value_heads=32, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip


def trace(vocabulary: int, tokens: int, *, checkpointing: bool) -> list[tuple[int, int]]:
    """Return the allocations of one micro step of LoRA with autocast, gradients of an earlier one in place."""
    varlen.register()
    with emulated(unequal_rows=False), FakeTensorMode(allow_non_fake_inputs=True):
        with no_init_weights():
            built = AutoModelForCausalLM.from_config(
                config(vocabulary), dtype=torch.bfloat16, attn_implementation=varlen.VARLEN
            )
        lora = LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(built, lora).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        with Recorder() as recorder:
            for _ in range(2):
                recorder.events.clear()
                recorder.numbers = dict.fromkeys(recorder.numbers, 0)
                micro_step(model, tokens, vocabulary)
        return [event for event in recorder.events if event[0]]


def micro_step(model: Any, tokens: int, vocabulary: int) -> None:
    """Forward, the loss on logits in float32, backward."""
    rows, ends = torch.zeros((1, tokens), dtype=torch.long), torch.tensor([0, tokens], dtype=torch.int32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=rows, cu_seq_lens_q=ends, max_length_q=tokens).logits.float()
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, vocabulary), rows[0, 1:])
    del logits
    loss.backward()


Step = list[tuple[int, float, float]]


def affine(short: list[tuple[int, int]], long: list[tuple[int, int]]) -> Step:
    """Return allocations as (number, bytes at length 0, bytes per token)."""
    slopes = [(b[1] - a[1]) / (LENGTHS[1] - LENGTHS[0]) for a, b in zip(short, long, strict=True)]
    return [(b[0], b[1] - slope * LENGTHS[1], slope) for b, slope in zip(long, slopes, strict=True)]


def replay(step: Step, lengths: list[int]) -> Allocator:
    """Run the same step over and over, at these lengths."""
    allocator = Allocator()
    for turn, length in enumerate(lengths):
        held = set()
        for number, fixed, slope in step:
            if number > 0:
                allocator.allocate((turn, number), round(fixed + slope * length))
                held.add(number)
            elif -number in held:
                held.discard(-number)
                allocator.release((turn, -number))
        for number in held:
            allocator.release((turn, number))
    return allocator


def drawn(longest: int) -> Iterator[tuple[str, list[int]]]:
    """Yield ways in which rows may be long, none longer than this; squared, for what grows with the length's square."""
    rng = random.Random(1)
    yield "equal", [longest] * 10
    uniform = [rng.randint(longest // 16, longest) for _ in range(STEPS)]
    yield "uniform", uniform
    normal = [int(min(longest, max(64, rng.lognormvariate(0, 0.7) * longest / 3))) for _ in range(STEPS)]
    yield "log-normal", normal
    yield "uniform, squared", [max(16, length**2 // longest) for length in uniform]
    yield "log-normal, squared", [max(16, length**2 // longest) for length in normal]


def main() -> None:
    """Print what is reserved beyond what is allocated, in GiB, and as a multiple of the logits' 12 bytes."""
    for vocabulary in (64, 32_000, 151_936):
        for checkpointing in (True, False):
            found = [trace(vocabulary, tokens, checkpointing=checkpointing) for tokens in LENGTHS]
            for name, lengths in drawn(4096):
                done = replay(affine(*found), lengths)
                logits = 12 * vocabulary * max(lengths) / GIB
                extra = (done.reserved - done.peak) / GIB
                print(
                    f"vocabulary {vocabulary:>7} checkpointing {checkpointing!s:<5} {name:<19} allocated "
                    f"{done.peak / GIB:6.2f} logits {logits:5.2f} reserved {done.reserved / GIB:6.2f} "
                    f"({done.reserved / done.peak:.2f}), extra {extra:6.2f} = {extra / logits:5.2f} logits "
                    f"or {extra / max(1e-9, done.peak / GIB - logits):5.2f} of the rest",
                    flush=True,
                )


if __name__ == "__main__":
    main()
