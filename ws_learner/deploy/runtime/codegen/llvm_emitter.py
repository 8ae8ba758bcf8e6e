"""LLVM IR emitter: loops, vectors, transposes, masked memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

__all__ = ["F32", "I1", "I8", "I16", "I32", "I64", "PTR", "VOID", "Emitter", "Variable", "Word"]

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, VOID, PTR = ir.FloatType(), ir.VoidType(), ir.PointerType()
_BYTES = {I8: 1, I16: 2, I32: 4, I64: 8, F32: 4}
Word = Any  # an ir.Value, or a Python int where an i64 is meant


class Variable:
    """A place on the stack, which LLVM turns into a register."""

    def __init__(self, emitter: Emitter, kind: Any) -> None:
        self._builder = emitter.builder
        with self._builder.goto_entry_block():
            self._place = self._builder.alloca(kind)
        self._kind = kind

    def get(self) -> Any:
        """Its value now."""
        return self._builder.load(self._place, typ=self._kind)

    def set(self, value: Any) -> None:
        """Give it a value."""
        self._builder.store(value, self._place)


class Emitter:
    """Builds one function of pointers and i64 numbers that returns nothing."""

    def __init__(self, name: str, *, arguments: Sequence[Any], lanes: int) -> None:
        """Open the function; `lanes` is the number of 32-bit values in a vector."""
        self.module, self.lanes = ir.Module(name=name), lanes
        function = ir.Function(self.module, ir.FunctionType(VOID, arguments), name=name)
        self.arguments = function.args
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.ints, self.floats = ir.VectorType(I32, lanes), ir.VectorType(F32, lanes)

    def finish(self) -> str:
        """Close the function; return the module's text."""
        self.builder.ret_void()
        return str(self.module)

    def variable(self, kind: Any) -> Variable:
        """A new variable of this type."""
        return Variable(self, kind)

    # Numbers.

    def word(self, value: Word) -> Any:
        """An i64."""
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def add(self, *terms: Word) -> Any:
        """Sum of i64 numbers."""
        total = self.word(terms[0])
        for term in terms[1:]:
            total = self.builder.add(total, self.word(term))
        return total

    def sub(self, a: Word, b: Word) -> Any:
        """Difference of i64 numbers."""
        return self.builder.sub(self.word(a), self.word(b))

    def mul(self, a: Word, b: Word) -> Any:
        """Product of i64 numbers."""
        return self.builder.mul(self.word(a), self.word(b))

    def div(self, a: Word, b: Word) -> Any:
        """Quotient of i64 numbers that are not negative, rounded down."""
        return self.builder.udiv(self.word(a), self.word(b))

    def least(self, a: Word, b: Word) -> Any:
        """The smaller of two i64 numbers."""
        a, b = self.word(a), self.word(b)
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call an intrinsic."""
        function = self.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(result, [a.type for a in arguments])
            function = ir.Function(self.module, kind, name=name)
        return self.builder.call(function, arguments)

    # Control.

    @contextmanager
    def loop(self, start: Word, stop: Word, step: Word = 1) -> Iterator[Any]:
        """For i from `start` up to and without `stop`."""
        b = self.builder
        place = Variable(self, I64)
        place.set(self.word(start))
        stop, step = self.word(stop), self.word(step)
        head, body, after = (b.append_basic_block(n) for n in ("head", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = place.get()
        b.cbranch(b.icmp_signed("<", i, stop), body, after)
        b.position_at_end(body)
        yield i
        place.set(b.add(i, step))
        b.branch(head)
        b.position_at_end(after)

    # Memory; offsets are in bytes.

    def at(self, base: Any, offset: Word) -> Any:
        """The address `offset` bytes behind `base`."""
        return self.builder.gep(base, [self.word(offset)], source_etype=I8)

    def load(self, kind: Any, base: Any, offset: Word = 0) -> Any:
        """A value that need not be aligned beyond its elements."""
        element = getattr(kind, "element", kind)
        size = _BYTES.get(element, 1)
        return self.builder.load(self.at(base, offset), typ=kind, align=size)

    def store(self, value: Any, base: Any, offset: Word = 0) -> None:
        """The counterpart of `load`."""
        element = getattr(value.type, "element", value.type)
        self.builder.store(value, self.at(base, offset), align=_BYTES.get(element, 1))

    def load_masked(self, kind: Any, base: Any, offset: Word, mask: Any) -> Any:
        """Zeros where `mask` is not set; memory there is not touched."""
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        align, zero = ir.Constant(I32, _BYTES[kind.element]), ir.Constant(kind, None)
        return self.call(name, kind, self.at(base, offset), align, mask, zero)

    def store_masked(self, value: Any, base: Any, offset: Word, mask: Any) -> None:
        """Write where `mask` is set."""
        name = f"llvm.masked.store.{_suffix(value.type)}.p0"
        align = ir.Constant(I32, _BYTES[value.type.element])
        self.call(name, VOID, value, self.at(base, offset), align, mask)

    # Vectors.

    def splat(self, value: Any, count: int | None = None) -> Any:
        """The same scalar in every lane."""
        count = count or self.lanes
        kind = ir.VectorType(value.type, count)
        one = self.builder.insert_element(
            ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(ir.VectorType(I32, count), None)
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def constant(self, value: float) -> Any:
        """A float in every lane."""
        return ir.Constant(self.floats, [ir.Constant(F32, _as_f32(value))] * self.lanes)

    def below(self, room: Any) -> Any:
        """Mask of the lanes whose number is less than `room`, an i64 of either sign."""
        limit = self.builder.select(
            self.builder.icmp_signed("<", room, self.word(self.lanes)), room, self.word(self.lanes)
        )
        lanes = ir.Constant(self.ints, list(range(self.lanes)))
        limits = self.splat(self.builder.trunc(limit, I32))
        return self.builder.icmp_signed("<", lanes, limits)

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """Pick lanes out of two vectors laid end to end."""
        kind = ir.VectorType(I32, len(lanes))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, list(lanes)))

    def join(self, parts: Sequence[Any]) -> Any:
        """Lay 2 or 4 vectors end to end."""
        while len(parts) > 1:
            size = parts[0].type.count
            parts = [
                self.shuffle(a, b, range(2 * size))
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def transpose(self, rows: Sequence[Any]) -> list[Any]:
        """Transpose 8 or 16 vectors; with fewer vectors than lanes, each run of lanes by itself."""
        rows, step = list(rows), 1
        while step < len(rows):
            low = [x if not x & step else self.lanes + x - step for x in range(self.lanes)]
            high = [x + step if not x & step else self.lanes + x for x in range(self.lanes)]
            mixed = list(rows)
            for i in range(len(rows)):
                if not i & step:
                    pair = rows[i], rows[i + step]
                    mixed[i], mixed[i + step] = (self.shuffle(*pair, x) for x in (low, high))
            rows, step = mixed, 2 * step
        return rows

    def largest(self, a: Any, b: Any) -> Any:
        """Lane by lane; `b` where `a` is not a number."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def smallest(self, a: Any, b: Any) -> Any:
        """Lane by lane; `b` where `a` is not a number."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c, rounded once."""
        return self.call(f"llvm.fma.{_suffix(a.type)}", a.type, a, b, c)


def _suffix(kind: Any) -> str:
    letter = "f" if isinstance(kind.element, ir.FloatType) else "i"
    return f"v{kind.count}{letter}{8 * _BYTES[kind.element]}"


def _as_f32(value: float) -> float:
    import struct

    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
