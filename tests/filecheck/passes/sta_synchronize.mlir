// RUN: sta opt %s -p sta-allocate,sta-synchronize | filecheck %s

// Each unit waits for the one whose result it needs, and nothing else.
func.func @main(%x: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8>}, %y: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<output "y", quantized float32 as int8>}) {
  %p = sta.constant @scale parameters : dram<44xui8>
  %w = sta.alloc "scale" : wbuf<44xui8>
  %a = sta.alloc "a" : spad<64x64xsi8>
  %b = sta.alloc "b" : spad<64x64xsi8>
  sta.load %p to %w : dram<44xui8>, wbuf<44xui8>
  sta.load %x to %a : dram<64x64xsi8>, spad<64x64xsi8>
  sta.map %a to %b parameters %w : spad<64x64xsi8>, spad<64x64xsi8>, wbuf<44xui8>
  sta.store %b to %y : spad<64x64xsi8>, dram<64x64xsi8>
  func.return
}

// CHECK:      sta.load %p to %w :
// CHECK-NEXT: sta.load %x to %a post [0] :
// CHECK-NEXT: sta.map %a to %b parameters %w wait [0] post [1] :
// CHECK-NEXT: sta.store %b to %y wait [1] :
