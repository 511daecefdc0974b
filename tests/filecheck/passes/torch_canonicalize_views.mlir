// RUN: sta opt %s -p torch-canonicalize-views --split-input-file | filecheck %s

// transpose, flatten and the like become view, permute and slice; a chain of them becomes one of each at most.
func.func @main(%x: !torch.vtensor<[2,6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[2,4,6,2],f32> {sta.name = "output"}) {
  %1 = torch.constant.int 1
  %2 = torch.constant.int 2
  %4 = torch.constant.int 4
  %6 = torch.constant.int 6
  %shape = torch.prim.ListConstruct %2, %6, %4, %2 : (!torch.int, !torch.int, !torch.int, !torch.int) -> !torch.list<int>
  %split = torch.aten.reshape %x, %shape : !torch.vtensor<[2,6,8],f32>, !torch.list<int> -> !torch.vtensor<[2,6,4,2],f32>
  %y = torch.aten.transpose.int %split, %1, %2 : !torch.vtensor<[2,6,4,2],f32>, !torch.int, !torch.int -> !torch.vtensor<[2,4,6,2],f32>
  func.return %y : !torch.vtensor<[2,4,6,2],f32>
}

// CHECK-NOT:  torch.aten.reshape
// CHECK-NOT:  torch.aten.transpose.int
// CHECK:      %[[SPLIT:.*]] = torch.aten.view %x, %{{.*}} -> !torch.vtensor<[2,6,4,2],f32>
// CHECK:      %y = torch.aten.permute %[[SPLIT]], %{{.*}} -> !torch.vtensor<[2,4,6,2],f32>
// CHECK-NEXT: func.return %y

// -----

// A product with a constant is a linear layer.
func.func @main(%x: !torch.vtensor<[6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "output"}) {
  %b = torch.vtensor.literal(dense<1.000000e+00> : tensor<4xf32>) : !torch.vtensor<[4],f32>
  %w = torch.vtensor.literal(dense<2.000000e+00> : tensor<8x4xf32>) : !torch.vtensor<[8,4],f32>
  %1 = torch.constant.int 1
  %y = torch.aten.addmm %b, %x, %w, %1, %1 : !torch.vtensor<[4],f32>, !torch.vtensor<[6,8],f32>, !torch.vtensor<[8,4],f32>, !torch.int, !torch.int -> !torch.vtensor<[6,4],f32>
  func.return %y : !torch.vtensor<[6,4],f32>
}

// CHECK:      %[[WEIGHT:.*]] = torch.vtensor.literal(dense_resource<constant.transposed> : tensor<4x8xf32>)
// CHECK-NEXT: %y = torch.aten.linear %x, %[[WEIGHT]], %b
// CHECK-NEXT: func.return %y

// -----

// Two transpositions are none.
func.func @main(%x: !torch.vtensor<[6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,8],f32> {sta.name = "output"}) {
  %a = torch.aten.t %x : !torch.vtensor<[6,8],f32> -> !torch.vtensor<[8,6],f32>
  %b = torch.aten.t %a : !torch.vtensor<[8,6],f32> -> !torch.vtensor<[6,8],f32>
  %y = torch.aten.relu %b : !torch.vtensor<[6,8],f32> -> !torch.vtensor<[6,8],f32>
  func.return %y : !torch.vtensor<[6,8],f32>
}

// CHECK:      func.func @main
// CHECK-NEXT:   %y = torch.aten.relu %x
