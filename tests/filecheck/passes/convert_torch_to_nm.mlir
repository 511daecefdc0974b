// RUN: %make_weights %t.safetensors w:float32:4x8 b:float32:4
// RUN: sta opt %s --weights %t.safetensors --split-input-file -p convert-torch-to-nm | filecheck %s

// Rounded values are integers, and the steps between them integer operations.
func.func @main(%x: !torch.vtensor<[1,6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,6,4],f32> {sta.name = "output"}) {
  %w = torch.vtensor.literal(dense_resource<w> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %b = torch.vtensor.literal(dense_resource<b> : tensor<4xf32>) : !torch.vtensor<[4],f32>
  %x16 = torch.fake_quantize %x to si16 scale 1.000000e-03 zero_point 0 : !torch.vtensor<[1,6,8],f32>
  %x8 = torch.fake_quantize %x16 to si8 scale 2.500000e-01 zero_point -3 : !torch.vtensor<[1,6,8],f32>
  %y = torch.aten.linear %x8, %w, %b : !torch.vtensor<[1,6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[4],f32> -> !torch.vtensor<[1,6,4],f32>
  %y16 = torch.fake_quantize %y to si16 scale 2.000000e-03 zero_point 0 : !torch.vtensor<[1,6,4],f32>
  func.return %y16 : !torch.vtensor<[1,6,4],f32>
}

// CHECK:      func.func @main(%[[X:.*]]: tensor<1x6x8xsi16> {sta.port = #sta.port<"x", quantized float32 as int16, scale 0.001>}
// CHECK-NEXT: %[[WIDE:.*]] = nm.rescale %[[X]] scale <1099511628, 38> :
// CHECK-NEXT: %[[NARROW:.*]] = nm.clamp %[[WIDE]] zero_point -3 {nm.meaning = [#nm.meaning<0.25, -3, "x:input">]} : tensor<1x6x8xsi32> -> tensor<1x6x8xsi8>
// CHECK-NEXT: %[[WEIGHT:.*]] = nm.weight @{{.*}} : tensor<4x8xsi8>
// CHECK-NEXT: %[[ACC:.*]] = nm.product %[[NARROW]], %[[WEIGHT]]
// CHECK:      %[[SCALED:.*]] = nm.rescale_channels %[[ACC]]
// CHECK-NEXT: %[[Y:.*]] = nm.clamp %[[SCALED]] {nm.meaning = [#nm.meaning<0.002, 0, ":linear">]} : tensor<1x6x4xsi32> -> tensor<1x6x4xsi16>
// CHECK-NEXT: func.return %[[Y]]
// CHECK-NOT:  torch.

// -----

// A 16-bit input is multiplied as it is: two accumulators, which stand for an int64 together.
func.func @main(%x: !torch.vtensor<[6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "output"}) {
  %w = torch.vtensor.literal(dense_resource<w> : tensor<4x8xf32>) : !torch.vtensor<[4,8],f32>
  %b = torch.vtensor.literal(dense_resource<b> : tensor<4xf32>) : !torch.vtensor<[4],f32>
  %x16 = torch.fake_quantize %x to si16 scale 1.000000e-03 zero_point 0 : !torch.vtensor<[6,8],f32>
  %y = torch.aten.linear %x16, %w, %b : !torch.vtensor<[6,8],f32>, !torch.vtensor<[4,8],f32>, !torch.vtensor<[4],f32> -> !torch.vtensor<[6,4],f32>
  %y16 = torch.fake_quantize %y to si16 scale 2.000000e-03 zero_point 0 : !torch.vtensor<[6,4],f32>
  func.return %y16 : !torch.vtensor<[6,4],f32>
}

// CHECK:      func.func @main(%[[X:.*]]: tensor<6x8xsi16>
// CHECK-NEXT: %[[WEIGHT:.*]] = nm.weight @{{.*}} : tensor<4x8xsi8>
// CHECK-NEXT: %[[ACC:.*]] = nm.product %[[X]], %[[WEIGHT]] : tensor<6x8xsi16>, tensor<4x8xsi8> -> tensor<6x4xsi64>
// CHECK:      nm.rescale_channels %[[ACC]], {{.*}} : tensor<6x4xsi64>, {{.*}} -> tensor<6x4xsi32>
