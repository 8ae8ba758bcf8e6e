"""One row's 64 weights as vectors: packed values are expanded by a mask."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.decode.packing import Format
from ws_learner.deploy.runtime.codegen.cpu import Isa
from ws_learner.deploy.runtime.codegen.llvm_emitter import I1, I8, I16, I32, I64, Emitter

__all__ = ["RowReader"]

_BYTES64 = ir.VectorType(I8, 64)


class RowReader:
    """Emits the code that reads 64 weights and moves the place on.

    Attributes:
        parts: Vectors that 64 weights fill.
    """

    def __init__(self, e: Emitter, form: Format, isa: Isa, table: dict[str, Any]) -> None:
        """`table` has the addresses of levels, byte_masks and lane_places."""
        self._e, self._form, self._isa, self._table = e, form, isa, table
        self._one_step, self._plain = "avx512vbmi2" in isa.needs, isa.dot == "plain"
        self._row: Any = None
        self.parts = 64 // (e.lanes * (1 if form.values == "f32" else 4))

    def read(self, place: Any, mask: Any | None) -> list[Any]:
        """The next 64 weights: floats, or bytes; `place` (a variable) then points behind them."""
        if self._plain and (mask is not None or self._form.values == "i4"):
            return self._one_by_one(place, mask)
        read = {"f32": self._floats, "i8": self._bytes, "i4": self._nibbles}[self._form.values]
        return read(place, mask)

    def _one_by_one(self, place: Any, mask: Any | None) -> list[Any]:
        """With plain instructions: each weight is written to a row in memory, or a zero."""
        e, b, values = self._e, self._e.builder, self._form.values
        item, kind = (4, I32) if values == "f32" else (1, I8)
        if self._row is None:
            with b.goto_entry_block():
                self._row = b.alloca(kind, 64)
        start, done = place.get(), e.variable(I64)
        done.set(e.word(0))
        with e.loop(0, 64) as i:
            at = done.get()
            if values == "i4":
                pair = b.zext(e.load(I8, start, b.lshr(at, e.word(1))), I64)
                code = b.lshr(pair, b.shl(b.and_(at, e.word(1)), e.word(2)))
                value = e.load(I8, self._table["levels"], b.and_(code, e.word(15)))
            else:
                value = e.load(kind, start, e.mul(at, item))
            if mask is None:
                bit = e.word(1)
            else:
                bit = b.and_(b.lshr(mask, i), e.word(1))
                value = b.and_(value, b.trunc(b.neg(bit), kind))
            e.store(value, self._row, e.mul(i, item))
            done.set(e.add(at, bit))
        count = done.get()
        self._move(
            place, b.lshr(e.add(count, 1), e.word(1)) if values == "i4" else e.mul(count, item)
        )
        vector = e.floats if values == "f32" else ir.VectorType(I8, 4 * e.lanes)
        return [e.load(vector, self._row, 4 * e.lanes * part) for part in range(self.parts)]

    def _move(self, place: Any, count: Any) -> None:
        place.set(self._e.at(place.get(), count))

    def _ones(self, mask: Any) -> Any:
        return self._e.call(f"llvm.ctpop.i{mask.type.width}", mask.type, mask)

    def _floats(self, place: Any, mask: Any | None) -> list[Any]:
        e, b = self._e, self._e.builder
        if mask is None:
            found = [e.load(e.floats, place.get(), 4 * e.lanes * i) for i in range(self.parts)]
            self._move(place, 256)
            return found
        narrow, vectors = ir.IntType(e.lanes), []
        for i in range(self.parts):
            own = b.trunc(b.lshr(mask, ir.Constant(I64, e.lanes * i)), narrow)
            raw = e.load(e.floats, place.get())
            vectors.append(self._spread_floats(raw, own))
            self._move(place, e.mul(b.zext(self._ones(own), I64), 4))
        return vectors

    def _spread_floats(self, raw: Any, own: Any) -> Any:
        e, b = self._e, self._e.builder
        if e.lanes == 16:
            lanes = b.bitcast(own, ir.VectorType(I1, 16))
            zero = ir.Constant(e.floats, None)
            return e.call("llvm.x86.avx512.mask.expand.v16f32", e.floats, raw, zero, lanes)
        row = e.mul(b.zext(own, I64), 8)
        places = e.load(ir.VectorType(I8, 8), self._table["lane_places"], row)
        wide = b.sext(places, e.ints)
        picked = e.call("llvm.x86.avx2.permps", e.floats, raw, wide)
        none = b.icmp_signed("<", wide, ir.Constant(e.ints, None))
        return b.select(none, ir.Constant(e.floats, None), picked)

    def _bytes(self, place: Any, mask: Any | None) -> list[Any]:
        e = self._e
        if mask is None:
            whole = e.load(_BYTES64, place.get())
            self._move(place, 64)
        elif self._one_step:
            whole = self._expand(e.load(_BYTES64, place.get()), mask)
            self._move(place, self._ones(mask))
        else:
            whole = self._deposit(place, mask, nibbles=False)
        return self._split(whole)

    def _nibbles(self, place: Any, mask: Any | None) -> list[Any]:
        e, b = self._e, self._e.builder
        if mask is not None and not self._one_step:
            codes = self._deposit(place, mask, nibbles=True)
            levels = self._split(self._looked_up(codes))
            set_ = self._split(b.sext(b.bitcast(mask, ir.VectorType(I1, 64)), _BYTES64))
            return [b.and_(x, y) for x, y in zip(levels, set_, strict=True)]
        halves = ir.VectorType(I16, 32)
        raw = b.zext(e.load(ir.VectorType(I8, 32), place.get()), halves)
        both = b.or_(raw, b.shl(raw, ir.Constant(halves, [4] * 32)))
        low = b.and_(both, ir.Constant(halves, [0x0F0F] * 32))
        whole = self._looked_up(b.bitcast(low, _BYTES64))
        if mask is None:
            self._move(place, 32)
            return self._split(whole)
        count = self._ones(mask)
        self._move(place, b.lshr(e.add(count, 1), ir.Constant(I64, 1)))
        return self._split(self._expand(whole, mask))

    def _expand(self, packed: Any, mask: Any) -> Any:
        """The register form: LLVM would fold the load into vpexpandb, which is microcode then."""
        kind = ir.FunctionType(_BYTES64, [_BYTES64, I64])
        code = "vpexpandb $1, $0 {$2} {z}"
        return self._e.builder.asm(kind, code, "=v,v,^Yk", [packed, mask], side_effect=False)

    def _deposit(self, place: Any, mask: Any, *, nibbles: bool) -> Any:
        """Eight weights at a time by the instruction pdep."""
        e, b = self._e, self._e.builder
        words = ir.Constant(ir.VectorType(I64, 8), ir.Undefined)
        start, done = place.get(), e.word(0)
        for i in range(8):
            own = b.and_(b.lshr(mask, ir.Constant(I64, 8 * i)), ir.Constant(I64, 255))
            spread = e.load(I64, self._table["byte_masks"], e.mul(own, 8))
            if nibbles:
                spread = b.and_(spread, ir.Constant(I64, 0x0F0F0F0F0F0F0F0F))
                raw = e.load(I64, start, b.lshr(done, ir.Constant(I64, 1)))
                odd = b.and_(b.shl(done, ir.Constant(I64, 2)), ir.Constant(I64, 4))
                raw = b.lshr(raw, odd)
            else:
                raw = e.load(I64, start, done)
            word = e.call("llvm.x86.bmi.pdep.64", I64, raw, spread)
            words = b.insert_element(words, word, ir.Constant(I32, i))
            done = e.add(done, self._ones(own))
        behind = b.lshr(e.add(done, 1), ir.Constant(I64, 1)) if nibbles else done
        place.set(e.at(start, behind))
        return b.bitcast(words, _BYTES64)

    def _looked_up(self, codes: Any) -> Any:
        """Each code's level; `levels` are 16 bytes, four times over."""
        e, parts = self._e, []
        width = 4 * e.lanes
        kind = ir.VectorType(I8, width)
        name = "llvm.x86.avx512.pshuf.b.512" if width == 64 else "llvm.x86.avx2.pshuf.b"
        levels = e.load(kind, self._table["levels"])
        for i in range(64 // width):
            own = codes if width == 64 else self._piece(codes, i * width, width)
            parts.append(e.call(name, kind, levels, own))
        return e.join(parts)

    def _piece(self, whole: Any, first: int, count: int) -> Any:
        return self._e.shuffle(whole, whole, range(first, first + count))

    def _split(self, whole: Any) -> list[Any]:
        width = 4 * self._e.lanes
        if width == 64:
            return [whole]
        return [self._piece(whole, i, width) for i in range(0, 64, width)]
