// RUN: sta opt %s -p nm-sink-views | filecheck %s

// The view moves below the clamp, and the residual's rescaling above its own view, so that product, rescaling,
// addition and clamp follow each other.
func.func @main(%x: tensor<6x8xsi8>, %w: tensor<4x8xsi8>, %b: tensor<4xsi32>, %s: tensor<4xsi8>, %r: tensor<1x6x4xsi16>) -> tensor<1x6x4xsi16> {
  %acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<6x4xsi32>
  %scaled = nm.rescale_channels %acc, %b, %b, %s : tensor<6x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<6x4xsi32>
  %viewed = nm.view %scaled : tensor<6x4xsi32> -> tensor<1x6x4xsi32>
  %residual = nm.rescale %r scale <1073741824, 31> : tensor<1x6x4xsi16> -> tensor<1x6x4xsi32>
  %sum = nm.add %residual, %viewed : tensor<1x6x4xsi32>, tensor<1x6x4xsi32> -> tensor<1x6x4xsi32>
  %y = nm.clamp %sum : tensor<1x6x4xsi32> -> tensor<1x6x4xsi16>
  func.return %y : tensor<1x6x4xsi16>
}

// CHECK:      %acc = nm.product
// CHECK-NEXT: %scaled = nm.rescale_channels %acc
// CHECK-NEXT: %[[R:.*]] = nm.view %r : tensor<1x6x4xsi16> -> tensor<6x4xsi16>
// CHECK-NEXT: %[[RESIDUAL:.*]] = nm.rescale %[[R]]
// CHECK-NEXT: %[[SUM:.*]] = nm.add %scaled, %[[RESIDUAL]]
// CHECK-NEXT: %[[Y:.*]] = nm.clamp %[[SUM]]
// CHECK-NEXT: %[[VIEWED:.*]] = nm.view %[[Y]] : tensor<6x4xsi16> -> tensor<1x6x4xsi16>
// CHECK-NEXT: func.return %[[VIEWED]]
