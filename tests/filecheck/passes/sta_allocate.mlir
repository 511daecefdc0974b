// RUN: sta opt %s -p sta-allocate | filecheck %s

// Constants come first in DRAM, then inputs and outputs. %a and %c do not live at the same time: they share an address.
func.func @main(%x: memref<64x64xsi8, #sta.dram> {sta.name = "x", sta.direction = "input"}, %y: memref<64x64xsi8, #sta.dram> {sta.name = "y", sta.direction = "output"}) {
  %p = sta.constant @scale parameters : memref<44xui8, #sta.dram>
  %w = sta.alloc "scale" : memref<44xui8, #sta.wbuf>
  %a = sta.alloc "a" : memref<64x64xsi8, #sta.spad>
  %b = sta.alloc "b" : memref<64x64xsi8, #sta.spad>
  %c = sta.alloc "c" : memref<64x64xsi8, #sta.spad>
  sta.load %p to %w : memref<44xui8, #sta.dram>, memref<44xui8, #sta.wbuf>
  sta.load %x to %a : memref<64x64xsi8, #sta.dram>, memref<64x64xsi8, #sta.spad>
  sta.map %a to %b parameters %w : memref<64x64xsi8, #sta.spad>, memref<64x64xsi8, #sta.spad>, memref<44xui8, #sta.wbuf>
  sta.map %b to %c parameters %w : memref<64x64xsi8, #sta.spad>, memref<64x64xsi8, #sta.spad>, memref<44xui8, #sta.wbuf>
  sta.store %c to %y : memref<64x64xsi8, #sta.spad>, memref<64x64xsi8, #sta.dram>
  func.return
}

// CHECK:      sta.offset = 64 : i64{{.*}}sta.offset = 4160 : i64{{.*}}sta.memory = {acc = 0 : i64, wbuf = 64 : i64, spad = 1048512 : i64, dram = 8256 : i64}
// CHECK-NEXT: %p = sta.constant @scale parameters at 0
// CHECK-NEXT: %w = sta.alloc "scale" at 0
// CHECK-NEXT: %a = sta.alloc "a" at [[A:.*]] :
// CHECK-NEXT: %b = sta.alloc "b" at {{.*}}
// CHECK-NEXT: %c = sta.alloc "c" at [[A]] :
