// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @buffers() {
  // CHECK-NEXT: func.func @buffers() {
    %w = sta.constant @encoder.dense.weight weights : memref<20xui8, #sta.space<dram>>
    // CHECK-NEXT: %w = sta.constant @encoder.dense.weight weights : memref<20xui8, #sta.space<dram>>
    %p = sta.constant @encoder.dense.parameters parameters at 64 : memref<68xui8, #sta.space<dram>>
    // CHECK-NEXT: %p = sta.constant @encoder.dense.parameters parameters at 64 : memref<68xui8, #sta.space<dram>>
    %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.space<spad>>
    // CHECK-NEXT: %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.space<spad>>
    %y = sta.alloc "encoder.dense" at 1024 : memref<128x4xsi16, #sta.space<spad>>
    // CHECK-NEXT: %y = sta.alloc "encoder.dense" at 1024 : memref<128x4xsi16, #sta.space<spad>>
    sta.loop %i = 0 to 4 {
    // CHECK-NEXT: sta.loop %i = 0 to 4 {
      %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : memref<128x8xsi8, #sta.space<spad>>
      // CHECK-NEXT: %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : memref<128x8xsi8, #sta.space<spad>>
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
  func.func @units(%dram: memref<6x8xsi8, #sta.space<dram>>, %table: memref<30x8xsi16, #sta.space<dram>>, %ids: memref<6xsi32, #sta.space<spad>>, %rows: memref<6x8xsi16, #sta.space<spad>>, %a: memref<6x8xsi8, #sta.space<spad>>, %packed: memref<20xui8, #sta.space<wbuf>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %dense: memref<4x8xsi8, #sta.space<spad>>, %p: memref<6x4xui8, #sta.space<spad>>, %sums: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>, %norm: memref<6x8xsi16, #sta.space<spad>>, %copy: memref<6x8xsi8, #sta.space<spad>>, %stream: memref<6x4xsi16, #sta.space<spad>>, %out: memref<6x8xsi8, #sta.space<dram>>) {
  // CHECK-NEXT: func.func @units(%dram: memref<6x8xsi8, #sta.space<dram>>, %table: memref<30x8xsi16, #sta.space<dram>>, %ids: memref<6xsi32, #sta.space<spad>>, %rows: memref<6x8xsi16, #sta.space<spad>>, %a: memref<6x8xsi8, #sta.space<spad>>, %packed: memref<20xui8, #sta.space<wbuf>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %dense: memref<4x8xsi8, #sta.space<spad>>, %p: memref<6x4xui8, #sta.space<spad>>, %sums: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>, %norm: memref<6x8xsi16, #sta.space<spad>>, %copy: memref<6x8xsi8, #sta.space<spad>>, %stream: memref<6x4xsi16, #sta.space<spad>>, %out: memref<6x8xsi8, #sta.space<dram>>) {
    sta.load %dram to %a post [0] : memref<6x8xsi8, #sta.space<dram>>, memref<6x8xsi8, #sta.space<spad>>
    // CHECK-NEXT: sta.load %dram to %a post [0] : memref<6x8xsi8, #sta.space<dram>>, memref<6x8xsi8, #sta.space<spad>>
    sta.gather %table[%ids] to %rows : memref<30x8xsi16, #sta.space<dram>>, memref<6xsi32, #sta.space<spad>>, memref<6x8xsi16, #sta.space<spad>>
    // CHECK-NEXT: sta.gather %table[%ids] to %rows : memref<30x8xsi16, #sta.space<dram>>, memref<6xsi32, #sta.space<spad>>, memref<6x8xsi16, #sta.space<spad>>
    sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : memref<6x8xsi8, #sta.space<spad>>, memref<20xui8, #sta.space<wbuf>>, memref<6x4xsi32, #sta.space<acc>>
    // CHECK-NEXT: sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : memref<6x8xsi8, #sta.space<spad>>, memref<20xui8, #sta.space<wbuf>>, memref<6x4xsi32, #sta.space<acc>>
    sta.mm %a, %dense to %acc scores : memref<6x8xsi8, #sta.space<spad>>, memref<4x8xsi8, #sta.space<spad>>, memref<6x4xsi32, #sta.space<acc>>
    // CHECK-NEXT: sta.mm %a, %dense to %acc scores : memref<6x8xsi8, #sta.space<spad>>, memref<4x8xsi8, #sta.space<spad>>, memref<6x4xsi32, #sta.space<acc>>
    sta.softmax row %acc to %p sums %sums parameters %parameters causal : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui8, #sta.space<spad>>, memref<6xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    // CHECK-NEXT: sta.softmax row %acc to %p sums %sums parameters %parameters causal : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui8, #sta.space<spad>>, memref<6xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    sta.map %acc to %y parameters %parameters residual %sums normalize : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6xsi32, #sta.space<spad>>
    // CHECK-NEXT: sta.map %acc to %y parameters %parameters residual %sums normalize : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6xsi32, #sta.space<spad>>
    sta.norm layer %rows parameters %parameters to %norm copy %copy : memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>, memref<6x8xsi8, #sta.space<spad>>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm copy %copy : memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>, memref<6x8xsi8, #sta.space<spad>>
    sta.map %acc to %stream parameters %parameters per_channel gather : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    // CHECK-NEXT: sta.map %acc to %stream parameters %parameters per_channel gather : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    sta.norm layer %rows parameters %parameters to %norm gathered : memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm gathered : memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>
    sta.store %copy to %out : memref<6x8xsi8, #sta.space<spad>>, memref<6x8xsi8, #sta.space<dram>>
    // CHECK-NEXT: sta.store %copy to %out : memref<6x8xsi8, #sta.space<spad>>, memref<6x8xsi8, #sta.space<dram>>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @online(%a: memref<6x8xui16, #sta.space<spad>>, %b: memref<8x4xsi8, #sta.space<spad>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %wide: memref<6x8xsi32, #sta.space<acc>>, %p: memref<6x4xui16, #sta.space<spad>>, %state: memref<18xsi32, #sta.space<spad>>, %shifts: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>) {
  // CHECK-NEXT: func.func @online(%a: memref<6x8xui16, #sta.space<spad>>, %b: memref<8x4xsi8, #sta.space<spad>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %wide: memref<6x8xsi32, #sta.space<acc>>, %p: memref<6x4xui16, #sta.space<spad>>, %state: memref<18xsi32, #sta.space<spad>>, %shifts: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>) {
    sta.mm %a, %b to %acc plane high transposed : memref<6x8xui16, #sta.space<spad>>, memref<8x4xsi8, #sta.space<spad>>, memref<6x4xsi32, #sta.space<acc>>
    // CHECK-NEXT: sta.mm %a, %b to %acc plane high transposed : memref<6x8xui16, #sta.space<spad>>, memref<8x4xsi8, #sta.space<spad>>, memref<6x4xsi32, #sta.space<acc>>
    sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui16, #sta.space<spad>>, memref<18xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    // CHECK-NEXT: sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui16, #sta.space<spad>>, memref<18xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    sta.rescale %wide by %shifts wait [2] : memref<6x8xsi32, #sta.space<acc>>, memref<6xsi32, #sta.space<spad>>
    // CHECK-NEXT: sta.rescale %wide by %shifts wait [2] : memref<6x8xsi32, #sta.space<acc>>, memref<6xsi32, #sta.space<spad>>
    sta.map %wide to %y parameters %parameters wide : memref<6x8xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    // CHECK-NEXT: sta.map %wide to %y parameters %parameters wide : memref<6x8xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
