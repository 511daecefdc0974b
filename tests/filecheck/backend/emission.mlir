// RUN: sta opt %s -p sta-allocate,sta-synchronize -t sta-asm | filecheck %s
// RUN: sta opt %s -p sta-allocate,sta-synchronize | sta opt -t sta-asm | filecheck %s

// The address of a tile moves with the counter of its loop; semaphores order the units around it.
func.func @main(%x: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8>}, %y: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<output "y", quantized float32 as int8>}) {
  %p = sta.constant @scale parameters : dram<44xui8>
  %w = sta.alloc "scale" : wbuf<44xui8>
  %a = sta.alloc "a" : spad<64x64xsi8>
  %b = sta.alloc "b" : spad<64x64xsi8>
  sta.load %p to %w : dram<44xui8>, wbuf<44xui8>
  sta.load %x to %a : dram<64x64xsi8>, spad<64x64xsi8>
  sta.loop %i = 0 to 4 {
    %from = sta.view %a[%i * 1024] sizes [16, 64] strides [64, 1] : spad<64x64xsi8>
    %to = sta.view %b[%i * 1024] sizes [16, 64] strides [64, 1] : spad<64x64xsi8>
    sta.map %from to %to parameters %w : spad<16x64xsi8, [64, 1]>, spad<16x64xsi8, [64, 1]>, wbuf<44xui8>
  }
  sta.store %b to %y : spad<64x64xsi8>, dram<64x64xsi8>
  func.return
}

// CHECK:      .location "" "sta.load"
// CHECK-NEXT: ld dram=r0, sram=r0, rows=1, row_bytes=44, space=wbuf{{ +}}# 0
// CHECK-NEXT: lea rd=r1, imm=64{{ +}}# 1
// CHECK-NEXT: ld dram=r1, sram=r0, dram_stride=r1, sram_stride=r1, rows=64, row_bytes=64{{ +}}# 2
// CHECK-NEXT: .location "" "sta.sync"
// CHECK-NEXT: sync unit=ld, post={0}{{ +}}# 3
// CHECK-NEXT: sync unit=vp, wait={0}{{ +}}# 4
// CHECK-NEXT: .location "" "sta.loop"
// CHECK-NEXT: loop counter=r63, count=4{{ +}}# 5
// CHECK-NEXT: .location "" "sta.map"
// CHECK-NEXT:   lea rd=r1, c1=r63, s1=1024{{ +}}# 6
// CHECK-NEXT:   lea rd=r2, imm=4096, c1=r63, s1=1024{{ +}}# 7
// CHECK-NEXT:   lea rd=r3, imm=64{{ +}}# 8
// CHECK-NEXT:   map source=r1, destination=r2, parameters=r0, source_stride=r3, destination_stride=r3, rows=16, columns=64, source_type=s8, destination_type=s8{{ +}}# 9
// CHECK-NEXT: end{{ +}}# 10
// CHECK-NEXT: .location "" "sta.sync"
// CHECK-NEXT: sync unit=vp, post={1}{{ +}}# 11
// CHECK-NEXT: .location "" "sta.store"
// CHECK-NEXT: lea rd=r1, imm=64{{ +}}# 12
// CHECK-NEXT: lea rd=r2, imm=4160{{ +}}# 13
// CHECK-NEXT: lea rd=r3, imm=4096{{ +}}# 14
// CHECK-NEXT: st dram=r2, sram=r3, dram_stride=r1, sram_stride=r1, rows=64, row_bytes=64, wait={1}{{ +}}# 15
// CHECK-NEXT: .location "" ""
// CHECK-NEXT: fence{{ +}}# 16
// CHECK-NEXT: halt{{ +}}# 17
