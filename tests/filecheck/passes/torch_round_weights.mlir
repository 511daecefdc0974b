// RUN: %make_weights %t.safetensors encoder.dense.weight:float32:4x8 rounded:float32:4x8 head.weight:float32:4x8
// RUN: sta opt %s --weights %t.safetensors -p torch-round-weights --print-debuginfo | filecheck %s

// Layers get the weight that they name; others keep theirs.
func.func @main(%x: !torch.vtensor<[6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "a"}, !torch.vtensor<[6,4],f32> {sta.name = "b"}) {
  %none = torch.constant.none
  %w = torch.vtensor.literal(dense_resource<encoder.dense.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %h = torch.vtensor.literal(dense_resource<head.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %y = torch.aten.linear %x, %w, %none {sta.rounded_weight = "rounded"} : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[6,4],f32> loc("encoder.dense")
  %z = torch.aten.linear %x, %h, %none : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[6,4],f32> loc("head")
  func.return %y, %z : !torch.vtensor<[6,4],f32>, !torch.vtensor<[6,4],f32>
}

// CHECK-NOT: encoder.dense.weight>
// CHECK-DAG: %[[ROUNDED:.*]] = torch.vtensor.literal(dense_resource<rounded> : tensor<4x8xf32>)
// CHECK-DAG: %[[KEPT:.*]] = torch.vtensor.literal(dense_resource<head.weight> : tensor<4x8xf32>)
// CHECK:     %y = torch.aten.linear %x, %[[ROUNDED]], %none : {{.*}} loc("encoder.dense")
// CHECK:     %z = torch.aten.linear %x, %[[KEPT]], %none : {{.*}} loc("head")
