// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @buffers() {
  // CHECK-NEXT: func.func @buffers() {
    %w = sta.constant @encoder.dense.weight {class = "weights"} : memref<20xui8, #sta.space<dram>>
    // CHECK-NEXT: %w = sta.constant @encoder.dense.weight {class = "weights"} : memref<20xui8, #sta.space<dram>>
    %p = sta.constant @encoder.dense.parameters {class = "parameters", offset = 64 : i64} : memref<68xui8, #sta.space<dram>>
    // CHECK-NEXT: %p = sta.constant @encoder.dense.parameters {class = "parameters", offset = 64 : i64} : memref<68xui8, #sta.space<dram>>
    %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.space<spad>>
    // CHECK-NEXT: %x = sta.alloc "encoder.dense" : memref<128x8xsi8, #sta.space<spad>>
    %y = sta.alloc "encoder.dense" {offset = 1024 : i64} : memref<128x4xsi16, #sta.space<spad>>
    // CHECK-NEXT: %y = sta.alloc "encoder.dense" {offset = 1024 : i64} : memref<128x4xsi16, #sta.space<spad>>
    "sta.loop"() <{count = 4 : i64}> ({
    // CHECK-NEXT: "sta.loop"() <{count = 4 : i64}> ({
    ^bb0(%i: index):
    // CHECK-NEXT: ^bb0(%i: index):
      %tile = sta.view %x[%i] {offset = 0 : i64, coefficients = array<i64: 256>} : memref<128x8xsi8, #sta.space<spad>> -> memref<32x8xsi8, strided<[8, 1], offset: ?>, #sta.space<spad>>
      // CHECK-NEXT: %tile = sta.view %x[%i] {offset = 0 : i64, coefficients = array<i64: 256>} : memref<128x8xsi8, #sta.space<spad>> -> memref<32x8xsi8, strided<[8, 1], offset: ?>, #sta.space<spad>>
    }) : () -> ()
    // CHECK-NEXT: }) : () -> ()
    "sta.sync"() <{unit = "mm", wait = array<i64: 3>}> : () -> ()
    // CHECK-NEXT: "sta.sync"() <{unit = "mm", wait = array<i64: 3>}> : () -> ()
    sta.fence
    // CHECK-NEXT: sta.fence
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @units(%dram: memref<6x8xsi8, #sta.space<dram>>, %table: memref<30x8xsi16, #sta.space<dram>>, %ids: memref<6xsi32, #sta.space<spad>>, %rows: memref<6x8xsi16, #sta.space<spad>>, %a: memref<6x8xsi8, #sta.space<spad>>, %packed: memref<20xui8, #sta.space<wbuf>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %dense: memref<4x8xsi8, #sta.space<spad>>, %p: memref<6x4xui8, #sta.space<spad>>, %sums: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>, %norm: memref<6x8xsi16, #sta.space<spad>>, %copy: memref<6x8xsi8, #sta.space<spad>>, %stream: memref<6x4xsi16, #sta.space<spad>>, %out: memref<6x8xsi8, #sta.space<dram>>) {
  // CHECK-NEXT: func.func @units(%dram: memref<6x8xsi8, #sta.space<dram>>, %table: memref<30x8xsi16, #sta.space<dram>>, %ids: memref<6xsi32, #sta.space<spad>>, %rows: memref<6x8xsi16, #sta.space<spad>>, %a: memref<6x8xsi8, #sta.space<spad>>, %packed: memref<20xui8, #sta.space<wbuf>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %dense: memref<4x8xsi8, #sta.space<spad>>, %p: memref<6x4xui8, #sta.space<spad>>, %sums: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>, %norm: memref<6x8xsi16, #sta.space<spad>>, %copy: memref<6x8xsi8, #sta.space<spad>>, %stream: memref<6x4xsi16, #sta.space<spad>>, %out: memref<6x8xsi8, #sta.space<dram>>) {
    "sta.load"(%dram, %a) <{post = array<i64: 0>}> : (memref<6x8xsi8, #sta.space<dram>>, memref<6x8xsi8, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.load"(%dram, %a) <{post = array<i64: 0>}> : (memref<6x8xsi8, #sta.space<dram>>, memref<6x8xsi8, #sta.space<spad>>) -> ()
    "sta.gather"(%table, %ids, %rows) : (memref<30x8xsi16, #sta.space<dram>>, memref<6xsi32, #sta.space<spad>>, memref<6x8xsi16, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.gather"(%table, %ids, %rows) : (memref<30x8xsi16, #sta.space<dram>>, memref<6xsi32, #sta.space<spad>>, memref<6x8xsi16, #sta.space<spad>>) -> ()
    "sta.mm"(%acc, %a, %packed) <{wait = array<i64: 0>, pattern = #nm.pattern<2:4, bitmap>, accumulate}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xsi8, #sta.space<spad>>, memref<20xui8, #sta.space<wbuf>>) -> ()
    // CHECK-NEXT: "sta.mm"(%acc, %a, %packed) <{wait = array<i64: 0>, pattern = #nm.pattern<2:4, bitmap>, accumulate}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xsi8, #sta.space<spad>>, memref<20xui8, #sta.space<wbuf>>) -> ()
    "sta.mm"(%acc, %a, %dense) <{pattern = #nm.pattern<1:1, dense>, scores}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xsi8, #sta.space<spad>>, memref<4x8xsi8, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.mm"(%acc, %a, %dense) <{pattern = #nm.pattern<1:1, dense>, scores}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xsi8, #sta.space<spad>>, memref<4x8xsi8, #sta.space<spad>>) -> ()
    "sta.softmax"(%acc, %p, %sums, %parameters) <{mode = "row", causal, row_base = 0 : i64, row_coefficients = array<i64>, key_base = 0 : i64, key_coefficients = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui8, #sta.space<spad>>, memref<6xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    // CHECK-NEXT: "sta.softmax"(%acc, %p, %sums, %parameters) <{mode = "row", causal, row_base = 0 : i64, row_coefficients = array<i64>, key_base = 0 : i64, key_coefficients = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui8, #sta.space<spad>>, memref<6xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    "sta.map"(%acc, %y, %parameters, %sums) <{normalize, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6xsi32, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.map"(%acc, %y, %parameters, %sums) <{normalize, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6xsi32, #sta.space<spad>>) -> ()
    "sta.norm"(%rows, %parameters, %norm, %copy) <{kind = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>}> : (memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>, memref<6x8xsi8, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.norm"(%rows, %parameters, %norm, %copy) <{kind = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>}> : (memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>, memref<6x8xsi8, #sta.space<spad>>) -> ()
    "sta.map"(%acc, %stream, %parameters) <{per_channel, gather, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    // CHECK-NEXT: "sta.map"(%acc, %stream, %parameters) <{per_channel, gather, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    "sta.norm"(%rows, %parameters, %norm) <{kind = "layer", gathered, operandSegmentSizes = array<i32: 1, 1, 1, 0>}> : (memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.norm"(%rows, %parameters, %norm) <{kind = "layer", gathered, operandSegmentSizes = array<i32: 1, 1, 1, 0>}> : (memref<6x8xsi16, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>, memref<6x8xsi16, #sta.space<spad>>) -> ()
    "sta.store"(%copy, %out) : (memref<6x8xsi8, #sta.space<spad>>, memref<6x8xsi8, #sta.space<dram>>) -> ()
    // CHECK-NEXT: "sta.store"(%copy, %out) : (memref<6x8xsi8, #sta.space<spad>>, memref<6x8xsi8, #sta.space<dram>>) -> ()
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @online(%a: memref<6x8xui16, #sta.space<spad>>, %b: memref<8x4xsi8, #sta.space<spad>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %wide: memref<6x8xsi32, #sta.space<acc>>, %p: memref<6x4xui16, #sta.space<spad>>, %state: memref<18xsi32, #sta.space<spad>>, %shifts: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>) {
  // CHECK-NEXT: func.func @online(%a: memref<6x8xui16, #sta.space<spad>>, %b: memref<8x4xsi8, #sta.space<spad>>, %acc: memref<6x4xsi32, #sta.space<acc>>, %wide: memref<6x8xsi32, #sta.space<acc>>, %p: memref<6x4xui16, #sta.space<spad>>, %state: memref<18xsi32, #sta.space<spad>>, %shifts: memref<6xsi32, #sta.space<spad>>, %parameters: memref<64xui8, #sta.space<wbuf>>, %y: memref<6x4xsi8, #sta.space<spad>>) {
    "sta.mm"(%acc, %a, %b) <{pattern = #nm.pattern<1:1, dense>, transposed, plane = "high"}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xui16, #sta.space<spad>>, memref<8x4xsi8, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.mm"(%acc, %a, %b) <{pattern = #nm.pattern<1:1, dense>, transposed, plane = "high"}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x8xui16, #sta.space<spad>>, memref<8x4xsi8, #sta.space<spad>>) -> ()
    "sta.softmax"(%acc, %p, %state, %parameters) <{mode = "online_first", row_base = 0 : i64, row_coefficients = array<i64>, key_base = 8 : i64, key_coefficients = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui16, #sta.space<spad>>, memref<18xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    // CHECK-NEXT: "sta.softmax"(%acc, %p, %state, %parameters) <{mode = "online_first", row_base = 0 : i64, row_coefficients = array<i64>, key_base = 8 : i64, key_coefficients = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}> : (memref<6x4xsi32, #sta.space<acc>>, memref<6x4xui16, #sta.space<spad>>, memref<18xsi32, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    "sta.rescale"(%wide, %shifts) <{wait = array<i64: 2>}> : (memref<6x8xsi32, #sta.space<acc>>, memref<6xsi32, #sta.space<spad>>) -> ()
    // CHECK-NEXT: "sta.rescale"(%wide, %shifts) <{wait = array<i64: 2>}> : (memref<6x8xsi32, #sta.space<acc>>, memref<6xsi32, #sta.space<spad>>) -> ()
    "sta.map"(%wide, %y, %parameters) <{wide, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}> : (memref<6x8xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    // CHECK-NEXT: "sta.map"(%wide, %y, %parameters) <{wide, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}> : (memref<6x8xsi32, #sta.space<acc>>, memref<6x4xsi8, #sta.space<spad>>, memref<64xui8, #sta.space<wbuf>>) -> ()
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
