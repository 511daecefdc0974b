// RUN: sta opt -p torch-decompose-reductions %s | filecheck %s

// A mean over an axis that is not the last becomes one over the last.
func.func @main(%x: !torch.vtensor<[2,3,5],f32>) -> !torch.vtensor<[2,5],f32> {
  %axis = torch.constant.int 1
  %axes = torch.prim.ListConstruct %axis : (!torch.int) -> !torch.list<int>
  %false = torch.constant.bool false
  %none = torch.constant.none
  %y = torch.aten.mean.dim %x, %axes, %false, %none : !torch.vtensor<[2,3,5],f32>, !torch.list<int>, !torch.bool, !torch.none -> !torch.vtensor<[2,5],f32>
  func.return %y : !torch.vtensor<[2,5],f32>
}

// CHECK:      torch.aten.permute %x
// CHECK:      [[MEAN:%.*]] = torch.aten.mean.dim {{.*}} : !torch.vtensor<[2,5,3],f32>, {{.*}} -> !torch.vtensor<[2,5,1],f32>
// CHECK:      [[Y:%.*]] = torch.aten.view [[MEAN]], {{.*}} -> !torch.vtensor<[2,5],f32>
// CHECK-NEXT: func.return [[Y]]
