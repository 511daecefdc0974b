// RUN: sta opt %s -p torch-quantize | filecheck %s
// RUN: sta opt %s -p 'torch-quantize{int16_inputs="encoder.*"}' | filecheck %s --check-prefix=WIDE

// The stream is 16 bits wide, what a product takes is 8, and an addition takes a product from the accumulators.
func.func @main(%x: !torch.vtensor<[1,6,4],f32> {sta.name = "x", sta.range = #torch.range<-1.0, 3.0>}) -> (!torch.vtensor<[1,6,4],f32> {sta.name = "output"}) {
  %none = torch.constant.none
  %one = torch.constant.int 1
  %w = torch.vtensor.literal(dense<5.000000e-01> : tensor<4x4xf32>) : !torch.vtensor<[4,4],f32>
  %y = torch.aten.linear %x, %w, %none {sta.range = #torch.range<-2.0, 2.0>} : !torch.vtensor<[1,6,4],f32>, !torch.vtensor<[4,4],f32>, !torch.none -> !torch.vtensor<[1,6,4],f32> loc("encoder.dense")
  %z = torch.aten.add.Tensor %x, %y, %one {sta.range = #torch.range<-4.0, 4.0>} : !torch.vtensor<[1,6,4],f32>, !torch.vtensor<[1,6,4],f32>, !torch.int -> !torch.vtensor<[1,6,4],f32>
  func.return %z : !torch.vtensor<[1,6,4],f32>
}

// CHECK:      %[[STREAM:.*]] = torch.fake_quantize %x to si16 scale {{.*}} zero_point 0
// CHECK-NEXT: %[[NARROW:.*]] = torch.fake_quantize %[[STREAM]] to si8 scale {{.*}} zero_point -64
// CHECK:      %y = torch.aten.linear %[[NARROW]], %w, %none
// CHECK-NEXT: %z = torch.aten.add.Tensor %[[STREAM]], %y, %one
// CHECK-NEXT: %[[SUM:.*]] = torch.fake_quantize %z to si16 scale {{.*}} zero_point 0
// CHECK-NEXT: func.return %[[SUM]]

// WIDE:      %[[STREAM:.*]] = torch.fake_quantize %x to si16 scale {{.*}} zero_point 0
// WIDE-NOT:  torch.fake_quantize
// WIDE:      %y = torch.aten.linear %[[STREAM]], %w, %none
// WIDE-NEXT: %z = torch.aten.add.Tensor %[[STREAM]], %y, %one
