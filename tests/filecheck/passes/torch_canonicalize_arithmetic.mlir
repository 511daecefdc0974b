// RUN: sta opt %s -p torch-canonicalize-arithmetic | filecheck %s

// x - y is a sum with -y, a constant divisor the factor one over it.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}, %y: !torch.vtensor<[2,4],f32> {sta.name = "y"}) -> (!torch.vtensor<[2,4],f32> {sta.name = "difference"}, !torch.vtensor<[2,4],f32> {sta.name = "quotient"}) {
  %one = torch.constant.int 1
  %four = torch.vtensor.literal(dense<4.0> : tensor<1xf32>) : !torch.vtensor<[1],f32>
  %difference = torch.aten.sub.Tensor %x, %y, %one : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>, !torch.int -> !torch.vtensor<[2,4],f32>
  %quotient = torch.aten.div.Tensor %x, %four : !torch.vtensor<[2,4],f32>, !torch.vtensor<[1],f32> -> !torch.vtensor<[2,4],f32>
  func.return %difference, %quotient : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>
}

// CHECK:      %[[MINUS:.*]] = torch.constant.float -1.
// CHECK:      %[[NEGATED:.*]] = torch.aten.mul.Scalar %y, %[[MINUS]] :
// CHECK:      %difference = torch.aten.add.Tensor %x, %[[NEGATED]],
// CHECK:      %[[QUARTER:.*]] = torch.vtensor.literal(dense<2.500000e-01> :
// CHECK:      %quotient = torch.aten.mul.Tensor %x, %[[QUARTER]] :
// CHECK:      func.return %difference, %quotient
