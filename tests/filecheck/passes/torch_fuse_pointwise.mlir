// RUN: sta opt %s -p torch-fuse-pointwise | filecheck %s

// x * sigmoid(1.5 * x), and the larger of that and a number, are functions of x; a product with a row is none.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,4],f32> {sta.name = "gated"}, !torch.vtensor<[2,4],f32> {sta.name = "limited"}) {
  %slope = torch.constant.float 1.5
  %half = torch.vtensor.literal(dense<0.5> : tensor<f32>) : !torch.vtensor<[],f32>
  %scaled = torch.aten.mul.Scalar %x, %slope : !torch.vtensor<[2,4],f32>, !torch.float -> !torch.vtensor<[2,4],f32>
  %gate = torch.aten.sigmoid %scaled : !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %gated = torch.aten.mul.Tensor %x, %gate : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %limited = torch.aten.maximum %gated, %half : !torch.vtensor<[2,4],f32>, !torch.vtensor<[],f32> -> !torch.vtensor<[2,4],f32>
  func.return %gated, %limited : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>
}

// CHECK:      func.func @main(%x
// CHECK-NEXT:   %gated = torch.pointwise %x "v1=aten.mul.Scalar(x, 1.5); v2=aten.sigmoid(v1); aten.mul.Tensor(x, v2)" : !torch.vtensor<[2,4],f32>
// CHECK-NEXT:   %limited = torch.pointwise %x "v1=aten.mul.Scalar(x, 1.5); v2=aten.sigmoid(v1); v3=aten.mul.Tensor(x, v2); aten.maximum(v3, 0.5)" : !torch.vtensor<[2,4],f32>
// CHECK-NEXT:   func.return %gated, %limited
