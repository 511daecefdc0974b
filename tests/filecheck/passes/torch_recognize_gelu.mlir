// RUN: sta opt %s -p torch-recognize-gelu --split-input-file | filecheck %s

// As ESM writes it: 0.5 * x * (1 + erf(x / sqrt(2))). With another divisor it is no GELU.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,4],f32> {sta.name = "gelu"}, !torch.vtensor<[2,4],f32> {sta.name = "other"}) {
  %one = torch.constant.int 1
  %half = torch.constant.float 5.000000e-01
  %root = torch.constant.float 1.4142135623730951
  %number = torch.constant.float 1.500000e+00
  %halved = torch.aten.mul.Scalar %x, %half : !torch.vtensor<[2,4],f32>, !torch.float -> !torch.vtensor<[2,4],f32>
  %divided = torch.aten.div.Scalar %x, %root : !torch.vtensor<[2,4],f32>, !torch.float -> !torch.vtensor<[2,4],f32>
  %erf = torch.aten.erf %divided : !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %sum = torch.aten.add.Scalar %erf, %one, %one : !torch.vtensor<[2,4],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,4],f32>
  %y = torch.aten.mul.Tensor %halved, %sum : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %divided_2 = torch.aten.div.Scalar %x, %number : !torch.vtensor<[2,4],f32>, !torch.float -> !torch.vtensor<[2,4],f32>
  %erf_2 = torch.aten.erf %divided_2 : !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %sum_2 = torch.aten.add.Scalar %erf_2, %one, %one : !torch.vtensor<[2,4],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,4],f32>
  %z = torch.aten.mul.Tensor %halved, %sum_2 : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  func.return %y, %z : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>
}

// CHECK:      %[[KIND:.*]] = torch.constant.str "none"
// CHECK:      %y = torch.aten.gelu %x, %[[KIND]] :
// CHECK:      %z = torch.aten.mul.Tensor
// CHECK-NEXT: func.return %y, %z

// -----

// Quantizers round between the parts, and constants to 8 bits: 1.41 for the root. What is rounded before stays so.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,2,4],f32> {sta.name = "gelu"}) {
  %one = torch.constant.int 1
  %half = torch.constant.float 5.000000e-01
  %root = torch.constant.float 1.410000e+00
  %single = torch.vtensor.literal(dense<1.000000e+00> : tensor<1x1x1xf32>) : !torch.vtensor<[1,1,1],f32>
  %rounded = torch.fake_quantize %x to si8 scale 3.125000e-02 zero_point 5 : !torch.vtensor<[2,4],f32>
  %divided = torch.aten.div.Scalar %rounded, %root : !torch.vtensor<[2,4],f32>, !torch.float -> !torch.vtensor<[2,4],f32>
  %erf = torch.aten.erf %divided : !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %between = torch.fake_quantize %erf to si8 scale 7.812500e-03 zero_point 0 : !torch.vtensor<[2,4],f32>
  %sum = torch.aten.add.Tensor %between, %single, %one : !torch.vtensor<[2,4],f32>, !torch.vtensor<[1,1,1],f32>, !torch.int -> !torch.vtensor<[1,2,4],f32>
  %halved = torch.aten.mul.Scalar %sum, %half : !torch.vtensor<[1,2,4],f32>, !torch.float -> !torch.vtensor<[1,2,4],f32>
  %y = torch.aten.mul.Tensor %rounded, %halved : !torch.vtensor<[2,4],f32>, !torch.vtensor<[1,2,4],f32> -> !torch.vtensor<[1,2,4],f32>
  func.return %y : !torch.vtensor<[1,2,4],f32>
}

// CHECK:      %[[ROUNDED:.*]] = torch.fake_quantize %x to si8
// CHECK:      %[[GELU:.*]] = torch.aten.gelu %[[ROUNDED]],
// CHECK:      torch.aten.view %[[GELU]],
// CHECK-NOT:  torch.aten.erf
// CHECK:      func.return
