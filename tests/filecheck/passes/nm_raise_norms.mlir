// RUN: sta opt %s -p nm-raise-norms | filecheck %s

func.func @main(%x: tensor<6x4xsi8>, %w: tensor<4x4xsi8>, %b: tensor<4xsi32>, %s: tensor<4xsi8>) -> (tensor<2x3x4xsi16>, tensor<2x3x4xsi16>) {
  %y = nm.linear %x, %w, %b, %b, %s : tensor<6x4xsi8>, tensor<4x4xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<6x4xsi16>
  %v = nm.view %y : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
  %z = nm.norm layer %v, %b, %b epsilon 1 shift 30 : tensor<2x3x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<2x3x4xsi16>
  func.return %v, %z : tensor<2x3x4xsi16>, tensor<2x3x4xsi16>
}

// CHECK:      %y = nm.linear
// CHECK-NEXT: %v = nm.view %y : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
// CHECK-NEXT: %[[NORM:.*]] = nm.norm {{[a-z]+}} %y, %b, %b {{.*}} -> tensor<6x4xsi16>
// CHECK-NEXT: %[[SEEN:.*]] = nm.view %[[NORM]] : tensor<6x4xsi16> -> tensor<2x3x4xsi16>
// CHECK-NEXT: func.return %v, %[[SEEN]]
