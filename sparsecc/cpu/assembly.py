"""Straight-line plans as text of x86-64 assembly: one instruction for each nonzero and vector of positions.

Every chunk is a function of the System V ABI,

    chunk(x, a, y, ldy, source, lds, ldx, code, values)

x: the vector of the block's first row of X, ldx: bytes from row to row; a: the chunk's values; y: the vector
of the result's first row, ldy: bytes from row to row; source, lds: as y, what accumulators begin with (the
sums of the blocks before, or what is to be added); code, values: what code that was written for it
fetches to the second cache meanwhile. The pattern is in the code; values, strides and everything else that a
call may choose are not.

One instruction of AVX-512 multiplies a vector of X by a value broadcast from memory and adds it: 7 bytes,
because the pointer to the values stands in the middle of what one scaled byte of displacement reaches. AVX2
needs a load that broadcasts, and then the multiplication. Rows of X are addressed by the eight forms that
x86 has for a pointer and 0 to 7 strides; the pointer moves on every eight columns. Where rows of X lie at
places that are known when the code is written, such as the patches of a convolution, these are in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import line_starts
from sparsecc.cpu.plan import LinePlan
from sparsecc.epilogue import Activation

Isa = Literal["avx512", "avx2"]
Text = NDArray[np.object_]

# A pointer and 0 to 7 strides: rax holds 7 of them, r8 5, r11 3, r10 one.
FORMS = (
    "(%rdi)",
    "(%rdi,%r10)",
    "(%rdi,%r10,2)",
    "(%rdi,%r11)",
    "(%rdi,%r10,4)",
    "(%rdi,%r8)",
    "(%rdi,%r11,2)",
    "(%rdi,%rax)",
)
STRIDES = "lea (%r10,%r10,2),%r11\nlea (%r10,%r10,4),%r8\nlea (%r11,%r10,4),%rax\n"
# The stack holds the return address, then ldx, code and values; two more registers move these by 16 bytes.
STACKED = "mov 8(%rsp),%r10\n"
FETCHING = "push %rbx\npush %rbp\nmov 24(%rsp),%r10\nmov 32(%rsp),%rbx\nmov 40(%rsp),%rbp\n"
FETCHED = "pop %rbp\npop %rbx\n"
LINE = 64


@dataclass(frozen=True)
class Registers:
    """How an instruction set's vector registers are used."""

    isa: Isa
    lanes: int
    """f32 lanes of a vector: 16 or 8 with AVX-512, 8 with AVX2."""
    product: str = "vfmadd231ps"
    """What multiplies a vector by a value and adds it; values of narrow types are words of several."""
    add: str = "vaddps"
    """What adds a bias."""

    @property
    def name(self) -> str:
        return "zmm" if self.lanes == 16 else "ymm"

    @property
    def accumulators(self) -> int:
        return 28 if self.isa == "avx512" else 13

    @property
    def vectors(self) -> tuple[int, ...]:
        """Registers for vectors of X, taken in turn; AVX2 has its last one for values."""
        return (28, 29, 30, 31) if self.isa == "avx512" else (13, 14)

    @property
    def bytes_of_product(self) -> int:
        """How long the code of one product is, which may load its value first."""
        return 7 if self.isa == "avx512" else 11

    @property
    def window(self) -> int:
        """Values that one position of the pointer to them reaches with a displacement of one byte."""
        return 256 if self.isa == "avx512" else 64


@dataclass(frozen=True)
class Epilogue:
    """What is fused to the product: y = f(W x + bias + residual)."""

    bias: bool = False
    """bias [M] is added. It lies after the values."""
    relu: bool = False
    """Results below 0 become 0; NaN stays."""
    residual: bool = False
    """Another matrix [M, N] is added."""
    limits: tuple[float, float] | None = None
    """Results are limited to these; NaN stays."""
    activation: Activation | None = None
    """Or become this function of themselves."""

    @property
    def slope(self) -> float | None:
        """Of the negative results, where it is one for all."""
        found = self.activation
        return found.numbers[0] if found and found.name == "leaky_relu" and found.numbers else None


PLAIN = Epilogue()


def _array(texts: Sequence[str]) -> Text:
    out = np.empty(len(texts), object)
    out[:] = texts
    return out


class _Vocabulary:
    """The lines that differ from nonzero to nonzero, to be looked up by number."""

    def __init__(self, registers: Registers, height: int, width: int):
        name, window, vectors = registers.name, registers.window, registers.vectors
        values = [f"{4 * d - 2 * window or ''}(%rsi)" for d in range(window)]
        self.loads = _array([f"vmovups {FORMS[c]},%{name}{v}\n" for v in vectors for c in range(8)])
        if registers.isa == "avx512":
            spread = f"{{1to{registers.lanes}}}"
            self.products = _array(
                [
                    f"{registers.product} {d}{spread},%{name}{v},%{name}{s}\n"
                    for v in vectors
                    for s in range(height)
                    for d in values
                ]
            )
        else:
            self.products = _array(
                [
                    f"vbroadcastss {d},%ymm15\n{registers.product} %ymm15,%ymm{v},%ymm{s}\n"
                    for v in vectors
                    for s in range(height)
                    for d in values
                ]
            )
        ahead = "lea (%rdi,%r10,8),%rdi\n"
        self.moves = _array(
            [ahead * d if d < 4 else f"imul ${8 * d},%r10,%r9\nadd %r9,%rdi\n" for d in range(width // 8 + 1)]
        )
        self.step = f"add ${4 * window},%rsi\n"


def _stream(
    plan: LinePlan, registers: Registers, places: NDArray[np.int64] | None
) -> tuple[Text, NDArray[np.int64]]:
    """The lines of all nonzeros, and where in them each chunk begins [chunks + 1]."""
    words = _Vocabulary(registers, plan.height, plan.width)
    first = plan.first()
    chunk = np.repeat(np.arange(len(plan.ends) - 1), np.diff(plan.ends))
    inside = np.arange(plan.nnz) - plan.ends[chunk]
    vector = (np.cumsum(first) - 1) % len(registers.vectors)
    value = inside % registers.window
    step = (value == 0) & (inside > 0)
    # Before a nonzero stand, where needed: a step of the pointer to values, one of that to X, a load.
    octet = plan.column // 8
    moved = octet.copy()
    moved[1:] -= np.where(chunk[1:] == chunk[:-1], octet[:-1], 0)
    move = moved > 0 if places is None else np.zeros(plan.nnz, bool)
    end = np.cumsum(1 + first + step + move)
    out = np.empty(int(end[-1]) if plan.nnz else 0, object)
    out[end - 1] = words.products[(vector * plan.height + plan.slot) * registers.window + value]
    if places is None:
        out[(end - 2)[first]] = words.loads[(vector * 8 + plan.column % 8)[first]]
    else:
        bytes_in, into = (4 * places)[plan.column[first]], vector[first]
        out[(end - 2)[first]] = [
            f"vmovups {at or ''}(%rdi),%{registers.name}{registers.vectors[v]}\n"
            for at, v in zip(bytes_in.tolist(), into.tolist(), strict=True)
        ]
    out[(end - 2 - first)[move]] = words.moves[moved[move]]
    out[(end - 2 - first - move)[step]] = words.step
    return out, np.concatenate([[0], end])[plan.ends]


def _rows(plan: LinePlan, chunk: int, base: str, stride: str, line: str) -> str:
    """One line for each row of a chunk; {row} becomes its operand, {slot} its accumulator."""
    out: list[str] = []
    for slot, row in enumerate(plan.rows_of(chunk)):
        operand = f"({base},%rax)" if row else f"({base})"
        out.append(f"imul ${row},{stride},%rax\n" if row else "")
        out.append(line.replace("{row}", operand).replace("{slot}", str(slot)))
    return "".join(out)


def _begin(plan: LinePlan, registers: Registers, epilogue: Epilogue, chunk: int) -> str:
    """Gives the accumulators what they begin with."""
    name, rows = registers.name, len(plan.rows_of(chunk))
    if chunk >= plan.groups or epilogue.residual:
        return _rows(plan, chunk, "%r8", "%r9", f"vmovups {{row}},%{name}{{slot}}\n")
    return "".join(_clear(registers, slot) for slot in range(rows))


def _with_fetches(body: Text, nnz: int, registers: Registers, panels: int) -> Text:
    """A chunk's lines, and among them prefetches of a share, one of `panels`, of as much code and values.

    Many at a time would be dropped by the processor, and loads instead would hold up what follows them.
    """
    share = LINE * panels
    code, values = -(-registers.bytes_of_product * len(body) // share), -(-4 * nnz // share)
    lines = [f"prefetcht1 {LINE * i}(%rbx)\n" for i in range(code)]
    lines += [f"prefetcht1 {LINE * i}(%rbp)\n" for i in range(values)]
    at = [(2 * i + 1) * len(body) // (2 * count) for count in (code, values) for i in range(count)]
    return np.insert(body, at, _array(lines))


def assembly(
    plan: LinePlan,
    registers: Registers,
    epilogue: Epilogue,
    symbol: str,
    places: NDArray[np.int64] | None = None,
    fetches: int = 0,
) -> str:
    """The text of all chunks, and of `symbol`_table: of each its function and where its values begin,
    and at last where both end.

    places: [K] of plans of one block: elements from the vector of the first row of X to that of each row, for
    code that is to be called with strides of 0.
    fetches: panels that share out the fetching of what runs next; 0: the code does not fetch.
    """
    assert places is None or (plan.blocks == 1 and not fetches)
    stream, begins = _stream(plan, registers, places)
    out = [".text\n"]
    last = plan.groups * (plan.blocks - 1)
    for chunk in range(len(plan.ends) - 1):
        out.append(f".p2align 6\n{symbol}_{chunk}:\n")
        out.append(_begin(plan, registers, epilogue, chunk))
        body = stream[begins[chunk] : begins[chunk + 1]]
        if places is None:
            out.append((FETCHING if fetches else STACKED) + STRIDES)
        if fetches:
            body = _with_fetches(body, int(plan.ends[chunk + 1] - plan.ends[chunk]), registers, fetches)
        out.extend(body)
        out.append(FETCHED if fetches else "")
        if chunk >= last:
            out.append(_finish(plan, registers, epilogue, chunk))
        out.append(_rows(plan, chunk, "%rdx", "%rcx", f"vmovups %{registers.name}{{slot}},{{row}}\n"))
        out.append("ret\n")
    out.append(f"{symbol}_{len(plan.ends) - 1}:\n")
    out.append(f'.section .data.rel.ro,"aw"\n.p2align 3\n.globl {symbol}_table\n{symbol}_table:\n')
    starts = line_starts(plan, epilogue.bias)
    out += [f".quad {symbol}_{c},{starts[c]}\n" for c in range(len(plan.ends))]
    out.append('.section .note.GNU-stack,"",@progbits\n')
    return "".join(out)


def _finish(plan: LinePlan, registers: Registers, epilogue: Epilogue, chunk: int) -> str:
    """What is fused. The bias of the rows follows the values as if it were a last column."""
    name, window = registers.name, registers.window
    rows, values = len(plan.rows_of(chunk)), int(plan.ends[chunk + 1] - plan.ends[chunk])
    # A register for vectors of X is free by now.
    free = f"%{name}{registers.vectors[0]}"
    out: list[str] = []
    for slot in range(rows if epilogue.bias else 0):
        value = values + slot
        if value and value % window == 0:
            out.append(f"add ${4 * window},%rsi\n")
        operand = f"{4 * (value % window) - 2 * window or ''}(%rsi)"
        out.append(f"vbroadcastss {operand},{free}\n{registers.add} {free},%{name}{slot},%{name}{slot}\n")
    if epilogue.relu:
        # The maximum with a NaN is its last operand, which AT&T syntax writes first.
        out.append(_clear(registers, registers.vectors[0]))
        out += [f"vmaxps %{name}{slot},{free},%{name}{slot}\n" for slot in range(rows)]
    for limit, keep in zip(epilogue.limits or (), ("max", "min"), strict=False):
        if np.isfinite(limit):
            out.append(_constant(registers, limit, registers.vectors[0]))
            out += [f"v{keep}ps %{name}{slot},{free},%{name}{slot}\n" for slot in range(rows)]
    if epilogue.slope is not None:
        out.append(_constant(registers, epilogue.slope, registers.vectors[0]))
        if registers.isa == "avx512":
            out.append(_clear(registers, registers.vectors[1]))
        out += [_sloped(registers, slot) for slot in range(rows)]
    return "".join(out)


def _constant(registers: Registers, value: float, register: int) -> str:
    """Fills a register with a number."""
    bits = int(np.float32(value).view(np.uint32))
    name = f"%{registers.name}{register}"
    if registers.isa == "avx512":
        return f"mov ${bits},%eax\nvpbroadcastd %eax,{name}\n"
    return f"mov ${bits},%eax\nvmovd %eax,%xmm{register}\nvbroadcastss %xmm{register},{name}\n"


def _sloped(registers: Registers, slot: int) -> str:
    """What is below 0 is multiplied by the slope, which stands in the first register for vectors."""
    name, (slope, other, *_) = registers.name, registers.vectors
    sums = f"%{name}{slot}"
    if registers.isa == "avx512":
        return f"vcmpltps %{name}{other},{sums},%k1\nvmulps %{name}{slope},{sums},{sums}{{%k1}}\n"
    # The sign of the mask decides.
    return f"vmulps %{name}{slope},{sums},%{name}{other}\nvblendvps {sums},%{name}{other},{sums},{sums}\n"


def _clear(registers: Registers, register: int) -> str:
    xmm = f"%xmm{register}"
    return f"{'vpxord' if registers.isa == 'avx512' else 'vxorps'} {xmm},{xmm},{xmm}\n"
