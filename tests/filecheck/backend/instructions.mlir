// RUN: sta opt %s -t sta-asm | filecheck %s

// Every operation of a unit as its instruction. Addresses are in registers that `lea` sets; r0 is 0.
func.func @main(%x: memref<6x8xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8, at 4096>}, %y: memref<6x8xsi8, #sta.dram> {sta.port = #sta.port<output "y", quantized float32 as int8, at 4160>}) attributes {sta.memory = {acc = 256 : i64, wbuf = 256 : i64, spad = 1024 : i64, dram = 8192 : i64}} {
  %table = sta.constant @table embedding at 0 : dram<30x8xsi16>
  %ids = sta.alloc "ids" at 0 : spad<6xsi32>
  %rows = sta.alloc "rows" at 64 : spad<6x8xsi16>
  %a = sta.alloc "a" at 192 : spad<6x8xsi8>
  %p = sta.alloc "p" at 256 : spad<6x4xui8>
  %sums = sta.alloc "sums" at 320 : spad<6xsi32>
  %packed = sta.alloc "packed" at 64 : wbuf<20xui8>
  %values = sta.alloc "values" at 0 : wbuf<44xui8>
  %rotation = sta.alloc "rotation" at 0 : wbuf<16xui8>
  %acc = sta.alloc "acc" at 0 : acc<6x4xsi32>
  %z = sta.alloc "z" at 384 : spad<6x4xsi8>
  sta.load %x to %a post [0] : dram<6x8xsi8>, spad<6x8xsi8>
  sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
  sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
  sta.loop %i = 0 to 3 {
    sta.softmax row %acc to %p sums %sums parameters %values causal rows %i * 6 keys 2 : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<44xui8>
  }
  sta.shift %acc by %sums : acc<6x4xsi32>, spad<6xsi32>
  sta.map %acc to %z parameters %values residual %sums normalize : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<44xui8>, spad<6xsi32>
  sta.norm layer %rows parameters %values to %rows copy %a : spad<6x8xsi16>, wbuf<44xui8>, spad<6x8xsi16>, spad<6x8xsi8>
  sta.rotate interleaved 4 of %rows by %rows, %rows to %a parameters %rotation : spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi8>, wbuf<16xui8>
  sta.sync st wait [1, 2] post [3]
  sta.fence
  sta.store %a to %y : spad<6x8xsi8>, dram<6x8xsi8>
  func.return
}

// CHECK:      .location "" "sta.load"
// CHECK-NEXT: lea rd=r1, imm=8{{ +}}# 0
// CHECK-NEXT: lea rd=r2, imm=4096{{ +}}# 1
// CHECK-NEXT: lea rd=r3, imm=192{{ +}}# 2
// CHECK-NEXT: ld dram=r2, sram=r3, dram_stride=r1, sram_stride=r1, rows=6, row_bytes=8, post={0}{{ +}}# 3
// CHECK-NEXT: .location "" "sta.gather"
// CHECK-NEXT: lea rd=r4, imm=64{{ +}}# 4
// CHECK-NEXT: lea rd=r5, imm=16{{ +}}# 5
// CHECK-NEXT: lea rd=r6, imm=30{{ +}}# 6
// CHECK-NEXT: gather table=r0, indices=r0, destination=r4, destination_stride=r5, limit=r6, rows=6, row_bytes=16{{ +}}# 7
// CHECK-NEXT: .location "" "sta.mm"
// CHECK-NEXT: mm acc=r0, a=r3, b=r4, acc_stride=r5, a_stride=r1, rows=6, columns=4, depth=8, n=2, m=4, encoding=bitmap, accumulate, wait={0}{{ +}}# 8
// CHECK-NEXT: .location "" "sta.loop"
// CHECK-NEXT: loop counter=r63, count=3{{ +}}# 9
// CHECK-NEXT: .location "" "sta.softmax"
// CHECK-NEXT:   lea rd=r1, imm=256{{ +}}# 10
// CHECK-NEXT:   lea rd=r2, imm=320{{ +}}# 11
// CHECK-NEXT:   lea rd=r3, imm=16{{ +}}# 12
// CHECK-NEXT:   lea rd=r4, imm=4{{ +}}# 13
// CHECK-NEXT:   lea rd=r5, c1=r63, s1=6{{ +}}# 14
// CHECK-NEXT:   lea rd=r6, imm=2{{ +}}# 15
// CHECK-NEXT:   softmax scores=r0, destination=r1, sums=r2, parameters=r0, scores_stride=r3, destination_stride=r4, row_offset=r5, key_offset=r6, rows=6, keys=4, causal{{ +}}# 16
// CHECK-NEXT: end{{ +}}# 17
// CHECK-NEXT: .location "" "sta.shift"
// CHECK-NEXT: lea rd=r1, imm=320{{ +}}# 18
// CHECK-NEXT: lea rd=r2, imm=16{{ +}}# 19
// CHECK-NEXT: shift acc=r0, shifts=r1, acc_stride=r2, rows=6, columns=4{{ +}}# 20
// CHECK-NEXT: .location "" "sta.map"
// CHECK-NEXT: lea rd=r3, imm=384{{ +}}# 21
// CHECK-NEXT: lea rd=r4, imm=4{{ +}}# 22
// CHECK-NEXT: map source=r0, destination=r3, parameters=r0, residual=r1, source_stride=r2, destination_stride=r4, rows=6, columns=4, source_type=acc, destination_type=s8, normalize{{ +}}# 23
// CHECK-NEXT: .location "" "sta.norm"
// CHECK-NEXT: lea rd=r5, imm=64{{ +}}# 24
// CHECK-NEXT: lea rd=r6, imm=192{{ +}}# 25
// CHECK-NEXT: lea rd=r7, imm=8{{ +}}# 26
// CHECK-NEXT: norm source=r5, destination=r5, copy=r6, parameters=r0, source_stride=r2, destination_stride=r2, copy_stride=r7, rows=6, columns=8, outputs=both{{ +}}# 27
// CHECK-NEXT: .location "" "sta.rotate"
// CHECK-NEXT: rotate source=r5, destination=r6, cosines=r5, sines=r5, parameters=r0, source_stride=r2, destination_stride=r7, cosines_stride=r2, sines_stride=r2, rows=6, columns=8, width=4, source_type=s16, destination_type=s8, pairing=interleaved{{ +}}# 28
// CHECK-NEXT: .location "" "sta.sync"
// CHECK-NEXT: sync unit=st, wait={1,2}, post={3}{{ +}}# 29
// CHECK-NEXT: .location "" "sta.fence"
// CHECK-NEXT: fence{{ +}}# 30
// CHECK-NEXT: .location "" "sta.store"
// CHECK-NEXT: lea rd=r8, imm=4160{{ +}}# 31
// CHECK-NEXT: st dram=r8, sram=r6, dram_stride=r7, sram_stride=r7, rows=6, row_bytes=8{{ +}}# 32
// CHECK-NEXT: .location "" ""
// CHECK-NEXT: fence{{ +}}# 33
// CHECK-NEXT: halt{{ +}}# 34
