// RUN: %make_weights %t.safetensors encoder.dense.weight:float32:4x8 head.weight:float32:4x8
// RUN: sta opt %s --weights %t.safetensors --save-weights %t.pruned -p 'torch-prune{patterns="encoder*=2:4"}' --print-debuginfo | filecheck %s
// RUN: %show_weights %t.pruned encoder.dense.weight.pruned_2_4 | filecheck %s --check-prefix=WEIGHTS

// Only layers whose path fits are pruned.
func.func @main(%x: !torch.vtensor<[6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "a"}, !torch.vtensor<[6,4],f32> {sta.name = "b"}) {
  %none = torch.constant.none
  %w = torch.vtensor.literal(dense_resource<encoder.dense.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %h = torch.vtensor.literal(dense_resource<head.weight> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %y = torch.aten.linear %x, %w, %none : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[6,4],f32> loc("encoder.dense")
  %z = torch.aten.linear %x, %h, %none : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.none -> !torch.vtensor<[6,4],f32> loc("head")
  func.return %y, %z : !torch.vtensor<[6,4],f32>, !torch.vtensor<[6,4],f32>
}

// CHECK-DAG: %[[PRUNED:.*]] = torch.vtensor.literal(dense_resource<encoder.dense.weight.pruned_2_4> : tensor<4x8xf32>)
// CHECK-DAG: %[[KEPT:.*]] = torch.vtensor.literal(dense_resource<head.weight> : tensor<4x8xf32>)
// CHECK:     %y = torch.aten.linear %x, %[[PRUNED]], %none {{.*}} loc("encoder.dense")
// CHECK:     %z = torch.aten.linear %x, %[[KEPT]], %none {{.*}} loc("head")
// WEIGHTS: encoder.dense.weight.pruned_2_4 float32 {{\[\[}}0.0, 0.0, 4.0, 5.0, 0.0, 0.0, 8.0, 9.0],
