// RUN: sta opt %s -p torch-fold-quantization --split-input-file --allow-unregistered-dialect | filecheck %s

// A pair on a value is one operation; unsigned integers and their zero point are 128 less.
func.func @main(%x: !torch.vtensor<[6,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "output"}) {
  %scale = torch.constant.float 2.500000e-02
  %zero = torch.constant.int 120
  %low = torch.constant.int 0
  %high = torch.constant.int 255
  %none = torch.constant.none
  %q = "torch.quantized_decomposed.quantize_per_tensor"(%x, %scale, %zero, %low, %high, %low) : (!torch.vtensor<[6,4],f32>, !torch.float, !torch.int, !torch.int, !torch.int, !torch.int) -> !torch.vtensor<[6,4],ui8>
  %y = "torch.quantized_decomposed.dequantize_per_tensor"(%q, %scale, %zero, %low, %high, %low, %none) : (!torch.vtensor<[6,4],ui8>, !torch.float, !torch.int, !torch.int, !torch.int, !torch.int, !torch.none) -> !torch.vtensor<[6,4],f32>
  func.return %y : !torch.vtensor<[6,4],f32>
}

// CHECK:      func.func @main(%x
// CHECK-NEXT:   %[[ROUNDED:.*]] = torch.fake_quantize %x to si8 scale 2.500000e-02 zero_point -8
// CHECK-NEXT:   func.return %[[ROUNDED]]

// -----

// The integers of a weight become its numbers, rounded with a scale for each of its rows.
func.func @main(%x: !torch.vtensor<[6,2],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,2],f32> {sta.name = "output"}) {
  %integers = torch.vtensor.literal(dense<3> : tensor<2x2xsi8>) : !torch.vtensor<[2,2],si8>
  %scales = torch.vtensor.literal(dense<5.000000e-01> : tensor<2xf32>) : !torch.vtensor<[2],f32>
  %zeros = torch.vtensor.literal(dense<0> : tensor<2xsi64>) : !torch.vtensor<[2],si64>
  %axis = torch.constant.int 0
  %low = torch.constant.int -128
  %high = torch.constant.int 127
  %type = torch.constant.int 1
  %none = torch.constant.none
  %w = "torch.quantized_decomposed.dequantize_per_channel"(%integers, %scales, %zeros, %axis, %low, %high, %type, %none) : (!torch.vtensor<[2,2],si8>, !torch.vtensor<[2],f32>, !torch.vtensor<[2],si64>, !torch.int, !torch.int, !torch.int, !torch.int, !torch.none) -> !torch.vtensor<[2,2],f32>
  %y = torch.aten.linear %x, %w, %none : !torch.vtensor<[6,2],f32>, !torch.vtensor<[2,2],f32>, !torch.none -> !torch.vtensor<[6,2],f32>
  func.return %y : !torch.vtensor<[6,2],f32>
}

// CHECK:      %[[NUMBERS:.*]] = torch.vtensor.literal(dense_resource<weight.dequantized> : tensor<2x2xf32>)
// CHECK-NEXT: %[[STEPS:.*]] = torch.vtensor.literal(dense_resource<weight.scales> : tensor<2xf32>)
// CHECK-NEXT: %[[WEIGHT:.*]] = torch.fake_quantize_channels %[[NUMBERS]], %[[STEPS]]
// CHECK-NEXT: %y = torch.aten.linear %x, %[[WEIGHT]], %none

// -----

// What is rounded twice to the same numbers is rounded once.
func.func @main(%x: !torch.vtensor<[6,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "output"}) {
  %a = torch.fake_quantize %x to si8 scale 2.500000e-02 zero_point 3 : !torch.vtensor<[6,4],f32>
  %b = torch.fake_quantize %a to si8 scale 2.500000e-02 zero_point 3 : !torch.vtensor<[6,4],f32>
  %c = torch.fake_quantize %x to si8 scale 2.500000e-02 zero_point 3 : !torch.vtensor<[6,4],f32>
  %y = torch.aten.mul.Tensor %b, %c : !torch.vtensor<[6,4],f32>, !torch.vtensor<[6,4],f32> -> !torch.vtensor<[6,4],f32>
  func.return %y : !torch.vtensor<[6,4],f32>
}

// CHECK:      %a = torch.fake_quantize %x
// CHECK-NEXT: %y = torch.aten.mul.Tensor %a, %a
