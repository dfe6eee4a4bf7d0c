"""Keep tensors in main memory and bring them back to the card one ahead of the other, beside its work.

A stream of its own copies both ways, through two slots on the card in each direction: one is copied while the other is
read or written by the attention under way, so what lies on the card never grows, however far Python runs ahead of it.
Nothing waits on the host. Host buffers are pinned by ComfyUI, which counts what it pins; those that it does not pin
(too much is pinned, or too small) are copied all the same, with less overlap. Where the device has no streams (a CPU)
the same steps are taken in order.

Not seen here: the copies at work on a real card (`python dev.py gpu` compares them there, bit by bit).
"""

import contextlib
import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch

import comfy.model_management

from ...engine.plan.needs import SLOTS
from .ledger import LEDGER

ALIGNED_BYTES = 256  # of each tensor in a slot
PIN_FROM_BYTES = 2**20  # smaller buffers share pages with others, which cannot be pinned twice


@dataclass(frozen=True, eq=False)
class HostTensor:
    """A tensor lies in a buffer of main memory, which may be larger than it."""

    buffer: torch.Tensor  # uint8, flat
    shape: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> torch.Tensor:
        """Return it as it was stored."""
        return _typed(self.buffer, 0, self.shape, self.dtype)


class Rows(NamedTuple):
    """These rows, along the first axis, of a stored tensor are wanted."""

    host: HostTensor
    rows: slice

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return self.rows.stop - self.rows.start, *self.host.shape[1:]


@dataclass
class Slot:
    """A place on the card for one group on its way.

    holds: what was asked for ahead. filled, free: events on the device, None where there are no streams.
    """

    buffer: torch.Tensor | None = None
    holds: tuple[Rows, ...] = ()
    filled: Any = None
    free: Any = None


@dataclass
class Ring:
    """Slots are used in turn."""

    slots: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(SLOTS)])
    turn: int = 0

    def next(self, but: Slot | None = None) -> Slot:
        """Return the slot whose turn it is, passing over one."""
        self.turn = (self.turn + 1) % len(self.slots)
        return self.next() if self.slots[self.turn] is but else self.slots[self.turn]


class MainMemory:
    """Keeps tensors of one device. owner: the name of a node, for the ledger."""

    def __init__(self, device: torch.device, owner: str):
        self.device, self.owner = device, owner
        streams = getattr(torch, device.type) if device.type in ("cuda", "xpu") else None
        self.streams, self.stream = streams, None if streams is None else streams.Stream(device=device)
        self.spare: list[torch.Tensor] = []
        self.to_host, self.to_card = Ring(), Ring()
        self.reading: Slot | None = None
        self.buffers: list[torch.Tensor] = []
        weakref.finalize(self, _release, self.stream, self.buffers).atexit = False

    def store(self, tensor: torch.Tensor) -> HostTensor:
        """Begin to copy a tensor of the card to main memory; its own memory is free at once."""
        host = HostTensor(self._host_buffer(tensor.nbytes), tuple(tensor.shape), tensor.dtype)
        slot = self.to_host.next()
        self._card_waits(slot.free)
        on_card = self._place(slot, [(host.shape, host.dtype)])[0]
        on_card.copy_(tensor)
        slot.filled = self._event()
        with self._copying(slot.filled):
            host.tensor().copy_(on_card, non_blocking=self.stream is not None)
            slot.free = self._event(self.stream)
        return host

    def fetch(self, wanted: Sequence[Rows], ahead: Sequence[Rows] = ()) -> list[torch.Tensor]:
        """Return the rows on the card, and begin to copy those that come `ahead`.

        What is returned may be read until the next call, and not be written.
        """
        if self.reading is not None:
            self.reading.free = self._event()
        slot = next((slot for slot in self.to_card.slots if _same(slot.holds, wanted)), None)
        slot = slot or self._copy(wanted, self.to_card.next())
        self._card_waits(slot.filled)
        self.reading = slot
        views = self._place(slot, [(rows.shape(), rows.host.dtype) for rows in wanted])
        if ahead and not any(_same(other.holds, ahead) for other in self.to_card.slots):
            self._copy(ahead, self.to_card.next(but=slot))
        return views

    def let_go(self, host: HostTensor) -> None:
        """Use the buffer of a stored tensor again for the next one that it can hold.

        Copies that were asked for come first: both are in the order of one stream.
        """
        self.spare.append(host.buffer)

    def _copy(self, wanted: Sequence[Rows], slot: Slot) -> Slot:
        on_card = self._place(slot, [(rows.shape(), rows.host.dtype) for rows in wanted])
        with self._copying(slot.free):
            for view, (host, rows) in zip(on_card, wanted, strict=True):
                view.copy_(host.tensor()[rows], non_blocking=self.stream is not None)
            slot.filled = self._event(self.stream)
        slot.holds = tuple(wanted)
        return slot

    def _place(self, slot: Slot, tensors: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> list[torch.Tensor]:
        """Return views of a slot's buffer for tensors of these shapes and dtypes, one behind the other."""
        starts, size_bytes = [], 0
        for shape, dtype in tensors:
            starts.append(size_bytes)
            size_bytes += -(-prod(shape) * dtype.itemsize // ALIGNED_BYTES) * ALIGNED_BYTES
        if slot.buffer is None or slot.buffer.numel() < size_bytes:
            if slot.buffer is not None and self.stream is not None:
                slot.buffer.record_stream(self.stream)  # a copy may be under way in the smaller one
            slot.buffer = torch.empty(size_bytes, dtype=torch.uint8, device=self.device)
            slot.free = self._event()  # what lay there before may be read up to here
            LEDGER.note(slot.buffer, self.owner, "a slot for keys and values on their way")
        return [_typed(slot.buffer, start, *tensor) for start, tensor in zip(starts, tensors, strict=True)]

    def _host_buffer(self, size_bytes: int) -> torch.Tensor:
        near = sorted(
            (spare for spare in self.spare if 1 / 2 <= spare.numel() / size_bytes <= 2), key=torch.Tensor.numel
        )
        fitting = [spare for spare in near if spare.numel() >= size_bytes]
        chosen = (fitting or near or [None])[0]
        self.spare = [spare for spare in self.spare if spare is not chosen]
        if fitting:
            return chosen
        if near:  # too small, as those of a first segment without a frame in front: a larger one takes its place
            self._give_back(chosen)
            del chosen
        buffer = torch.empty(size_bytes, dtype=torch.uint8)
        pins = self.stream is not None and size_bytes >= PIN_FROM_BYTES
        if pins and not comfy.model_management.pin_memory(buffer):
            logging.info("%s: ComfyUI pins no more main memory; copies to the card are slower", self.owner)
        self.buffers.append(buffer)
        return LEDGER.note(buffer, self.owner, "keys and values in main memory")

    def _give_back(self, buffer: torch.Tensor) -> None:
        """Forget a buffer, when the copies to and from it are through."""
        self.buffers[:] = [other for other in self.buffers if other is not buffer]
        for slot in self.to_card.slots:
            if any(rows.host.buffer is buffer for rows in slot.holds):
                slot.holds = ()  # it was let go, so nobody asks for it again
        _release(self.stream, [buffer])

    def _event(self, stream: Any = None) -> Any:
        """Return an event at the end of what a stream, by default the card's work, was asked for up to here."""
        if self.streams is None:
            return None
        event = self.streams.Event()
        event.record(self.streams.current_stream(self.device) if stream is None else stream)
        return event

    def _card_waits(self, event: Any) -> None:
        if event is not None:
            self.streams.current_stream(self.device).wait_event(event)

    @contextlib.contextmanager
    def _copying(self, after: Any):
        """Copy within, on the stream of copies, after an event."""
        if self.streams is None:
            yield
            return
        if after is not None:
            self.stream.wait_event(after)
        with self.streams.stream(self.stream):
            yield


def _same(held: Sequence[Rows], wanted: Sequence[Rows]) -> bool:
    return len(held) == len(wanted) and all(
        one.host is other.host and one.rows == other.rows for one, other in zip(held, wanted, strict=True)
    )


def _typed(buffer: torch.Tensor, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return buffer[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)


def _release(stream: Any, buffers: list[torch.Tensor]) -> None:
    """Give back pinned memory when all copies are through."""
    if stream is not None:
        stream.synchronize()
        for buffer in buffers:
            if buffer.is_pinned():
                comfy.model_management.unpin_memory(buffer)
