// RUN: sta opt %s -p torch-round-attention | filecheck %s

// Scores and weights are not rounded; a rounding of scaled queries goes in front of the scaling, in steps that are finer.
func.func @main(%q: !torch.vtensor<[1,2,6,4],f32> {sta.name = "q"}, %k: !torch.vtensor<[1,2,4,6],f32> {sta.name = "k"}, %v: !torch.vtensor<[1,2,6,4],f32> {sta.name = "v"}) -> (!torch.vtensor<[1,2,6,4],f32> {sta.name = "output"}) {
  %half = torch.constant.float 5.000000e-01
  %last = torch.constant.int -1
  %none = torch.constant.none
  %scaled = torch.aten.mul.Scalar %q, %half : !torch.vtensor<[1,2,6,4],f32>, !torch.float -> !torch.vtensor<[1,2,6,4],f32>
  %query = torch.fake_quantize %scaled to si8 scale 1.250000e-01 zero_point 2 : !torch.vtensor<[1,2,6,4],f32>
  %key = torch.fake_quantize %k to si8 scale 2.500000e-01 zero_point 0 : !torch.vtensor<[1,2,4,6],f32>
  %value = torch.fake_quantize %v to si8 scale 2.500000e-01 zero_point 0 : !torch.vtensor<[1,2,6,4],f32>
  %product = torch.aten.matmul %query, %key : !torch.vtensor<[1,2,6,4],f32>, !torch.vtensor<[1,2,4,6],f32> -> !torch.vtensor<[1,2,6,6],f32>
  %scores = torch.fake_quantize %product to si8 scale 5.000000e-01 zero_point 0 : !torch.vtensor<[1,2,6,6],f32>
  %softmax = torch.aten.softmax.int %scores, %last, %none : !torch.vtensor<[1,2,6,6],f32>, !torch.int, !torch.none -> !torch.vtensor<[1,2,6,6],f32>
  %weights = torch.fake_quantize %softmax to si8 scale 3.906250e-03 zero_point -128 : !torch.vtensor<[1,2,6,6],f32>
  %y = torch.aten.matmul %weights, %value : !torch.vtensor<[1,2,6,6],f32>, !torch.vtensor<[1,2,6,4],f32> -> !torch.vtensor<[1,2,6,4],f32>
  func.return %y : !torch.vtensor<[1,2,6,4],f32>
}

// CHECK:      %[[FINER:.*]] = torch.fake_quantize %q to si8 scale 2.500000e-01 zero_point 2
// CHECK-NEXT: %[[FACTOR:.*]] = torch.constant.float 5.000000e-01
// CHECK-NEXT: %[[QUERY:.*]] = torch.aten.mul.Scalar %[[FINER]], %[[FACTOR]]
// CHECK-NEXT: %key = torch.fake_quantize %k
// CHECK-NEXT: %value = torch.fake_quantize %v
// CHECK-NEXT: %product = torch.aten.matmul %[[QUERY]], %key
// CHECK-NEXT: %softmax = torch.aten.softmax.int %product, %last, %none
// CHECK-NEXT: %y = torch.aten.matmul %softmax, %value
// CHECK-NEXT: func.return %y
