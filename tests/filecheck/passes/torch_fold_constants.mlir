// RUN: sta opt %s -p torch-fold-constants --save-weights %t.safetensors | filecheck %s
// RUN: %show_weights %t.safetensors constant.folded | filecheck %s --check-prefix=WEIGHTS

// What does not depend on an input becomes a literal; what does nothing disappears.
func.func @main(%x: !torch.vtensor<[2,3],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,3],f32> {sta.name = "output"}) {
  %ones = torch.vtensor.literal(dense<1.000000e+00> : tensor<3xf32>) : !torch.vtensor<[3],f32>
  %twos = torch.vtensor.literal(dense<2.000000e+00> : tensor<3xf32>) : !torch.vtensor<[3],f32>
  %one = torch.constant.int 1
  %p = torch.constant.float 1.000000e-01
  %false = torch.constant.bool false
  %threes = torch.aten.add.Tensor %ones, %twos, %one : !torch.vtensor<[3],f32>, !torch.vtensor<[3],f32>, !torch.int -> !torch.vtensor<[3],f32>
  %kept = torch.aten.dropout %x, %p, %false : !torch.vtensor<[2,3],f32>, !torch.float, !torch.bool -> !torch.vtensor<[2,3],f32>
  %unused = torch.aten.relu %x : !torch.vtensor<[2,3],f32> -> !torch.vtensor<[2,3],f32>
  %y = torch.aten.add.Tensor %kept, %threes, %one : !torch.vtensor<[2,3],f32>, !torch.vtensor<[3],f32>, !torch.int -> !torch.vtensor<[2,3],f32>
  func.return %y : !torch.vtensor<[2,3],f32>
}

// CHECK:      func.func @main
// CHECK-NOT:    torch.aten.dropout
// CHECK-NOT:    torch.aten.relu
// CHECK:        %[[THREES:.*]] = torch.vtensor.literal(dense_resource<[[NAME:.*]]> : tensor<3xf32>)
// CHECK-NEXT:   %y = torch.aten.add.Tensor %x, %[[THREES]], %one
// CHECK-NEXT:   func.return %y
// WEIGHTS: constant.folded float32 [3.0, 3.0, 3.0]
