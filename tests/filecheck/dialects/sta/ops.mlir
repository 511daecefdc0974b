// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @buffers() {
  // CHECK-NEXT: func.func @buffers() {
    %w = sta.constant @encoder.dense.weight weights : dram<20xui8>
    // CHECK-NEXT: %w = sta.constant @encoder.dense.weight weights : dram<20xui8>
    %p = sta.constant @encoder.dense.parameters parameters at 64 : dram<68xui8>
    // CHECK-NEXT: %p = sta.constant @encoder.dense.parameters parameters at 64 : dram<68xui8>
    %x = sta.alloc "encoder.dense" : spad<128x8xsi8>
    // CHECK-NEXT: %x = sta.alloc "encoder.dense" : spad<128x8xsi8>
    %y = sta.alloc "encoder.dense" at 1024 : spad<128x4xsi16>
    // CHECK-NEXT: %y = sta.alloc "encoder.dense" at 1024 : spad<128x4xsi16>
    sta.loop %i = 0 to 4 {
    // CHECK-NEXT: sta.loop %i = 0 to 4 {
      %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : spad<128x8xsi8>
      // CHECK-NEXT: %tile = sta.view %x[%i * 256] sizes [32, 8] strides [8, 1] : spad<128x8xsi8>
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
    sta.load %dram to %a post [0] : dram<6x8xsi8>, spad<6x8xsi8>
    // CHECK-NEXT: sta.load %dram to %a post [0] : dram<6x8xsi8>, spad<6x8xsi8>
    sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
    // CHECK-NEXT: sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
    sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
    // CHECK-NEXT: sta.mm %a, %packed to %acc pattern <2:4, bitmap> accumulate wait [0] : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
    sta.mm %a, %dense to %acc scores : spad<6x8xsi8>, spad<4x8xsi8>, acc<6x4xsi32>
    // CHECK-NEXT: sta.mm %a, %dense to %acc scores : spad<6x8xsi8>, spad<4x8xsi8>, acc<6x4xsi32>
    sta.softmax row %acc to %p sums %sums parameters %parameters causal : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>
    // CHECK-NEXT: sta.softmax row %acc to %p sums %sums parameters %parameters causal : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>
    sta.softmax row %acc to %p sums %sums parameters %parameters bias %stream : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>, spad<6x4xsi16>
    // CHECK-NEXT: sta.softmax row %acc to %p sums %sums parameters %parameters bias %stream : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>, spad<6x4xsi16>
    sta.softmax row %acc to %p sums %sums parameters %parameters mask %p bias %stream causal : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>, spad<6x4xui8>, spad<6x4xsi16>
    // CHECK-NEXT: sta.softmax row %acc to %p sums %sums parameters %parameters mask %p bias %stream causal : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<64xui8>, spad<6x4xui8>, spad<6x4xsi16>
    sta.map %acc to %y parameters %parameters residual %stream combine maximum : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>, spad<6x4xsi16>
    // CHECK-NEXT: sta.map %acc to %y parameters %parameters residual %stream combine maximum : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>, spad<6x4xsi16>
    sta.map %acc to %y parameters %parameters residual %sums normalize : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>, spad<6xsi32>
    // CHECK-NEXT: sta.map %acc to %y parameters %parameters residual %sums normalize : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>, spad<6xsi32>
    sta.norm layer %rows parameters %parameters to %norm copy %copy : spad<6x8xsi16>, wbuf<64xui8>, spad<6x8xsi16>, spad<6x8xsi8>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm copy %copy : spad<6x8xsi16>, wbuf<64xui8>, spad<6x8xsi16>, spad<6x8xsi8>
    sta.map %acc to %stream parameters %parameters per_channel statistics : acc<6x4xsi32>, spad<6x4xsi16>, wbuf<64xui8>
    // CHECK-NEXT: sta.map %acc to %stream parameters %parameters per_channel statistics : acc<6x4xsi32>, spad<6x4xsi16>, wbuf<64xui8>
    sta.norm layer %rows parameters %parameters to %norm statistics : spad<6x8xsi16>, wbuf<64xui8>, spad<6x8xsi16>
    // CHECK-NEXT: sta.norm layer %rows parameters %parameters to %norm statistics : spad<6x8xsi16>, wbuf<64xui8>, spad<6x8xsi16>
    sta.store %copy to %out : spad<6x8xsi8>, dram<6x8xsi8>
    // CHECK-NEXT: sta.store %copy to %out : spad<6x8xsi8>, dram<6x8xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @online(%a: memref<6x8xui16, #sta.spad>, %b: memref<8x4xsi8, #sta.spad>, %acc: memref<6x4xsi32, #sta.acc>, %wide: memref<6x8xsi32, #sta.acc>, %p: memref<6x4xui16, #sta.spad>, %state: memref<18xsi32, #sta.spad>, %shifts: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>) {
  // CHECK-NEXT: func.func @online(%a: memref<6x8xui16, #sta.spad>, %b: memref<8x4xsi8, #sta.spad>, %acc: memref<6x4xsi32, #sta.acc>, %wide: memref<6x8xsi32, #sta.acc>, %p: memref<6x4xui16, #sta.spad>, %state: memref<18xsi32, #sta.spad>, %shifts: memref<6xsi32, #sta.spad>, %parameters: memref<64xui8, #sta.wbuf>, %y: memref<6x4xsi8, #sta.spad>) {
    sta.mm %a, %b to %acc plane high transposed : spad<6x8xui16>, spad<8x4xsi8>, acc<6x4xsi32>
    // CHECK-NEXT: sta.mm %a, %b to %acc plane high transposed : spad<6x8xui16>, spad<8x4xsi8>, acc<6x4xsi32>
    sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : acc<6x4xsi32>, spad<6x4xui16>, spad<18xsi32>, wbuf<64xui8>
    // CHECK-NEXT: sta.softmax online_first %acc to %p sums %state parameters %parameters keys 8 : acc<6x4xsi32>, spad<6x4xui16>, spad<18xsi32>, wbuf<64xui8>
    sta.shift %wide by %shifts wait [2] : acc<6x8xsi32>, spad<6xsi32>
    // CHECK-NEXT: sta.shift %wide by %shifts wait [2] : acc<6x8xsi32>, spad<6xsi32>
    sta.map %wide to %y parameters %parameters wide : acc<6x8xsi32>, spad<6x4xsi8>, wbuf<64xui8>
    // CHECK-NEXT: sta.map %wide to %y parameters %parameters wide : acc<6x8xsi32>, spad<6x4xsi8>, wbuf<64xui8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
