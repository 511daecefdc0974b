// RUN: sta opt %s -p nm-fold-attention-layout | filecheck %s

func.func @main(%q: tensor<1x2x6x4xsi8>) -> tensor<1x6x2x4xsi8> {
  %heads = nm.attention %q, %q, %q score_scale <1073741824, 34> output_scale <1073741824, 38> : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8> -> tensor<1x2x6x4xsi8>
  %y = nm.permute %heads by [0, 2, 1, 3] : tensor<1x2x6x4xsi8> -> tensor<1x6x2x4xsi8>
  func.return %y : tensor<1x6x2x4xsi8>
}

// CHECK:      %[[Y:.*]] = nm.attention %q, %q, %q {{.*}} permutation [0, 2, 1, 3] : {{.*}} -> tensor<1x6x2x4xsi8>
// CHECK-NEXT: func.return %[[Y]]
