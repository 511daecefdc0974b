// RUN: sta opt %s -p torch-recognize-gelu | filecheck %s

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
