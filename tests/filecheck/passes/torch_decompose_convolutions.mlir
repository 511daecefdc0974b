// RUN: sta opt %s -p torch-decompose-convolutions | filecheck %s

// Windows of two positions, each of all channels: a row of the linear layer.
// CHECK:      %[[LAST:.*]] = torch.aten.permute %x, {{.*}} -> !torch.vtensor<[1,5,2],f32>
// CHECK:      %[[WINDOWS:.*]] = torch.aten.unfold %[[LAST]], {{.*}} -> !torch.vtensor<[1,4,2,2],f32>
// CHECK:      %[[ORDERED:.*]] = torch.aten.permute %[[WINDOWS]],
// CHECK:      %[[ROWS:.*]] = torch.aten.view %[[ORDERED]], {{.*}} -> !torch.vtensor<[1,4,4],f32>
// CHECK:      %[[PRODUCT:.*]] = torch.aten.linear %[[ROWS]], {{.*}} -> !torch.vtensor<[1,4,1],f32>
// CHECK:      torch.aten.permute %[[PRODUCT]], {{.*}} -> !torch.vtensor<[1,1,4],f32>
func.func @main(%x: !torch.vtensor<[1,2,5],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,1,4],f32> {sta.name = "y"}) {
  %kernel = torch.vtensor.literal(dense<[[[1.0, 2.0], [3.0, 4.0]]]> : tensor<1x2x2xf32>) : !torch.vtensor<[1,2,2],f32>
  %none = torch.constant.none
  %off = torch.constant.bool false
  %one = torch.constant.int 1
  %zero = torch.constant.int 0
  %ones = torch.prim.ListConstruct %one : (!torch.int) -> !torch.list<int>
  %zeros = torch.prim.ListConstruct %zero : (!torch.int) -> !torch.list<int>
  %y = torch.aten.convolution %x, %kernel, %none, %ones, %zeros, %ones, %off, %zeros, %one : !torch.vtensor<[1,2,5],f32>, !torch.vtensor<[1,2,2],f32>, !torch.none, !torch.list<int>, !torch.list<int>, !torch.list<int>, !torch.bool, !torch.list<int>, !torch.int -> !torch.vtensor<[1,1,4],f32>
  func.return %y : !torch.vtensor<[1,1,4],f32>
}
