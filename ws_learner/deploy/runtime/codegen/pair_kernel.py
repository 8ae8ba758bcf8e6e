"""Look up embeddings and multiply all pairs of them, example by example, by AMX tiles of bfloat16.

This is the front of a recommender (Naumov et al. 2019, section 2): an example has one vector that
was computed and one from each table. Four examples at a time go through three steps (look up,
multiply, write), because a tile load has to wait for stores that are still under way.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import I1, I16, I32, I64, PTR, Emitter
from ws_learner.deploy.runtime.codegen.tile_multiply import configure_tiles, use_tile

__all__ = ["PAIR_SLOTS", "pair_scratch", "pair_source"]

PAIR_SLOTS = ("table", "indices", "starts", "rows", "wrong")
"""The numbers of the kernel's table: four addresses, and where to note an index out of range."""

_GROUP, _AHEAD = 4, 2  # examples in a step; examples between a prefetch and its use
_ROWS = 32  # vectors of an example, padded
_PRODUCTS = _ROWS * _ROWS * 4
_TILES = ((0, 0, 0), (1, 1, 0), (2, 1, 1))  # register, half of the rows, half of the columns


def pair_scratch(width: int) -> int:
    """Bytes of working memory for vectors of `width` numbers."""
    return 64 + _GROUP * (2 * _ROWS * width * 2 + _PRODUCTS)


def pair_source(tables: int, width: int) -> str:
    """The kernel in LLVM's language.

    Called with the computed vectors (B, width) float32 as input, and (B, width + pairs) as output:
    the computed vector itself, then the product of vectors i > j in the order of rows.

    Args:
        tables: At most 31.
        width: Numbers in a vector, a multiple of 32.
    """
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=16)
    numbers, x, y, scratch, begin, end = e.arguments
    table: dict[str, Any] = {
        name: e.builder.inttoptr(e.load(I64, numbers, 8 * slot), PTR)
        for slot, name in enumerate(PAIR_SLOTS)
    }
    configure_tiles(e, scratch)
    vectors = e.at(scratch, 64)
    turned = e.at(vectors, _GROUP * _ROWS * width * 2)
    products = e.at(turned, _GROUP * _ROWS * width * 2)
    size = _ROWS * width * 2
    with e.loop(0, _GROUP) as i, e.loop((tables + 1) * width * 2, size, 64) as place:
        e.store(ir.Constant(e.ints, None), vectors, e.add(e.mul(i, size), place))
    outputs = width + tables * (tables + 1) // 2
    with e.loop(begin, end, _GROUP) as first:
        last = e.least(e.add(first, _GROUP), end)
        with e.loop(first, last) as example:
            own = e.at(vectors, e.mul(e.sub(example, first), size))
            _round(e, e.at(x, e.mul(example, 4 * width)), own, width)
            _look_up(e, table, example, own, tables=tables, width=width, end=end)
            _turn(e, own, e.at(turned, e.mul(e.sub(example, first), size)), width)
        with e.loop(first, last) as example:
            place = e.mul(e.sub(example, first), size)
            result = e.at(products, e.mul(e.sub(example, first), _PRODUCTS))
            _multiply(e, e.at(vectors, place), e.at(turned, place), result, width)
        with e.loop(first, last) as example:
            result = e.at(products, e.mul(e.sub(example, first), _PRODUCTS))
            out = e.at(y, e.mul(example, 4 * outputs))
            _write(e, e.at(x, e.mul(example, 4 * width)), result, out, tables=tables, width=width)
    e.call("llvm.x86.tilerelease", ir.VoidType())
    return e.finish()


def _round(e: Emitter, x: Any, to: Any, width: int) -> None:
    """Floats to the nearest bfloat16, ties to even; a NaN stays one."""
    b = e.builder

    def word(value: int) -> Any:
        return ir.Constant(e.ints, [value] * e.lanes)

    for k in range(0, width, e.lanes):
        bits = e.load(e.ints, x, 4 * k)
        odd = b.and_(b.lshr(bits, word(16)), word(1))
        even = b.add(bits, b.add(odd, word(0x7FFF)))
        floats = b.bitcast(bits, e.floats)
        quiet = b.or_(bits, word(1 << 22))
        kept = b.select(b.fcmp_unordered("uno", floats, floats), quiet, even)
        e.store(b.trunc(b.lshr(kept, word(16)), ir.VectorType(I16, e.lanes)), to, 2 * k)


def _look_up(
    e: Emitter, table: dict[str, Any], example: Any, own: Any, *, tables: int, width: int, end: Any
) -> None:
    """Copy a row of each table; an index out of range is noted, and reads the first row."""
    b, ahead = e.builder, e.least(e.add(example, _AHEAD), e.sub(end, 1))
    with e.loop(0, tables) as t:
        start = e.load(I64, table["starts"], e.mul(t, 8))
        rows = e.load(I64, table["rows"], e.mul(t, 8))

        def row_of(which: Any) -> tuple[Any, Any]:
            place = e.mul(e.add(e.mul(which, tables), t), 8)
            index = e.load(I64, table["indices"], place)
            inside = b.icmp_unsigned("<", index, rows)
            at = e.add(start, b.select(inside, index, e.word(0)))
            return e.at(table["table"], e.mul(at, 2 * width)), inside

        later, _ = row_of(ahead)
        for place in range(0, 2 * width, 64):
            constants = [ir.Constant(I32, value) for value in (0, 2, 1)]  # into L2
            e.call("llvm.prefetch.p0", ir.VoidType(), e.at(later, place), *constants)
        row, inside = row_of(example)
        with b.if_then(b.not_(inside), likely=False):
            e.store(e.word(1), table["wrong"])
        for place in range(0, 2 * width, 64):
            to = e.add(e.mul(e.add(t, 1), 2 * width), place)
            e.store(e.load(e.ints, row, place), own, to)


def _turn(e: Emitter, own: Any, turned: Any, width: int) -> None:
    """Tiles of the second factor: pairs of numbers down, vectors across."""
    with e.loop(0, width // 32) as step, e.loop(0, 2) as half:
        base = e.add(e.mul(half, 16 * 2 * width), e.mul(step, 64))
        rows = [e.load(e.ints, own, e.add(base, j * 2 * width)) for j in range(16)]
        place = e.mul(e.add(e.mul(step, 2), half), 1024)
        for j, row in enumerate(e.transpose(rows)):
            e.store(row, turned, e.add(place, j * 64))


def _multiply(e: Emitter, own: Any, turned: Any, products: Any, width: int) -> None:
    """The lower triangle, in tiles of 16 x 16: registers 0 to 2 sum, 3 to 6 hold factors."""
    row, packed = ir.Constant(I64, 2 * width), ir.Constant(I64, 64)
    for register, _, _ in _TILES:
        use_tile(e, "tilezero", register)
    for step in range(width // 32):
        for half in range(2):
            rows = e.at(own, half * 16 * 2 * width + step * 64)
            use_tile(e, "tileloadd64", 3 + half, rows, row)
            columns = e.at(turned, (step * 2 + half) * 1024)
            use_tile(e, "tileloadd64", 5 + half, columns, packed)
        for register, down, across in _TILES:
            use_tile(e, "tdpbf16ps", register, 3 + down, 5 + across)
    for register, down, across in _TILES:
        place = e.at(products, down * 16 * 4 * _ROWS + across * 64)
        use_tile(e, "tilestored64", register, place, ir.Constant(I64, 4 * _ROWS))


def _write(e: Emitter, x: Any, products: Any, out: Any, *, tables: int, width: int) -> None:
    for k in range(0, width, e.lanes):
        e.store(e.load(e.floats, x, 4 * k), out, 4 * k)
    place = width
    for i in range(1, tables + 1):
        for j in range(0, i, e.lanes):
            values = e.load(e.floats, products, 4 * (i * _ROWS + j))
            lanes = [int(j + lane < i) for lane in range(e.lanes)]
            mask = ir.Constant(ir.VectorType(I1, e.lanes), lanes)
            e.store_masked(values, out, 4 * (place + j), mask)
        place += i
