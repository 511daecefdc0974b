// RUN: sta opt %s -p nm-fold-attention-layout | filecheck %s

func.func @main(%q: tensor<1x2x6x4xsi8>) -> tensor<1x6x2x4xsi8> {
  %heads = "nm.attention"(%q, %q, %q) <{score_multiplier = 1073741824 : i64, score_shift = 34 : i64, output_multiplier = 1073741824 : i64, output_shift = 38 : i64, zero_point = 0 : i64, permutation = array<i64: 0, 1, 2, 3>}> : (tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>) -> tensor<1x2x6x4xsi8>
  %y = nm.permute %heads {permutation = array<i64: 0, 2, 1, 3>} : tensor<1x2x6x4xsi8> -> tensor<1x6x2x4xsi8>
  func.return %y : tensor<1x6x2x4xsi8>
}

// CHECK:      %[[Y:.*]] = "nm.attention"(%q, %q, %q) {{.*}}permutation = array<i64: 0, 2, 1, 3>{{.*}} -> tensor<1x6x2x4xsi8>
// CHECK-NEXT: func.return %[[Y]]
