// Generated from the docstrings of dialect/sta.py by `python -m tests.support.docstring_examples`; do not edit.
// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @sta.constant() {
  // CHECK-NEXT: func.func @sta.constant() {
    %w = sta.constant @"output.dense.weight@packed" weights at 4096 : dram<184320xui8>
    // CHECK-NEXT: %w = sta.constant @"output.dense.weight@packed" weights at 4096 : dram<184320xui8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.alloc() {
  // CHECK-NEXT: func.func @sta.alloc() {
    %x = sta.alloc "encoder.layer.0.output.dense" at 1024 : spad<128x384xsi16>
    // CHECK-NEXT: %x = sta.alloc "encoder.layer.0.output.dense" at 1024 : spad<128x384xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.view(%x: memref<128x768xsi8, #sta.spad>, %i: index) {
  // CHECK-NEXT: func.func @sta.view(%x: memref<128x768xsi8, #sta.spad>, %i: index) {
    %tile = sta.view %x[%i * 8192 + 64] sizes [32, 64] strides [768, 1] : spad<128x768xsi8>
    // CHECK-NEXT: %tile = sta.view %x[%i * 8192 + 64] sizes [32, 64] strides [768, 1] : spad<128x768xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.loop() {
  // CHECK-NEXT: func.func @sta.loop() {
    sta.loop %i = 0 to 12 {
    // CHECK-NEXT: sta.loop %i = 0 to 12 {
      sta.fence
      // CHECK-NEXT: sta.fence
    }
    // CHECK-NEXT: }
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.load(%x: memref<64xsi16, #sta.dram>, %y: memref<64xsi16, #sta.wbuf>) {
  // CHECK-NEXT: func.func @sta.load(%x: memref<64xsi16, #sta.dram>, %y: memref<64xsi16, #sta.wbuf>) {
    sta.load %x to %y wait [3] post [5] : dram<64xsi16>, wbuf<64xsi16>
    // CHECK-NEXT: sta.load %x to %y wait [3] post [5] : dram<64xsi16>, wbuf<64xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.store(%x: memref<8x64xsi16, #sta.spad>, %y: memref<8x64xsi16, #sta.dram>) {
  // CHECK-NEXT: func.func @sta.store(%x: memref<8x64xsi16, #sta.spad>, %y: memref<8x64xsi16, #sta.dram>) {
    sta.store %x to %y : spad<8x64xsi16>, dram<8x64xsi16>
    // CHECK-NEXT: sta.store %x to %y : spad<8x64xsi16>, dram<8x64xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.gather(%table: memref<30x8xsi16, #sta.dram>, %ids: memref<6xsi32, #sta.spad>, %rows: memref<6x8xsi16, #sta.spad>) {
  // CHECK-NEXT: func.func @sta.gather(%table: memref<30x8xsi16, #sta.dram>, %ids: memref<6xsi32, #sta.spad>, %rows: memref<6x8xsi16, #sta.spad>) {
    sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
    // CHECK-NEXT: sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.mm(%acc: memref<6x4xsi32, #sta.acc>, %a: memref<6x8xsi8, #sta.spad>, %b: memref<20xui8, #sta.wbuf>) {
  // CHECK-NEXT: func.func @sta.mm(%acc: memref<6x4xsi32, #sta.acc>, %a: memref<6x8xsi8, #sta.spad>, %b: memref<20xui8, #sta.wbuf>) {
    sta.mm %a, %b to %acc pattern <2:4, bitmap> accumulate : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
    // CHECK-NEXT: sta.mm %a, %b to %acc pattern <2:4, bitmap> accumulate : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.softmax(%scores: memref<6x4xsi32, #sta.acc>, %p: memref<6x4xui8, #sta.spad>, %sums: memref<6xsi32, #sta.spad>, %values: memref<16xui8, #sta.wbuf>, %i: index) {
  // CHECK-NEXT: func.func @sta.softmax(%scores: memref<6x4xsi32, #sta.acc>, %p: memref<6x4xui8, #sta.spad>, %sums: memref<6xsi32, #sta.spad>, %values: memref<16xui8, #sta.wbuf>, %i: index) {
    sta.softmax row %scores to %p sums %sums parameters %values causal rows %i * 6 keys 2 : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<16xui8>
    // CHECK-NEXT: sta.softmax row %scores to %p sums %sums parameters %values causal rows %i * 6 keys 2 : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<16xui8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.map(%acc: memref<6x4xsi32, #sta.acc>, %y: memref<6x4xsi8, #sta.spad>, %p: memref<68xui8, #sta.wbuf>, %r: memref<6x4xsi16, #sta.spad>) {
  // CHECK-NEXT: func.func @sta.map(%acc: memref<6x4xsi32, #sta.acc>, %y: memref<6x4xsi8, #sta.spad>, %p: memref<68xui8, #sta.wbuf>, %r: memref<6x4xsi16, #sta.spad>) {
    sta.map %acc to %y parameters %p residual %r per_channel : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<68xui8>, spad<6x4xsi16>
    // CHECK-NEXT: sta.map %acc to %y parameters %p residual %r per_channel : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<68xui8>, spad<6x4xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.norm(%x: memref<6x8xsi16, #sta.spad>, %p: memref<96xui8, #sta.wbuf>, %c: memref<6x8xsi8, #sta.spad>) {
  // CHECK-NEXT: func.func @sta.norm(%x: memref<6x8xsi16, #sta.spad>, %p: memref<96xui8, #sta.wbuf>, %c: memref<6x8xsi8, #sta.spad>) {
    sta.norm layer %x parameters %p copy %c : spad<6x8xsi16>, wbuf<96xui8>, spad<6x8xsi8>
    // CHECK-NEXT: sta.norm layer %x parameters %p copy %c : spad<6x8xsi16>, wbuf<96xui8>, spad<6x8xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.rotate(%x: memref<6x8xsi16, #sta.spad>, %cosines: memref<6x8xsi16, #sta.spad>, %sines: memref<6x8xsi16, #sta.spad>, %y: memref<6x8xsi8, #sta.spad>, %p: memref<16xui8, #sta.wbuf>) {
  // CHECK-NEXT: func.func @sta.rotate(%x: memref<6x8xsi16, #sta.spad>, %cosines: memref<6x8xsi16, #sta.spad>, %sines: memref<6x8xsi16, #sta.spad>, %y: memref<6x8xsi8, #sta.spad>, %p: memref<16xui8, #sta.wbuf>) {
    sta.rotate half 4 of %x by %cosines, %sines to %y parameters %p : spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi8>, wbuf<16xui8>
    // CHECK-NEXT: sta.rotate half 4 of %x by %cosines, %sines to %y parameters %p : spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi8>, wbuf<16xui8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.shift(%acc: memref<6x4xsi32, #sta.acc>, %shifts: memref<6xsi32, #sta.spad>) {
  // CHECK-NEXT: func.func @sta.shift(%acc: memref<6x4xsi32, #sta.acc>, %shifts: memref<6xsi32, #sta.spad>) {
    sta.shift %acc by %shifts : acc<6x4xsi32>, spad<6xsi32>
    // CHECK-NEXT: sta.shift %acc by %shifts : acc<6x4xsi32>, spad<6xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.sync() {
  // CHECK-NEXT: func.func @sta.sync() {
    sta.sync mm wait [3]
    // CHECK-NEXT: sta.sync mm wait [3]
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @sta.fence() {
  // CHECK-NEXT: func.func @sta.fence() {
    sta.fence
    // CHECK-NEXT: sta.fence
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
