"""The bit stream of a JPEG scan: where each block begins, found in many places at once (ITU-T T.81, annex F).

Huffman codes have to be read one after another, which is slow in Python. But a decoder that begins anywhere soon falls into
step with the codes (Klein & Wiseman 2003, "Parallel Huffman Decoding with Applications to JPEG Files"). So the stream is cut
into lanes, which advance together, one code at each step of numpy; each begins a little before its own part. Where a lane did
not begin in step with the end of the one before, it is read again from there.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.int64]
"""Positions in a stream, in bits."""

_LANE, _MOST_LANES, _LEAD = 4096, 4096, 1024
"""The least length of a lane in bits, how many there are at most, and how far ahead of it reading begins."""
_WORD = 16
_ALL = 1 << _WORD
_END_OF_BLOCK, _STATES = 64, 128
_FEW = 24
"""Up to this many lanes are read again one by one."""
_PIECE = 1 << 17
"""Bits that are put together at a time."""


class HuffmanTable(NamedTuple):
    """A Huffman table as stored: the number of codes of each length, 1 to 16, and their symbols."""

    counts: bytes
    symbols: bytes

    def codes(self, symbols: Bits) -> tuple[Bits, Bits]:
        """The codes of symbols that the table has, and their lengths."""
        codes, lengths = (np.zeros(256, np.int64) for _ in range(2))
        code, at = 0, 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[at : at + count]:
                codes[symbol], lengths[symbol] = code, length
                code += 1
            code, at = code << 1, at + count
        return codes[symbols], lengths[symbols]


@lru_cache(maxsize=32)
def _decoded(table: HuffmanTable) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Length of the code that each 16 bits begin with, and its symbol; length 0 where there is none."""
    lengths, symbols = (np.zeros(_ALL, np.int32) for _ in range(2))
    at, number = 0, 0
    for length, count in enumerate(table.counts, 1):
        span = _ALL >> length
        for symbol in table.symbols[number : number + count]:
            lengths[at : at + span], symbols[at : at + span] = length, symbol
            at += span
        number += count
    return lengths, symbols


@lru_cache(maxsize=32)
def _steps(table: HuffmanTable, *, dc: bool, last: bool) -> NDArray[np.int32]:
    """What each 16 bits mean: bits to advance, and coefficients to advance times 32."""
    lengths, symbols = _decoded(table)
    sizes = symbols & 15
    if dc:
        advance = np.full_like(sizes, _END_OF_BLOCK if last else 1)
    else:
        run = symbols >> 4
        advance = np.where(sizes > 0, run + 1, np.where(run == 15, 16, _END_OF_BLOCK))
    steps = np.where(lengths > 0, (lengths + sizes) | advance << 5, 1 | _END_OF_BLOCK << 5)
    return steps.astype(np.int32)


class BitStream:
    """The data of a scan, without stuffed bytes.

    Attributes:
        firsts: Where each segment begins.
        end: Where the last one ends.
    """

    def __init__(self, segments: Sequence[bytes]) -> None:
        sizes = [8 * len(segment) for segment in segments]
        self.firsts: Bits = np.cumsum([0, *sizes[:-1]])
        self.end = sum(sizes)
        padded = np.frombuffer(b"".join([*segments, bytes(8)]), np.uint8)
        self.bytes = padded
        words = np.zeros(padded.size - 3, np.uint32)
        for i in range(4):
            words |= padded[i : padded.size - 3 + i].astype(np.uint32) << np.uint32(24 - 8 * i)
        self.words = words

    def peek(self, at: Bits) -> Bits:
        """The 16 bits at each position."""
        at = np.minimum(at, self.end + 8)
        bits: Bits = self.words[at >> 3].astype(np.int64) >> (_WORD - (at & 7)) & (_ALL - 1)
        return bits

    def dc_of(self, starts: Bits, table: HuffmanTable) -> tuple[Bits, Bits]:
        """The DC difference of blocks, and where it ends."""
        lengths, symbols = _decoded(table)
        peeked = self.peek(starts)
        length, size = lengths[peeked].astype(np.int64), (symbols[peeked] & 15).astype(np.int64)
        value = self.peek(starts + length) >> (_WORD - size)
        negative = (value < (1 << size >> 1)) & (size > 0)
        return np.where(negative, value - (1 << size) + 1, value), starts + length + size


class _Machine:
    """The tables of all blocks of an MCU, and the states of a decoder: block of the MCU times 128, plus coefficient."""

    def __init__(self, units: Sequence[tuple[HuffmanTable, HuffmanTable | None]]) -> None:
        if len(set(units)) == 1:  # which block of the MCU it is follows from their number only
            units = units[:1]
        found: list[NDArray[np.int32]] = []
        places: dict[tuple[HuffmanTable, bool], int] = {}
        offsets = np.zeros(_STATES * len(units), np.int64)
        following = np.arange(_STATES * len(units))
        for number, (dc, ac) in enumerate(units):
            at = number * _STATES
            for table, states, is_dc in ((dc, slice(at, at + 1), True), (ac, slice(at + 1, at + _STATES), False)):
                if table is not None:
                    if (table, is_dc) not in places:
                        places[table, is_dc] = _ALL * len(found)
                        found.append(_steps(table, dc=is_dc, last=ac is None))
                    offsets[states] = places[table, is_dc]
            following[at + _END_OF_BLOCK : at + _STATES] = (number + 1) % len(units) * _STATES
        self.steps, self.offsets, self.following = np.concatenate(found), offsets, following

    def run(self, stream: BitStream, at: Bits, state: Bits, stop: Bits) -> tuple[Bits, Bits, list[tuple[Bits, Bits]]]:
        """Read codes from there until each lane has reached its stop: position and state, and the blocks that began.

        Returns:
            Position and state of each lane; and for each step, which lanes began a block where.
        """
        ends, states = at.copy(), state.copy()
        began: list[tuple[Bits, Bits]] = []
        lanes = np.flatnonzero(at < stop)
        at, state, stop = at[lanes], state[lanes], stop[lanes]
        words, steps, offsets, following = stream.words, self.steps, self.offsets, self.following
        while lanes.size:
            begins = np.flatnonzero((state & (_STATES - 1)) == 0)
            if begins.size:
                began.append((lanes[begins], at[begins]))
            peeked = words[at >> 3].astype(np.int64) >> (_WORD - (at & 7)) & (_ALL - 1)
            step = steps[offsets[state] + peeked]
            at = at + (step & 31)
            state = following[state + (step >> 5)]
            going = at < stop
            if not going.all():
                over = lanes[~going]
                ends[over], states[over] = at[~going], state[~going]
                lanes, at, state, stop = lanes[going], at[going], state[going], stop[going]
        return ends, states, began

    def run_one(self, stream: BitStream, at: int, state: int, stop: int) -> tuple[int, int, list[int]]:
        """The same for a single lane."""
        words, steps = stream.words.data, self.steps.data
        offsets, following = self.offsets.data, self.following.data
        began = []
        while at < stop:
            if not state & (_STATES - 1):
                began.append(at)
            step = steps[offsets[state] + (words[at >> 3] >> (_WORD - (at & 7)) & (_ALL - 1))]
            at += step & 31
            state = following[state + (step >> 5)]
        return at, state, began


def unit_starts(
    stream: BitStream, units: Sequence[tuple[HuffmanTable, HuffmanTable | None]], expected: Sequence[int]
) -> tuple[Bits, Bits]:
    """Where each block of a scan begins and ends.

    Args:
        stream: The scan's data.
        units: The tables, DC and AC, of each block of an MCU.
        expected: The number of blocks in each segment of the stream.

    Raises:
        ValueError: A segment has fewer blocks.
    """
    machine = _Machine(units)
    length = max(_LANE, stream.end // _MOST_LANES)
    lasts = np.append(stream.firsts[1:], stream.end)
    counts = np.maximum(1, -(-(lasts - stream.firsts) // length))
    segment = np.repeat(np.arange(counts.size), counts)
    number = np.arange(segment.size) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = stream.firsts[segment] + number * length
    stop = np.minimum(begin + length, lasts[segment])
    lead = np.where(number > 0, np.maximum(begin - _LEAD, stream.firsts[segment]), begin)
    entry, state, _ = machine.run(stream, lead, np.zeros_like(lead), begin)
    end, end_state, began = machine.run(stream, entry, state, stop)
    lanes, starts = (np.concatenate([part[i] for part in began]) for i in range(2)) if began else (begin[:0], begin[:0])
    starts = _in_step(machine, stream, (number > 0, entry, state, stop, end, end_state), lanes, starts)
    bounds = np.searchsorted(starts, stream.firsts)
    if np.any(np.diff([*bounds.tolist(), starts.size]) < expected):
        raise ValueError("a segment has too few blocks")
    kept = np.concatenate([first + np.arange(count) for first, count in zip(bounds, expected, strict=True)])
    return starts[kept], np.append(starts, stream.end)[kept + 1]


def _in_step(
    machine: _Machine,
    stream: BitStream,
    found: tuple[NDArray[np.bool_], Bits, Bits, Bits, Bits, Bits],
    lanes: Bits,
    starts: Bits,
) -> Bits:
    """All beginnings, in order, once the lanes that did not begin in step with the one before have been read again."""
    follows, entry, state, stop, end, end_state = found

    def out_of_step() -> Bits:
        wrong = follows[1:] & ((entry[1:] != end[:-1]) | (state[1:] != end_state[:-1]))
        return np.flatnonzero(wrong) + 1

    wrong = out_of_step()
    for _ in range(4):
        if wrong.size <= _FEW:
            break
        entry[wrong], state[wrong] = end[wrong - 1], end_state[wrong - 1]
        end[wrong], end_state[wrong], began = machine.run(stream, entry[wrong], state[wrong], stop[wrong])
        kept = ~np.isin(lanes, wrong)
        lanes = np.concatenate([lanes[kept], *(wrong[which] for which, _ in began)])
        starts = np.concatenate([starts[kept], *(where for _, where in began)])
        wrong = out_of_step()
    again: dict[int, list[int]] = {}
    for lane in wrong.tolist():
        while lane < entry.size and follows[lane] and (entry[lane], state[lane]) != (end[lane - 1], end_state[lane - 1]):
            entry[lane], state[lane] = end[lane - 1], end_state[lane - 1]
            end[lane], end_state[lane], again[lane] = machine.run_one(
                stream, int(entry[lane]), int(state[lane]), int(stop[lane])
            )
            lane += 1  # noqa: PLW2901
    kept = ~np.isin(lanes, list(again))
    return np.sort(np.concatenate([starts[kept], np.array([at for part in again.values() for at in part], np.int64)]))


def pack(stream: BitStream, codes: Bits, lengths: Bits, starts: Bits, ends: Bits) -> bytes:
    """Entropy-coded data of new codes, each followed by bits of a stream.

    Args:
        stream: Where bits are copied from.
        codes: The new codes, right-aligned.
        lengths: Their lengths in bits.
        starts: Where the bits begin that follow each.
        ends: Where they end.
    """
    total = np.cumsum(lengths + ends - starts)
    output: list[bytes] = []
    rest = np.zeros(0, np.uint8)
    cuts = [0, *np.searchsorted(total, np.arange(_PIECE, int(total[-1]), _PIECE)).tolist(), total.size]
    for first, after in pairwise(cuts):
        if first < after:
            piece = slice(first, after)
            bits = np.concatenate([rest, _bits(stream, codes[piece], lengths[piece], starts[piece], ends[piece])])
            whole = bits.size // 8 * 8
            output.append(np.packbits(bits[:whole]).tobytes())
            rest = bits[whole:]
    if rest.size:
        output.append(np.packbits(np.append(rest, np.ones(8 - rest.size, np.uint8))).tobytes())
    return b"".join(output).replace(b"\xff", b"\xff\x00")


def _bits(stream: BitStream, codes: Bits, lengths: Bits, starts: Bits, ends: Bits) -> NDArray[np.uint8]:
    """The bits of codes and of what follows each, one in each byte."""
    sizes = lengths + ends - starts
    block = np.repeat(np.arange(codes.size), sizes)
    offset = np.arange(block.size) - np.repeat(np.cumsum(sizes) - sizes, sizes) - lengths[block]
    at = starts[block] + offset
    copied: NDArray[np.uint8] = stream.bytes[np.maximum(at, 0) >> 3] >> (7 - (at & 7)).astype(np.uint8) & 1
    new = np.flatnonzero(offset < 0)
    copied[new] = codes[block[new]] >> (-1 - offset[new]) & 1
    return copied
