// RUN: sta opt %s -p torch-decompose-resampling | filecheck %s

// The maximum of two neighbours.
// CHECK:      %[[FIRST:.*]] = torch.aten.slice.Tensor %x, {{.*}} -> !torch.vtensor<[1,2,2],f32>
// CHECK:      %[[SECOND:.*]] = torch.aten.slice.Tensor %x, {{.*}} -> !torch.vtensor<[1,2,2],f32>
// CHECK:      torch.aten.maximum %[[FIRST]], %[[SECOND]] :

// The mean of two neighbours is a product with a constant matrix.
// CHECK:      torch.aten.linear %x, {{.*}} {sta.int16_input} : !torch.vtensor<[1,2,4],f32>, !torch.vtensor<[2,4],f32>, !torch.none -> !torch.vtensor<[1,2,2],f32>
func.func @main(%x: !torch.vtensor<[1,2,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,2,2],f32> {sta.name = "y"}, !torch.vtensor<[1,2,2],f32> {sta.name = "z"}) {
  %off = torch.constant.bool false
  %zero = torch.constant.int 0
  %one = torch.constant.int 1
  %two = torch.constant.int 2
  %zeros = torch.prim.ListConstruct %zero : (!torch.int) -> !torch.list<int>
  %ones = torch.prim.ListConstruct %one : (!torch.int) -> !torch.list<int>
  %twos = torch.prim.ListConstruct %two : (!torch.int) -> !torch.list<int>
  %y = torch.aten.max_pool1d %x, %twos, %twos, %zeros, %ones, %off : !torch.vtensor<[1,2,4],f32>, !torch.list<int>, !torch.list<int>, !torch.list<int>, !torch.list<int>, !torch.bool -> !torch.vtensor<[1,2,2],f32>
  %z = torch.aten.avg_pool1d %x, %twos, %twos, %zeros, %off, %off : !torch.vtensor<[1,2,4],f32>, !torch.list<int>, !torch.list<int>, !torch.list<int>, !torch.bool, !torch.bool -> !torch.vtensor<[1,2,2],f32>
  func.return %y, %z : !torch.vtensor<[1,2,2],f32>, !torch.vtensor<[1,2,2],f32>
}
