// RUN: sta opt %s -p sta-allocate,sta-synchronize | filecheck %s

// Each unit waits for the one whose result it needs, and nothing else.
func.func @main(%x: memref<64x64xsi8, #sta.dram> {sta.name = "x", sta.direction = "input"}, %y: memref<64x64xsi8, #sta.dram> {sta.name = "y", sta.direction = "output"}) {
  %p = sta.constant @scale parameters : memref<44xui8, #sta.dram>
  %w = sta.alloc "scale" : memref<44xui8, #sta.wbuf>
  %a = sta.alloc "a" : memref<64x64xsi8, #sta.spad>
  %b = sta.alloc "b" : memref<64x64xsi8, #sta.spad>
  sta.load %p to %w : memref<44xui8, #sta.dram>, memref<44xui8, #sta.wbuf>
  sta.load %x to %a : memref<64x64xsi8, #sta.dram>, memref<64x64xsi8, #sta.spad>
  sta.map %a to %b parameters %w : memref<64x64xsi8, #sta.spad>, memref<64x64xsi8, #sta.spad>, memref<44xui8, #sta.wbuf>
  sta.store %b to %y : memref<64x64xsi8, #sta.spad>, memref<64x64xsi8, #sta.dram>
  func.return
}

// CHECK:      sta.load %p to %w :
// CHECK-NEXT: sta.load %x to %a post [0] :
// CHECK-NEXT: sta.map %a to %b parameters %w wait [0] post [1] :
// CHECK-NEXT: sta.store %b to %y wait [1] :
