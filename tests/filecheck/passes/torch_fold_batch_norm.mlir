// RUN: sta opt %s -p torch-fold-batch-norm | filecheck %s

// A factor and a term for each channel, which is the last axis for them.
// CHECK:      %[[LAST:.*]] = torch.aten.permute %x, {{.*}} -> !torch.vtensor<[1,3,2],f32>
// CHECK:      %[[SCALED:.*]] = torch.aten.mul.Tensor %[[LAST]], {{.*}} -> !torch.vtensor<[1,3,2],f32>
// CHECK:      %[[ADDED:.*]] = torch.aten.add.Tensor %[[SCALED]], {{.*}} -> !torch.vtensor<[1,3,2],f32>
// CHECK:      %[[FIRST:.*]] = torch.aten.permute %[[ADDED]], {{.*}} -> !torch.vtensor<[1,2,3],f32>
// CHECK:      func.return %[[FIRST]]
func.func @main(%x: !torch.vtensor<[1,2,3],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,2,3],f32> {sta.name = "y"}) {
  %ones = torch.vtensor.literal(dense<[1.0, 2.0]> : tensor<2xf32>) : !torch.vtensor<[2],f32>
  %momentum = torch.constant.float 0.1
  %epsilon = torch.constant.float 0.00001
  %off = torch.constant.bool false
  %y = torch.aten.batch_norm %x, %ones, %ones, %ones, %ones, %off, %momentum, %epsilon, %off : !torch.vtensor<[1,2,3],f32>, !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>, !torch.bool, !torch.float, !torch.float, !torch.bool -> !torch.vtensor<[1,2,3],f32>
  func.return %y : !torch.vtensor<[1,2,3],f32>
}
