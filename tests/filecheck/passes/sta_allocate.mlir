// RUN: sta opt %s -p sta-allocate | filecheck %s

// Constants come first in DRAM, then inputs and outputs. %a and %c do not live at the same time: they share an address.
func.func @main(%x: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8>}, %y: memref<64x64xsi8, #sta.dram> {sta.port = #sta.port<output "y", quantized float32 as int8>}) {
  %p = sta.constant @scale parameters : dram<44xui8>
  %w = sta.alloc "scale" : wbuf<44xui8>
  %a = sta.alloc "a" : spad<64x64xsi8>
  %b = sta.alloc "b" : spad<64x64xsi8>
  %c = sta.alloc "c" : spad<64x64xsi8>
  sta.load %p to %w : dram<44xui8>, wbuf<44xui8>
  sta.load %x to %a : dram<64x64xsi8>, spad<64x64xsi8>
  sta.map %a to %b parameters %w : spad<64x64xsi8>, spad<64x64xsi8>, wbuf<44xui8>
  sta.map %b to %c parameters %w : spad<64x64xsi8>, spad<64x64xsi8>, wbuf<44xui8>
  sta.store %c to %y : spad<64x64xsi8>, dram<64x64xsi8>
  func.return
}

// CHECK:      <input "x", quantized float32 as int8, at 64>{{.*}}<output "y", quantized float32 as int8, at 4160>{{.*}}sta.memory = {acc = 0 : i64, wbuf = 64 : i64, spad = 1048512 : i64, dram = 8256 : i64}
// CHECK-NEXT: %p = sta.constant @scale parameters at 0
// CHECK-NEXT: %w = sta.alloc "scale" at 0
// CHECK-NEXT: %a = sta.alloc "a" at [[A:.*]] :
// CHECK-NEXT: %b = sta.alloc "b" at {{.*}}
// CHECK-NEXT: %c = sta.alloc "c" at [[A]] :
