"""Part 1: attention as torch has it: which kernels run, what unseen lengths cost with cuDNN, varlen against the dense mask, leaks.

All of it calls torch directly, in the shapes that transformers calls it with, so it says what this torch does on this card, whatever
the trainer has chosen. The attention of Llama 3.1 8B: 32 query heads, 8 key and value heads of 128.
"""

import contextlib
import itertools
import random
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from tests.gpu.card import Card, free, peaks, reset_peaks, seconds_of

HEADS, GROUPS, WIDTH = 32, 8, 128
UNSEEN_LENGTHS = 20
REPEATS = 5


def check(card: Card) -> None:
    """Run the four questions, the dearest last."""
    kernels(card)
    unseen_lengths(card)
    leaks(card)
    for tokens in (64,) if card.reduced else (4096, 10_240):
        varlen_against_dense(card, tokens)
        free()


def heads(card: Card, tokens: int, *, rows: int = 1, seed: int = 0) -> list[torch.Tensor]:
    """Return queries, keys and values of rows, keys and values repeated as transformers does for sdpa with a mask."""
    generator = torch.Generator(card.device).manual_seed(seed)
    dtype, width = (torch.float32, 16) if card.reduced else (torch.bfloat16, WIDTH)
    shapes = [(rows, count, tokens, width) for count in (HEADS, GROUPS, GROUPS)]
    made = [torch.randn(shape, generator=generator, device=card.device, dtype=dtype) for shape in shapes]
    return [made[0], *(tensor.repeat_interleave(HEADS // GROUPS, dim=1) for tensor in made[1:])]


def documents(tokens: int, seed: int = 3) -> list[int]:
    """Return lengths of documents that fill a packed row."""
    draw, found = random.Random(seed), []
    while (room := tokens - sum(found)) > 0:
        found.append(min(room, draw.randrange(tokens // 20 + 1, tokens // 4 + 2)))
    return found


def packed_mask(lengths: list[int], device: str) -> torch.Tensor:
    """Return the mask of a packed row: causal, and within documents."""
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    return (number[:, None] == number[None, :]).tril()[None, None]


def padded_mask(card: Card, tokens: int, rows: int) -> torch.Tensor:
    """Return the mask of rows of different lengths, padded at their ends."""
    positions = torch.arange(tokens, device=card.device)
    ends = torch.linspace(tokens // 2, tokens, rows, device=card.device)
    causal = positions[:, None] >= positions[None, :]
    return (causal[None] & (positions[None, None, :] < ends[:, None, None]))[:, None]


def forward_and_backward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> None:
    """Attend, and go back."""
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    scaled_dot_product_attention(*inputs, **options).sum().backward()


def kernels(card: Card) -> None:
    """Name the kernels of causal, padded and packed attention."""
    tokens = 64 if card.reduced else 2048
    for name, rows, mask in (
        ("causal", 1, None),
        ("padded", 4, padded_mask(card, tokens, 4)),
        ("packed", 1, packed_mask(documents(tokens), card.device)),
    ):
        given = heads(card, tokens, rows=rows)
        options = {"is_causal": True} if mask is None else {"attn_mask": mask}
        forward_and_backward(*given, **options)
        with profile(
            activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA] if card.device == "cuda" else None
        ) as seen:
            forward_and_backward(*given, **options)
        times = [
            (event.self_device_time_total or event.self_cpu_time_total, event.key) for event in seen.key_averages()
        ]
        card.say({"name": f"kernels, {name}", "kernels": [key[:120] for _, key in sorted(times, reverse=True)[:3]]})


@contextmanager
def cudnn(card: Card, on: bool) -> Any:
    """Allow cuDNN's attention, or not; the trainer does not."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(on)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def unseen_lengths(card: Card) -> None:
    """Time lengths that have not been seen: cuDNN makes a plan for each. Then the same lengths again."""
    longest = 96 if card.reduced else 2048
    for on in (False, True):
        draw = random.Random(int(on))
        count = 3 if card.reduced else UNSEEN_LENGTHS
        lengths = [8 * draw.randrange(4, longest // 8) + int(on) for _ in range(count)]
        with cudnn(card, on):
            forward_and_backward(*heads(card, longest), is_causal=True)
            passes = [_all_lengths(card, lengths) for _ in range(2)]
        card.say(
            {
                "name": f"unseen lengths, cuDNN {'on' if on else 'off'}",
                "firstMilliseconds": round(1000 * passes[0] / count, 3),
                "againMilliseconds": round(1000 * passes[1] / count, 3),
            }
        )  # fmt: skip


def _all_lengths(card: Card, lengths: list[int]) -> float:
    given = [heads(card, length, rows=4) for length in lengths]
    return sum(seconds_of(lambda one=one: forward_and_backward(*one, is_causal=True), card.device) for one in given)


def varlen(card: Card, lengths: list[int]) -> Callable[..., torch.Tensor] | None:
    """Return variable-length attention over documents, None where this torch or device has none."""
    with contextlib.suppress(ImportError):
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - torch 2.10 and later

        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=card.device)

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
            out = varlen_attn(*flat, ends, ends, max(lengths), max(lengths), window_size=(-1, 0))
            return out.transpose(0, 1)[None]

        return attend if card.device == "cuda" else None
    return None


def one_by_one(lengths: list[int]) -> Callable[..., torch.Tensor]:
    """Return the reference: each document by itself, causal."""

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        return torch.cat([scaled_dot_product_attention(*part, is_causal=True) for part in parts], dim=2)

    return attend


def dense(lengths: list[int], device: str) -> Callable[..., torch.Tensor]:
    """Return attention with a dense mask."""
    mask = packed_mask(lengths, device)
    return lambda query, key, value: scaled_dot_product_attention(query, key, value, attn_mask=mask)


def varlen_against_dense(card: Card, tokens: int) -> None:
    """Compare error, time and memory of a packed row."""
    lengths = documents(tokens)
    given = heads(card, tokens)
    reference = one_by_one(lengths)(*given)
    ways = {
        "dense mask": dense(lengths, card.device),
        "varlen": varlen(card, lengths),
        "one by one": one_by_one(lengths),
    }
    for name, attend in ways.items():
        label = f"packed row of {tokens:,} tokens, {name}"
        if attend is None:
            card.say({"name": label, "absent": "needs torch.nn.attention.varlen and a GPU"})
            continue
        error = float((attend(*given) - reference).abs().max())
        reset_peaks()
        times = sorted(
            seconds_of(lambda attend=attend: _there_and_back(attend, given), card.device) for _ in range(REPEATS)
        )
        card.say({"name": label, "maxError": error, "milliseconds": round(1000 * times[REPEATS // 2], 3), **peaks()})


def _there_and_back(attend: Callable[..., torch.Tensor], given: list[torch.Tensor]) -> None:
    inputs = [tensor.detach().requires_grad_() for tensor in given]
    attend(*inputs).sum().backward()


def leaks(card: Card) -> None:
    """Change the first document of a packed row: nothing of the others may change."""
    lengths = [20, 24, 20]
    before = heads(card, sum(lengths))
    after = [tensor.clone() for tensor in before]
    for tensor in after:
        tensor[:, :, : lengths[0]] += 1.0
    for name, attend in (("dense mask", dense(lengths, card.device)), ("varlen", varlen(card, lengths))):
        if attend is not None:
            others = [attend(*given)[:, :, lengths[0] :] for given in (before, after)]
            card.say({"name": f"leak, {name}", "largestChange": float((others[0] - others[1]).abs().max())})
