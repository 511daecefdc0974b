// RUN: sta opt %s -p torch-recognize-norms | filecheck %s

// As LLaMA writes it: weight * (x * rsqrt(mean(x ** 2) + eps)).
func.func @main(%x: !torch.vtensor<[2,5,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,5,4],f32> {sta.name = "output"}) {
  %weight = torch.vtensor.literal(dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>) : !torch.vtensor<[4],f32>
  %none = torch.constant.none
  %true = torch.constant.bool true
  %one = torch.constant.int 1
  %two = torch.constant.int 2
  %last = torch.constant.int -1
  %eps = torch.constant.float 1.000000e-06
  %axes = torch.prim.ListConstruct %last : (!torch.int) -> !torch.list<int>
  %square = torch.aten.pow.Tensor_Scalar %x, %two : !torch.vtensor<[2,5,4],f32>, !torch.int -> !torch.vtensor<[2,5,4],f32>
  %mean = torch.aten.mean.dim %square, %axes, %true, %none : !torch.vtensor<[2,5,4],f32>, !torch.list<int>, !torch.bool, !torch.none -> !torch.vtensor<[2,5,1],f32>
  %sum = torch.aten.add.Scalar %mean, %eps, %one : !torch.vtensor<[2,5,1],f32>, !torch.float, !torch.int -> !torch.vtensor<[2,5,1],f32>
  %root = torch.aten.rsqrt %sum : !torch.vtensor<[2,5,1],f32> -> !torch.vtensor<[2,5,1],f32>
  %normalized = torch.aten.mul.Tensor %x, %root : !torch.vtensor<[2,5,4],f32>, !torch.vtensor<[2,5,1],f32> -> !torch.vtensor<[2,5,4],f32>
  %y = torch.aten.mul.Tensor %weight, %normalized : !torch.vtensor<[4],f32>, !torch.vtensor<[2,5,4],f32> -> !torch.vtensor<[2,5,4],f32>
  func.return %y : !torch.vtensor<[2,5,4],f32>
}

// CHECK-NOT:  torch.aten.mul
// CHECK:      %y = torch.aten.rms_norm %x, %{{.*}}, %weight, %{{.*}} :
// CHECK-NEXT: func.return %y
