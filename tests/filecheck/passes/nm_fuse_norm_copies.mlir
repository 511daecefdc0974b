// RUN: sta opt %s -p nm-fuse-norm-copies | filecheck %s

func.func @main(%x: tensor<6x4xsi16>, %g: tensor<4xsi32>) -> (tensor<6x4xsi16>, tensor<6x4xsi8>) {
  %y = "nm.norm"(%x, %g, %g) <{kind = "layer", epsilon = 1 : i64, shift = 30 : i64, copy_multiplier = 1073741824 : i64, copy_shift = 30 : i64, copy_zero_point = 0 : i64, resultSegmentSizes = array<i32: 1, 0>}> : (tensor<6x4xsi16>, tensor<4xsi32>, tensor<4xsi32>) -> tensor<6x4xsi16>
  %copy = "nm.map"(%y) <{bias = 0 : i64, multiplier = 1136632899 : i64, shift = 38 : i64, table_multiplier = 1073741824 : i64, table_shift = 30 : i64, residual_bias = 0 : i64, residual_multiplier = 1073741824 : i64, residual_shift = 30 : i64, zero_point = -8 : i64, operandSegmentSizes = array<i32: 1, 0, 0>}> : (tensor<6x4xsi16>) -> tensor<6x4xsi8>
  func.return %y, %copy : tensor<6x4xsi16>, tensor<6x4xsi8>
}

// CHECK:      %y, %copy = "nm.norm"(%x, %g, %g) {{.*}}copy_multiplier = 1136632899 : i64, copy_shift = 38 : i64, copy_zero_point = -8 : i64
// CHECK-NEXT: func.return %y, %copy
