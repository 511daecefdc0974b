// RUN: sta opt %s -p torch-canonicalize-arithmetic | filecheck %s

// x - 4 is a sum with -4, a constant divisor the factor one over it; x - y stays.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}, %y: !torch.vtensor<[2,4],f32> {sta.name = "y"}) -> (!torch.vtensor<[2,4],f32> {sta.name = "difference"}, !torch.vtensor<[2,4],f32> {sta.name = "quotient"}, !torch.vtensor<[2,4],f32> {sta.name = "shifted"}) {
  %one = torch.constant.int 1
  %four = torch.vtensor.literal(dense<4.0> : tensor<1xf32>) : !torch.vtensor<[1],f32>
  %difference = torch.aten.sub.Tensor %x, %y, %one : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>, !torch.int -> !torch.vtensor<[2,4],f32>
  %quotient = torch.aten.div.Tensor %x, %four : !torch.vtensor<[2,4],f32>, !torch.vtensor<[1],f32> -> !torch.vtensor<[2,4],f32>
  %shifted = torch.aten.sub.Tensor %x, %four, %one : !torch.vtensor<[2,4],f32>, !torch.vtensor<[1],f32>, !torch.int -> !torch.vtensor<[2,4],f32>
  func.return %difference, %quotient, %shifted : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>
}

// CHECK:      %difference = torch.aten.sub.Tensor %x, %y,
// CHECK:      %[[QUARTER:.*]] = torch.vtensor.literal(dense<2.500000e-01> :
// CHECK:      %quotient = torch.aten.mul.Tensor %x, %[[QUARTER]] :
// CHECK:      %[[MINUS:.*]] = torch.vtensor.literal(dense<-4.000000e+00> :
// CHECK:      %shifted = torch.aten.add.Tensor %x, %[[MINUS]],
// CHECK:      func.return %difference, %quotient, %shifted
