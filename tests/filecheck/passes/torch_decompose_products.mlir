// RUN: sta opt %s -p torch-decompose-products --split-input-file | filecheck %s

// Where all batches share the second factor, their rows are joined; a vector is a column.
// CHECK:      %[[ROWS:.*]] = torch.aten.view %x, {{.*}} -> !torch.vtensor<[6,4],f32>
// CHECK:      %[[COLUMN:.*]] = torch.aten.view %y, {{.*}} -> !torch.vtensor<[4,1],f32>
// CHECK:      %[[PRODUCT:.*]] = torch.aten.matmul %[[ROWS]], %[[COLUMN]] : {{.*}} -> !torch.vtensor<[6,1],f32>
// CHECK:      torch.aten.view %[[PRODUCT]], {{.*}} -> !torch.vtensor<[2,3],f32>
func.func @main(%x: !torch.vtensor<[2,3,4],f32> {sta.name = "x"}, %y: !torch.vtensor<[4],f32> {sta.name = "y"}) -> (!torch.vtensor<[2,3],f32> {sta.name = "r"}) {
  %r = torch.aten.matmul %x, %y : !torch.vtensor<[2,3,4],f32>, !torch.vtensor<[4],f32> -> !torch.vtensor<[2,3],f32>
  func.return %r : !torch.vtensor<[2,3],f32>
}

// -----

// baddbmm is a product and a sum.
// CHECK:      %[[PRODUCT:.*]] = torch.aten.matmul %x, %y : {{.*}} -> !torch.vtensor<[2,3,3],f32>
// CHECK:      %[[TWICE:.*]] = torch.aten.mul.Scalar %[[PRODUCT]],
// CHECK:      torch.aten.add.Tensor %[[TWICE]], %z,
func.func @main(%x: !torch.vtensor<[2,3,4],f32> {sta.name = "x"}, %y: !torch.vtensor<[2,4,3],f32> {sta.name = "y"}, %z: !torch.vtensor<[2,3,3],f32> {sta.name = "z"}) -> (!torch.vtensor<[2,3,3],f32> {sta.name = "r"}) {
  %one = torch.constant.int 1
  %two = torch.constant.float 2.0
  %r = torch.aten.baddbmm %z, %x, %y, %one, %two : !torch.vtensor<[2,3,3],f32>, !torch.vtensor<[2,3,4],f32>, !torch.vtensor<[2,4,3],f32>, !torch.int, !torch.float -> !torch.vtensor<[2,3,3],f32>
  func.return %r : !torch.vtensor<[2,3,3],f32>
}
