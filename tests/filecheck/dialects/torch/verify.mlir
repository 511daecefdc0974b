// RUN: sta opt %s --split-input-file --verify-diagnostics --parsing-diagnostics | filecheck %s

// CHECK: dynamic sizes are not supported: every size of a tensor is a number
%x = "test.op"() : () -> !torch.vtensor<[?,6],f32>

// -----

// CHECK: the value is a tensor<4xf32>, the result a !torch.vtensor<[5],f32>
%x = torch.vtensor.literal(dense_resource<b> : tensor<4xf32>) : !torch.vtensor<[5],f32>

// -----

// CHECK: takes !torch.vtensor<[2],f32> and gives !torch.vtensor<[3],f32>
%x = "test.op"() : () -> !torch.vtensor<[2],f32>
%y = torch.aten.relu %x : !torch.vtensor<[2],f32> -> !torch.vtensor<[3],f32>

// -----

// CHECK: input [6, 8] does not fit weight [4, 9]
%x, %w, %none = "test.op"() : () -> (!torch.vtensor<[6,8],f32>, !torch.vtensor<[4,9],f32>, !torch.none)
%y = torch.aten.linear %x, %w, %none : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,9],f32>, !torch.none -> !torch.vtensor<[6,4],f32>

// -----

// CHECK: bias [5] does not fit [4, 8]
%x, %w, %b = "test.op"() : () -> (!torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[5],f32>)
%y = torch.aten.linear %x, %w, %b : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[5],f32> -> !torch.vtensor<[6,4],f32>

// -----

// CHECK: the indices must be integers
%w, %ids, %int, %bool = "test.op"() : () -> (!torch.vtensor<[30,8],f32>, !torch.vtensor<[6],f32>, !torch.int, !torch.bool)
%y = torch.aten.embedding %w, %ids, %int, %bool, %bool : !torch.vtensor<[30,8],f32>, !torch.vtensor<[6],f32>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[6,8],f32>

// -----

// CHECK: [6] and [5] do not broadcast
%a, %b, %int = "test.op"() : () -> (!torch.vtensor<[6],f32>, !torch.vtensor<[5],f32>, !torch.int)
%y = torch.aten.add.Tensor %a, %b, %int : !torch.vtensor<[6],f32>, !torch.vtensor<[5],f32>, !torch.int -> !torch.vtensor<[6],f32>

// -----

// CHECK: query [6, 4] and key [6, 5] differ in their last axis
%q, %k, %none, %float, %bool = "test.op"() : () -> (!torch.vtensor<[6,4],f32>, !torch.vtensor<[6,5],f32>, !torch.none, !torch.float, !torch.bool)
%y = torch.aten.scaled_dot_product_attention %q, %k, %k, %none, %float, %bool, %none, %bool : !torch.vtensor<[6,4],f32>, !torch.vtensor<[6,5],f32>, !torch.vtensor<[6,5],f32>, !torch.none, !torch.float, !torch.bool, !torch.none, !torch.bool -> !torch.vtensor<[6,5],f32>

// -----

// CHECK: the scale must be positive and finite, not 0.0
%x = "test.op"() : () -> !torch.vtensor<[6],f32>
%y = torch.fake_quantize %x to si8 scale 0.000000e+00 zero_point 0 : !torch.vtensor<[6],f32>

// -----

// CHECK: si16 is symmetric: its zero point is 0
%x = "test.op"() : () -> !torch.vtensor<[6],f32>
%y = torch.fake_quantize %x to si16 scale 1.000000e-02 zero_point 3 : !torch.vtensor<[6],f32>

// -----

// CHECK: zero point outside si8: -128..127
%x = "test.op"() : () -> !torch.vtensor<[6],f32>
%y = torch.fake_quantize %x to si8 scale 1.000000e-02 zero_point 128 : !torch.vtensor<[6],f32>

// -----

// CHECK: stores numbers as si8 or si16, not ui8
%x = "test.op"() : () -> !torch.vtensor<[6],f32>
%y = torch.fake_quantize %x to ui8 scale 1.000000e-02 zero_point 0 : !torch.vtensor<[6],f32>

// -----

// CHECK: a range from 2.0 to 1.0: the lowest number comes first
%x = "test.op"() {sta.range = #torch.range<2.0, 1.0>} : () -> !torch.vtensor<[6],f32>

// -----

// CHECK: float literal expected for the highest number
%x = "test.op"() {sta.bound = #torch.range<-1.0, "much">} : () -> !torch.vtensor<[6],f32>

// -----

// CHECK: exponentials have 8 or 16 bits, not 12
%x = "test.op"() {sta.softmax = #torch.softmax<12 bits>} : () -> !torch.vtensor<[6],f32>

// -----

// CHECK: a chunk has at least one key, not 0
%x = "test.op"() {sta.softmax = #torch.softmax<8 bits, 0 keys>} : () -> !torch.vtensor<[6],f32>
