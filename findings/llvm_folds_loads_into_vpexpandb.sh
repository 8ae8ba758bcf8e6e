#!/usr/bin/env bash
# llvmlite 0.50.0 (LLVM 22.1.0), targets znver4 and znver5: a loaded vector that is expanded by a
# mask becomes the memory form of vpexpandb, which these processors run as microcode.
#
# Guess: the cost model of the target keeps the load apart, as the register form takes two cycles.
# Seen: `vpexpandb (%rdi), %zmm0 {%k1} {z}` for both targets, as for Intel's. On an AMD EPYC (Zen 5)
# a loop of it takes 2.8 times as long as one of loads and the register form, which an empty piece
# of inline assembly forces.
#
# Fails if the load is kept apart, or, on an AMD processor with VBMI2, if that is less than twice
# as fast.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q llvmlite==0.50.0
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import ctypes
import statistics
import time
from pathlib import Path

import llvmlite.binding as llvm

CODE = """
declare <64 x i8> @llvm.x86.avx512.mask.expand.v64i8(<64 x i8>, <64 x i8>, <64 x i1>)
define void @expand(ptr %from, ptr %to, i64 %mask, i64 %times) {
start:
  %bits = bitcast i64 %mask to <64 x i1>
  br label %loop
loop:
  %i = phi i64 [ 0, %start ], [ %next, %loop ]
  %offset = and i64 %i, 255
  %at = getelementptr i8, ptr %from, i64 %offset
  %x = load <64 x i8>, ptr %at, align 1
  BARRIER
  %y = call <64 x i8> @llvm.x86.avx512.mask.expand.v64i8(
    <64 x i8> VALUE, <64 x i8> zeroinitializer, <64 x i1> %bits)
  store <64 x i8> %y, ptr %to, align 1
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""
plain = CODE.replace("BARRIER", "").replace("VALUE", "%x")
barrier = '%r = call <64 x i8> asm "", "=v,0"(<64 x i8> %x)'
apart = CODE.replace("BARRIER", barrier).replace("VALUE", "%r")

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


def machine(cpu):
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    return target.create_target_machine(cpu=cpu, opt=3)


for cpu in ("znver4", "znver5"):
    for code, folded in ((plain, True), (apart, False)):
        lines = machine(cpu).emit_assembly(llvm.parse_assembly(code)).splitlines()
        (line,) = [line.strip() for line in lines if "vpexpandb" in line]
        print(cpu, line)
        assert ("(" in line) == folded

about = Path("/proc/cpuinfo").read_text()
if "AuthenticAMD" in about and "avx512_vbmi2" in about:
    given = (ctypes.c_uint8 * 512)(*range(256), *range(256))
    results, runs, kept = [], [], []
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_uint64] * 2)
    for code in (plain, apart):
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(code), machine("znver4"))
        engine.finalize_object()
        kept.append(engine)
        run, found = kind(engine.get_function_address("expand")), (ctypes.c_uint8 * 64)()
        run(ctypes.addressof(given), ctypes.addressof(found), 0x5DA3C96F12E84B07, 1)
        runs.append(run), results.append(bytes(found))
    assert results[0] == results[1]
    found = (ctypes.c_uint8 * 64)()

    def seconds(run):
        begun = time.process_time()
        run(ctypes.addressof(given), ctypes.addressof(found), 0x5DA3C96F12E84B07, 1_000_000)
        return time.process_time() - begun

    ratio = statistics.median(seconds(runs[0]) / seconds(runs[1]) for _ in range(15))
    print(f"memory form over register form, time: {ratio:.1f}")
    assert ratio > 2
PYTHON
