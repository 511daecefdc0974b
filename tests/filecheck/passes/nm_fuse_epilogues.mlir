// RUN: sta opt %s -p nm-fuse-epilogues | filecheck %s

// A product with bias, scale and residual; then a table between two 16-bit values; then one that stays int32.
func.func @main(%x: tensor<6x8xsi8>, %w: tensor<4x8xsi8>, %b: tensor<4xsi32>, %s: tensor<4xsi8>, %r: tensor<6x4xsi16>, %t: tensor<513xsi16>) -> (tensor<6x4xsi16>, tensor<6x4xsi8>) {
  %acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<6x4xsi32>
  %scaled = nm.rescale_channels %acc, %b, %b, %s : tensor<6x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<6x4xsi32>
  %residual = nm.rescale %r scale <1073741824, 31> : tensor<6x4xsi16> -> tensor<6x4xsi32>
  %sum = nm.add %scaled, %residual : tensor<6x4xsi32>, tensor<6x4xsi32> -> tensor<6x4xsi32>
  %y = nm.clamp %sum : tensor<6x4xsi32> -> tensor<6x4xsi16>
  %looked_up = nm.table %y, %t : tensor<6x4xsi16>, tensor<513xsi16> -> tensor<6x4xsi32>
  %narrow = nm.rescale %looked_up scale <1073741824, 45> : tensor<6x4xsi32> -> tensor<6x4xsi32>
  %z = nm.clamp %narrow zero_point -7 : tensor<6x4xsi32> -> tensor<6x4xsi8>
  func.return %y, %z : tensor<6x4xsi16>, tensor<6x4xsi8>
}

// CHECK:      %y = nm.linear %x, %w, %b, %b, %s residual %r residual_scale <1073741824, 31> :
// CHECK-NEXT: %z = nm.map %y table %t table_scale <1073741824, 45> zero_point -7 :
// CHECK-NEXT: func.return %y, %z

// A gating product: of the activation as it leaves the table, with what is stored.
func.func @gated(%x: tensor<6x8xsi8>, %w: tensor<4x8xsi8>, %b: tensor<4xsi32>, %s: tensor<4xsi8>, %up: tensor<6x4xsi16>, %t: tensor<513xsi16>) -> tensor<6x4xsi8> {
  %acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<6x4xsi32>
  %scaled = nm.rescale_channels %acc, %b, %b, %s : tensor<6x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<6x4xsi32>
  %gate = nm.clamp %scaled : tensor<6x4xsi32> -> tensor<6x4xsi16>
  %looked_up = nm.table %gate, %t : tensor<6x4xsi16>, tensor<513xsi16> -> tensor<6x4xsi32>
  %narrow = nm.rescale %looked_up scale <1073741824, 37> : tensor<6x4xsi32> -> tensor<6x4xsi32>
  %active = nm.clamp %narrow : tensor<6x4xsi32> -> tensor<6x4xsi16>
  %gated = nm.multiply %up, %active scale <1073741824, 45> : tensor<6x4xsi16>, tensor<6x4xsi16> -> tensor<6x4xsi32>
  %y = nm.clamp %gated zero_point 3 : tensor<6x4xsi32> -> tensor<6x4xsi8>
  func.return %y : tensor<6x4xsi8>
}

// CHECK-LABEL: @gated
// CHECK-NEXT: %y = nm.linear %x, %w, %b, %b, %s table %t table_scale {{.*}} residual %up combine multiply residual_scale <{{[0-9]+}}, 45> zero_point 3 :
// CHECK-NEXT: func.return %y
