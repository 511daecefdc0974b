// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @constants() {
  // CHECK-NEXT: func.func @constants() {
    %0 = torch.vtensor.literal(dense<true> : tensor<i1>) : !torch.vtensor<[],i1>
    // CHECK-NEXT: %0 = torch.vtensor.literal(dense<true> : tensor<i1>) : !torch.vtensor<[],i1>
    %1 = torch.vtensor.literal(dense_resource<encoder.layer.0.dense.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
    // CHECK-NEXT: %1 = torch.vtensor.literal(dense_resource<encoder.layer.0.dense.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
    %2 = torch.constant.int 5
    // CHECK-NEXT: %2 = torch.constant.int 5
    %3 = torch.constant.float 1.000000e-12
    // CHECK-NEXT: %3 = torch.constant.float 1.000000e-12
    %4 = torch.constant.bool true
    // CHECK-NEXT: %4 = torch.constant.bool true
    %5 = torch.constant.none
    // CHECK-NEXT: %5 = torch.constant.none
    %6 = torch.constant.str "none"
    // CHECK-NEXT: %6 = torch.constant.str "none"
    %7 = torch.prim.ListConstruct %2, %2 : (!torch.int, !torch.int) -> !torch.list<int>
    // CHECK-NEXT: %7 = torch.prim.ListConstruct %2, %2 : (!torch.int, !torch.int) -> !torch.list<int>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @operators(%x: !torch.vtensor<[2,6,8],f32>, %w: !torch.vtensor<[4,8],f32>, %b: !torch.vtensor<[4],f32>, %g: !torch.vtensor<[8],f32>, %ids: !torch.vtensor<[2,6],si64>, %mask: !torch.vtensor<[2,1,6,6],i1>, %heads: !torch.vtensor<[2,2,6,4],f32>) {
  // CHECK-NEXT: func.func @operators(%x: !torch.vtensor<[2,6,8],f32>, %w: !torch.vtensor<[4,8],f32>, %b: !torch.vtensor<[4],f32>, %g: !torch.vtensor<[8],f32>, %ids: !torch.vtensor<[2,6],si64>, %mask: !torch.vtensor<[2,1,6,6],i1>, %heads: !torch.vtensor<[2,2,6,4],f32>) {
    %none = torch.constant.none
    // CHECK-NEXT: %none = torch.constant.none
    %false = torch.constant.bool false
    // CHECK-NEXT: %false = torch.constant.bool false
    %zero = torch.constant.int 0
    // CHECK-NEXT: %zero = torch.constant.int 0
    %one = torch.constant.int 1
    // CHECK-NEXT: %one = torch.constant.int 1
    %last = torch.constant.int -1
    // CHECK-NEXT: %last = torch.constant.int -1
    %eight = torch.constant.int 8
    // CHECK-NEXT: %eight = torch.constant.int 8
    %epsilon = torch.constant.float 1.000000e-05
    // CHECK-NEXT: %epsilon = torch.constant.float 1.000000e-05
    %exact = torch.constant.str "none"
    // CHECK-NEXT: %exact = torch.constant.str "none"
    %axis = torch.prim.ListConstruct %eight : (!torch.int) -> !torch.list<int>
    // CHECK-NEXT: %axis = torch.prim.ListConstruct %eight : (!torch.int) -> !torch.list<int>
    %linear = torch.aten.linear %x, %w, %b : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[4],f32> -> !torch.vtensor<[2,6,4],f32>
    // CHECK-NEXT: %linear = torch.aten.linear %x, %w, %b : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[4],f32> -> !torch.vtensor<[2,6,4],f32>
    %no_bias = torch.aten.linear %x, %w, %none : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[2,6,4],f32>
    // CHECK-NEXT: %no_bias = torch.aten.linear %x, %w, %none : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[2,6,4],f32>
    %rows = torch.aten.embedding %w, %ids, %last, %false, %false : !torch.vtensor<[4,8],f32>, !torch.vtensor<[2,6],si64>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %rows = torch.aten.embedding %w, %ids, %last, %false, %false : !torch.vtensor<[4,8],f32>, !torch.vtensor<[2,6],si64>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[2,6,8],f32>
    %norm = torch.aten.layer_norm %x, %axis, %g, %g, %epsilon, %false : !torch.vtensor<[2,6,8],f32>, !torch.list<int>, !torch.vtensor<[8],f32>, !torch.vtensor<[8],f32>, !torch.float, !torch.bool -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %norm = torch.aten.layer_norm %x, %axis, %g, %g, %epsilon, %false : !torch.vtensor<[2,6,8],f32>, !torch.list<int>, !torch.vtensor<[8],f32>, !torch.vtensor<[8],f32>, !torch.float, !torch.bool -> !torch.vtensor<[2,6,8],f32>
    %gelu = torch.aten.gelu %x, %exact : !torch.vtensor<[2,6,8],f32>, !torch.str -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %gelu = torch.aten.gelu %x, %exact : !torch.vtensor<[2,6,8],f32>, !torch.str -> !torch.vtensor<[2,6,8],f32>
    %relu = torch.aten.relu %x : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %relu = torch.aten.relu %x : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    %sum = torch.aten.add.Tensor %x, %x, %one : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[2,6,8],f32>, !torch.int -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %sum = torch.aten.add.Tensor %x, %x, %one : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[2,6,8],f32>, !torch.int -> !torch.vtensor<[2,6,8],f32>
    %swapped = torch.aten.transpose.int %x, %one, %last : !torch.vtensor<[2,6,8],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,8,6],f32>
    // CHECK-NEXT: %swapped = torch.aten.transpose.int %x, %one, %last : !torch.vtensor<[2,6,8],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,8,6],f32>
    %scores = torch.aten.matmul %x, %swapped : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[2,8,6],f32> -> !torch.vtensor<[2,6,6],f32>
    // CHECK-NEXT: %scores = torch.aten.matmul %x, %swapped : !torch.vtensor<[2,6,8],f32>, !torch.vtensor<[2,8,6],f32> -> !torch.vtensor<[2,6,6],f32>
    %softmax = torch.aten.softmax.int %scores, %last, %none : !torch.vtensor<[2,6,6],f32>, !torch.int, !torch.none -> !torch.vtensor<[2,6,6],f32>
    // CHECK-NEXT: %softmax = torch.aten.softmax.int %scores, %last, %none : !torch.vtensor<[2,6,6],f32>, !torch.int, !torch.none -> !torch.vtensor<[2,6,6],f32>
    %attention = torch.aten.scaled_dot_product_attention %heads, %heads, %heads, %mask, %epsilon, %false, %none, %false : !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,1,6,6],i1>, !torch.float, !torch.bool, !torch.none, !torch.bool -> !torch.vtensor<[2,2,6,4],f32>
    // CHECK-NEXT: %attention = torch.aten.scaled_dot_product_attention %heads, %heads, %heads, %mask, %epsilon, %false, %none, %false : !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,2,6,4],f32>, !torch.vtensor<[2,1,6,6],i1>, !torch.float, !torch.bool, !torch.none, !torch.bool -> !torch.vtensor<[2,2,6,4],f32>
    %first = torch.aten.select.int %x, %one, %zero : !torch.vtensor<[2,6,8],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,8],f32>
    // CHECK-NEXT: %first = torch.aten.select.int %x, %one, %zero : !torch.vtensor<[2,6,8],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,8],f32>
    %ones = torch.aten.zeros_like %x, %none, %none, %none, %false, %none : !torch.vtensor<[2,6,8],f32>, !torch.none, !torch.none, !torch.none, !torch.bool, !torch.none -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %ones = torch.aten.zeros_like %x, %none, %none, %none, %false, %none : !torch.vtensor<[2,6,8],f32>, !torch.none, !torch.none, !torch.none, !torch.bool, !torch.none -> !torch.vtensor<[2,6,8],f32>
    %quantized = torch.fake_quantize %x to si8 scale 2.500000e-02 zero_point -3 : !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %quantized = torch.fake_quantize %x to si8 scale 2.500000e-02 zero_point -3 : !torch.vtensor<[2,6,8],f32>
    %noted = torch.aten.relu %x {sta.range = #torch.range<-1.5, 0.1>, sta.narrow_range = #torch.range<0.0, 1.0e-05>, sta.bound = #torch.range<-2.0, 1.0e+30>, sta.narrow_fidelity = #torch.decibels<41.5>, sta.softmax = #torch.softmax<8 bits>, sta.int16_input} : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %noted = torch.aten.relu %x {sta.range = #torch.range<-1.5, 0.1>, sta.narrow_range = #torch.range<0.0, 1.0e-05>, sta.bound = #torch.range<-2.0, 1.0e+30>, sta.narrow_fidelity = #torch.decibels<41.5>, sta.softmax = #torch.softmax<8 bits>, sta.int16_input} : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    %online = torch.aten.relu %x {sta.softmax = #torch.softmax<16 bits, 128 keys>, sta.smoothed = "beside", sta.mask_error = "why"} : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    // CHECK-NEXT: %online = torch.aten.relu %x {sta.softmax = #torch.softmax<16 bits, 128 keys>, sta.smoothed = "beside", sta.mask_error = "why"} : !torch.vtensor<[2,6,8],f32> -> !torch.vtensor<[2,6,8],f32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
