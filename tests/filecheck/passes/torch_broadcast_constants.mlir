// RUN: sta opt %s -p torch-broadcast-constants --save-weights %t.safetensors | filecheck %s
// RUN: %show_weights %t.safetensors constant.row | filecheck %s --check-prefix=WEIGHTS

// A number becomes a row of it, and so does a constant of one element along the last axis.
func.func @main(%x: !torch.vtensor<[2,3],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,3],f32> {sta.name = "output"}) {
  %half = torch.vtensor.literal(dense<5.000000e-01> : tensor<f32>) : !torch.vtensor<[],f32>
  %two = torch.constant.int 2
  %one = torch.constant.int 1
  %moved = torch.aten.sub.Scalar %x, %two, %one : !torch.vtensor<[2,3],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,3],f32>
  %y = torch.aten.mul.Tensor %half, %moved : !torch.vtensor<[],f32>, !torch.vtensor<[2,3],f32> -> !torch.vtensor<[2,3],f32>
  func.return %y : !torch.vtensor<[2,3],f32>
}

// CHECK:      %[[ROW:.*]] = torch.vtensor.literal(dense_resource<constant.row> : tensor<3xf32>)
// CHECK:      %[[MOVED:.*]] = torch.aten.add.Tensor %x, %[[ROW]], %{{.*}} :
// CHECK-NEXT: %[[HALVES:.*]] = torch.vtensor.literal(dense_resource<{{.*}}> : tensor<3xf32>)
// CHECK-NEXT: %y = torch.aten.mul.Tensor %[[HALVES]], %[[MOVED]] :
// CHECK-NEXT: func.return %y
// WEIGHTS: constant.row float32 [-2.0, -2.0, -2.0]
