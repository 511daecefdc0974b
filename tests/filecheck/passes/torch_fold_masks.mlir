// RUN: sta opt %s -p torch-fold-masks | filecheck %s

// A lower triangle that was written down as a mask is is_causal.
func.func @main(%q: !torch.vtensor<[1,2,3,4],f32> {sta.name = "q"}) -> (!torch.vtensor<[1,2,3,4],f32> {sta.name = "output"}) {
  %mask = torch.vtensor.literal(dense<[[true, false, false], [true, true, false], [true, true, true]]> : tensor<3x3xi1>) : !torch.vtensor<[3,3],i1>
  %zero = torch.constant.float 0.000000e+00
  %half = torch.constant.float 5.000000e-01
  %false = torch.constant.bool false
  %y = torch.aten.scaled_dot_product_attention %q, %q, %q, %mask, %zero, %false, %half, %false : !torch.vtensor<[1,2,3,4],f32>, !torch.vtensor<[1,2,3,4],f32>, !torch.vtensor<[1,2,3,4],f32>, !torch.vtensor<[3,3],i1>, !torch.float, !torch.bool, !torch.float, !torch.bool -> !torch.vtensor<[1,2,3,4],f32>
  func.return %y : !torch.vtensor<[1,2,3,4],f32>
}

// CHECK-NOT:  torch.vtensor.literal
// CHECK:      %[[NONE:.*]] = torch.constant.none
// CHECK:      %[[CAUSAL:.*]] = torch.constant.bool true
// CHECK:      %y = torch.aten.scaled_dot_product_attention %q, %q, %q, %[[NONE]], %zero, %[[CAUSAL]], %half, %false
