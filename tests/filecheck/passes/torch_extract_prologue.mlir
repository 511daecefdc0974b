// RUN: sta opt %s -p torch-extract-prologue | filecheck %s

// Positions are counted by the host; the embedding of the ids themselves reads the input. An input that nothing reads is
// one of the prologue.
func.func @main(%ids: !torch.vtensor<[2,4],si64> {sta.name = "ids"}, %kinds: !torch.vtensor<[2,4],si64> {sta.name = "kinds"}) -> (!torch.vtensor<[2,4,1],f32> {sta.name = "a"}, !torch.vtensor<[2,4,1],f32> {sta.name = "b"}) {
  %table = torch.vtensor.literal(dense<[[1.0], [2.0], [3.0], [4.0], [5.0]]> : tensor<5x1xf32>) : !torch.vtensor<[5,1],f32>
  %one = torch.constant.int 1
  %none = torch.constant.none
  %minus = torch.constant.int -1
  %false = torch.constant.bool false
  %counts = torch.aten.ne.Scalar %ids, %one : !torch.vtensor<[2,4],si64>, !torch.int -> !torch.vtensor<[2,4],i1>
  %positions = torch.aten.cumsum %counts, %one, %none : !torch.vtensor<[2,4],i1>, !torch.int, !torch.none -> !torch.vtensor<[2,4],si64>
  %a = torch.aten.embedding %table, %positions, %minus, %false, %false : !torch.vtensor<[5,1],f32>, !torch.vtensor<[2,4],si64>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[2,4,1],f32>
  %b = torch.aten.embedding %table, %ids, %minus, %false, %false : !torch.vtensor<[5,1],f32>, !torch.vtensor<[2,4],si64>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[2,4,1],f32>
  func.return %a, %b : !torch.vtensor<[2,4,1],f32>, !torch.vtensor<[2,4,1],f32>
}

// CHECK:      func.func @prologue(%ids: tensor<2x4xsi64> {sta.name = "ids"}, %kinds: tensor<2x4xsi64> {sta.name = "kinds"}) -> (tensor<2x4xsi64> {sta.name = "indices"}) {
// CHECK:      %[[EQUAL:.*]] = host.equal %ids, %{{.*}} of "aten.ne.Scalar"
// CHECK-NEXT: %[[NOT:.*]] = host.not %[[EQUAL]] of "aten.ne.Scalar"
// CHECK-NEXT: %[[NUMBERS:.*]] = host.convert %[[NOT]] of "aten.cumsum"
// CHECK-NEXT: %[[POSITIONS:.*]] = host.cumsum %[[NUMBERS]] axis 1 of "aten.cumsum"
// CHECK-NEXT: func.return %[[POSITIONS]]
// CHECK:      func.func @main(%ids: !torch.vtensor<[2,4],si64> {sta.name = "ids"}, %[[MADE:.*]]: !torch.vtensor<[2,4],si64> {sta.name = "indices"})
// CHECK:      %a = torch.aten.embedding %table, %[[MADE]],
// CHECK:      %b = torch.aten.embedding %table, %ids,
