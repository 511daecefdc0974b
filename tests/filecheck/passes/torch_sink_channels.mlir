// RUN: sta opt %s -p torch-sink-channels | filecheck %s

// The function works on rows of channels, and its result is permuted.
// CHECK:      %[[RELU:.*]] = torch.aten.relu %x : !torch.vtensor<[1,3,2],f32> -> !torch.vtensor<[1,3,2],f32>
// CHECK:      %[[FIRST:.*]] = torch.aten.permute %[[RELU]],
// CHECK:      func.return %[[FIRST]]
func.func @main(%x: !torch.vtensor<[1,3,2],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,2,3],f32> {sta.name = "y"}) {
  %zero = torch.constant.int 0
  %one = torch.constant.int 1
  %two = torch.constant.int 2
  %axes = torch.prim.ListConstruct %zero, %two, %one : (!torch.int, !torch.int, !torch.int) -> !torch.list<int>
  %first = torch.aten.permute %x, %axes : !torch.vtensor<[1,3,2],f32>, !torch.list<int> -> !torch.vtensor<[1,2,3],f32>
  %y = torch.aten.relu %first : !torch.vtensor<[1,2,3],f32> -> !torch.vtensor<[1,2,3],f32>
  func.return %y : !torch.vtensor<[1,2,3],f32>
}
