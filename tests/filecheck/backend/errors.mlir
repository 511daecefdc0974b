// RUN: not sta opt %s -t sta-asm 2>&1 | filecheck %s
// RUN: not sta opt %S/../passes/nm_plan_tiles.mlir -t sta-asm 2>&1 | filecheck %s --check-prefix=LEVEL

func.func @main(%x: memref<64xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8>}) {
  %a = sta.alloc "a" : spad<64xsi8>
  sta.load %x to %a : dram<64xsi8>, spad<64xsi8>
  func.return
}

// CHECK: sta: error: the function has no addresses yet: run sta-allocate first
// LEVEL: sta: error: -t sta-asm takes a module of the sta dialect, and this is one of nm
