// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @buffers() {
  // CHECK-NEXT: func.func @buffers() {
    %w = sta.constant @encoder.dense.weight weights : memref<20xui8, #sta.dram>
    // CHECK-NEXT: %w = sta.constant @encoder.dense.weight weights : memref<20xui8, #sta.dram>
    %p = sta.constant @encoder.dense.parameters parameters at 64 : memref<68xui8, #sta.dram>
    // CHECK-NEXT: %p = sta.constant @encoder.dense.parameters parameters at 64 : memref<68xui8, #sta.dram>
    %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.spad>
    // CHECK-NEXT: %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.spad>
    %y = sta.alloc "encoder.dense" at 1024 : memref<128x4xsi16, #sta.spad>
    // CHECK-NEXT: %y = sta.alloc "encoder.dense" at 1024 : memref<128x4xsi16, #sta.spad>
    sta.loop %i = 0 to 4 {
    // CHECK-NEXT: sta.loop %i = 0 to 4 {
      %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : memref<128x8xsi8, #sta.spad>
      // CHECK-NEXT: %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : memref<128x8xsi8, #sta.spad>
    }
    // CHECK-NEXT: }
    sta.sync mm wait [3]
    // CHECK-NEXT: sta.sync mm wait [3]
    sta.fence
    // CHECK-NEXT: sta.fence
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @units(%dram: memref<6x8xsi8, #sta.dram>, %table: memref<30x8xsi16, #sta.dram>, %ids: memref<6xsi32, #sta.spad>, %rows: memref<6x8xsi16, #sta.spad>, %a: memref<6x8xsi8, #sta.spad>, %packed: memref<20xui8, #sta.wbuf>, %acc: memref<6x4xsi32, #sta.acc>, %dense: memref<4x8xsi8, #sta.spad>, %p: memref<6x4xui8, #sta.spad>, %sums: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>, %norm: memref<6x8xsi16, #sta.spad>, %copy: memref<6x8xsi8, #sta.spad>, %stream: memref<6x4xsi16, #sta.spad>, %out: memref<6x8xsi8, #sta.dram>) {
  // CHECK-NEXT: func.func @units(%dram: memref<6x8xsi8, #sta.dram>, %table: memref<30x8xsi16, #sta.dram>, %ids: memref<6xsi32, #sta.spad>, %rows: memref<6x8xsi16, #sta.spad>, %a: memref<6x8xsi8, #sta.spad>, %packed: memref<20xui8, #sta.wbuf>, %acc: memref<6x4xsi32, #sta.acc>, %dense: memref<4x8xsi8, #sta.spad>, %p: memref<6x4xui8, #sta.spad>, %sums: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>, %norm: memref<6x8xsi16, #sta.spad>, %copy: memref<6x8xsi8, #sta.spad>, %stream: memref<6x4xsi16, #sta.spad>, %out: memref<6x8xsi8, #sta.dram>) {
    sta.load %dram to %a post [0] : memref<6x8xsi8, #sta.dram>, memref<6x8xsi8, #sta.spad>
    // CHECK-NEXT: sta.load %dram to %a post [0] : memref<6x8xsi8, #sta.dram>, memref<6x8xsi8, #sta.spad>
    sta.gather %table[%ids] to %rows : memref<30x8xsi16, #sta.dram>, memref<6xsi32, #sta.spad>, memref<6x8xsi16, #sta.spad>
    // CHECK-NEXT: sta.gather %table[%ids] to %rows : memref<30x8xsi16, #sta.dram>, memref<6xsi32, #sta.spad>, memref<6x8xsi16, #sta.spad>
    sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : memref<6x8xsi8, #sta.spad>, memref<20xui8, #sta.wbuf>, memref<6x4xsi32, #sta.acc>
    // CHECK-NEXT: sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : memref<6x8xsi8, #sta.spad>, memref<20xui8, #sta.wbuf>, memref<6x4xsi32, #sta.acc>
    sta.mm %a, %dense to %acc scores : memref<6x8xsi8, #sta.spad>, memref<4x8xsi8, #sta.spad>, memref<6x4xsi32, #sta.acc>
    // CHECK-NEXT: sta.mm %a, %dense to %acc scores : memref<6x8xsi8, #sta.spad>, memref<4x8xsi8, #sta.spad>, memref<6x4xsi32, #sta.acc>
    sta.softmax row %acc to %p sums %sums parameters %parameters causal : memref<6x4xsi32, #sta.acc>, memref<6x4xui8, #sta.spad>, memref<6xsi32, #sta.spad>, memref<64xui8, #sta.wbuf>
    // CHECK-NEXT: sta.softmax row %acc to %p sums %sums parameters %parameters causal : memref<6x4xsi32, #sta.acc>, memref<6x4xui8, #sta.spad>, memref<6xsi32, #sta.spad>, memref<64xui8, #sta.wbuf>
    sta.map %acc to %y parameters %parameters residual %sums normalize : memref<6x4xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6xsi32, #sta.spad>
    // CHECK-NEXT: sta.map %acc to %y parameters %parameters residual %sums normalize : memref<6x4xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6xsi32, #sta.spad>
    sta.norm layer %rows parameters %parameters to %norm copy %copy : memref<6x8xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6x8xsi16, #sta.spad>, memref<6x8xsi8, #sta.spad>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm copy %copy : memref<6x8xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6x8xsi16, #sta.spad>, memref<6x8xsi8, #sta.spad>
    sta.map %acc to %stream parameters %parameters per_channel statistics : memref<6x4xsi32, #sta.acc>, memref<6x4xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>
    // CHECK-NEXT: sta.map %acc to %stream parameters %parameters per_channel statistics : memref<6x4xsi32, #sta.acc>, memref<6x4xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>
    sta.norm layer %rows parameters %parameters to %norm statistics : memref<6x8xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6x8xsi16, #sta.spad>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm statistics : memref<6x8xsi16, #sta.spad>, memref<64xui8, #sta.wbuf>, memref<6x8xsi16, #sta.spad>
    sta.store %copy to %out : memref<6x8xsi8, #sta.spad>, memref<6x8xsi8, #sta.dram>
    // CHECK-NEXT: sta.store %copy to %out : memref<6x8xsi8, #sta.spad>, memref<6x8xsi8, #sta.dram>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @online(%a: memref<6x8xui16, #sta.spad>, %b: memref<8x4xsi8, #sta.spad>, %acc: memref<6x4xsi32, #sta.acc>, %wide: memref<6x8xsi32, #sta.acc>, %p: memref<6x4xui16, #sta.spad>, %state: memref<18xsi32, #sta.spad>, %shifts: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>) {
  // CHECK-NEXT: func.func @online(%a: memref<6x8xui16, #sta.spad>, %b: memref<8x4xsi8, #sta.spad>, %acc: memref<6x4xsi32, #sta.acc>, %wide: memref<6x8xsi32, #sta.acc>, %p: memref<6x4xui16, #sta.spad>, %state: memref<18xsi32, #sta.spad>, %shifts: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>) {
    sta.mm %a, %b to %acc plane high transposed : memref<6x8xui16, #sta.spad>, memref<8x4xsi8, #sta.spad>, memref<6x4xsi32, #sta.acc>
    // CHECK-NEXT: sta.mm %a, %b to %acc plane high transposed : memref<6x8xui16, #sta.spad>, memref<8x4xsi8, #sta.spad>, memref<6x4xsi32, #sta.acc>
    sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : memref<6x4xsi32, #sta.acc>, memref<6x4xui16, #sta.spad>, memref<18xsi32, #sta.spad>, memref<64xui8, #sta.wbuf>
    // CHECK-NEXT: sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : memref<6x4xsi32, #sta.acc>, memref<6x4xui16, #sta.spad>, memref<18xsi32, #sta.spad>, memref<64xui8, #sta.wbuf>
    sta.shift %wide by %shifts wait [2] : memref<6x8xsi32, #sta.acc>, memref<6xsi32, #sta.spad>
    // CHECK-NEXT: sta.shift %wide by %shifts wait [2] : memref<6x8xsi32, #sta.acc>, memref<6xsi32, #sta.spad>
    sta.map %wide to %y parameters %parameters wide : memref<6x8xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>
    // CHECK-NEXT: sta.map %wide to %y parameters %parameters wide : memref<6x8xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
