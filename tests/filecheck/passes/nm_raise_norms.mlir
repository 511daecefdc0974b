// RUN: sta opt %s -p nm-raise-norms | filecheck %s

func.func @main(%x: tensor<6x4xsi8>, %w: tensor<4x4xsi8>, %b: tensor<4xsi32>, %s: tensor<4xsi8>) -> (tensor<2x3x4xsi16>, tensor<2x3x4xsi16>) {
  %y = "nm.linear"(%x, %w, %b, %b, %s) <{table_multiplier = 1073741824 : i64, table_shift = 30 : i64, residual_bias = 0 : i64, residual_multiplier = 1073741824 : i64, residual_shift = 30 : i64, zero_point = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>}> : (tensor<6x4xsi8>, tensor<4x4xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>) -> tensor<6x4xsi16>
  %v = nm.view %y : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
  %z = "nm.norm"(%v, %b, %b) <{kind = "layer", epsilon = 1 : i64, shift = 30 : i64, copy_multiplier = 1073741824 : i64, copy_shift = 30 : i64, copy_zero_point = 0 : i64, resultSegmentSizes = array<i32: 1, 0>}> : (tensor<2x3x4xsi16>, tensor<4xsi32>, tensor<4xsi32>) -> tensor<2x3x4xsi16>
  func.return %v, %z : tensor<2x3x4xsi16>, tensor<2x3x4xsi16>
}

// CHECK:      %y = "nm.linear"
// CHECK-NEXT: %v = nm.view %y : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
// CHECK-NEXT: %0 = "nm.norm"(%y, %b, %b) {{.*}} -> tensor<6x4xsi16>
// CHECK-NEXT: %z = nm.view %0 : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
// CHECK-NEXT: func.return %v, %z
