// RUN: sta opt %s -p torch-recognize-rotations | filecheck %s

// x * cos + cat((-x2, x1)) * sin is a rotation of halves.
func.func @main(%x: !torch.vtensor<[1,2],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,2],f32> {sta.name = "y"}) {
  %cos = torch.vtensor.literal(dense<0.5> : tensor<1x2xf32>) : !torch.vtensor<[1,2],f32>
  %sin = torch.vtensor.literal(dense<0.75> : tensor<1x2xf32>) : !torch.vtensor<[1,2],f32>
  %0 = torch.constant.int 0
  %1 = torch.constant.int 1
  %2 = torch.constant.int 2
  %first = torch.aten.slice.Tensor %x, %1, %0, %1, %1 : !torch.vtensor<[1,2],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,1],f32>
  %second = torch.aten.slice.Tensor %x, %1, %1, %2, %1 : !torch.vtensor<[1,2],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,1],f32>
  %negated = torch.aten.neg %second : !torch.vtensor<[1,1],f32> -> !torch.vtensor<[1,1],f32>
  %parts = torch.prim.ListConstruct %negated, %first : (!torch.vtensor<[1,1],f32>, !torch.vtensor<[1,1],f32>) -> !torch.list<vtensor>
  %turned = torch.aten.cat %parts, %1 : !torch.list<vtensor>, !torch.int -> !torch.vtensor<[1,2],f32>
  %a = torch.aten.mul.Tensor %x, %cos : !torch.vtensor<[1,2],f32>, !torch.vtensor<[1,2],f32> -> !torch.vtensor<[1,2],f32>
  %b = torch.aten.mul.Tensor %turned, %sin : !torch.vtensor<[1,2],f32>, !torch.vtensor<[1,2],f32> -> !torch.vtensor<[1,2],f32>
  %y = torch.aten.add.Tensor %a, %b, %1 : !torch.vtensor<[1,2],f32>, !torch.vtensor<[1,2],f32>, !torch.int -> !torch.vtensor<[1,2],f32>
  func.return %y : !torch.vtensor<[1,2],f32>
}

// CHECK:      func.func @main(%x
// CHECK:        %y = torch.rotate half %x by %{{.*}}, %{{.*}} : !torch.vtensor<[1,2],f32>, !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>
// CHECK-NEXT:   func.return %y
