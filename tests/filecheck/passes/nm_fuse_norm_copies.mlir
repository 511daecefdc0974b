// RUN: sta opt %s -p nm-fuse-norm-copies | filecheck %s

func.func @main(%x: tensor<6x4xsi16>, %g: tensor<4xsi32>) -> (tensor<6x4xsi16>, tensor<6x4xsi8>) {
  %y = nm.norm layer %x, %g, %g epsilon 1 shift 30 : tensor<6x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<6x4xsi16>
  %copy = nm.map %y scale <1136632899, 38> zero_point -8 : tensor<6x4xsi16> -> tensor<6x4xsi8>
  func.return %y, %copy : tensor<6x4xsi16>, tensor<6x4xsi8>
}

// CHECK:      %y, %copy = nm.norm layer %x, %g, %g {{.*}} copy_scale <1136632899, 38> copy_zero_point -8 :
// CHECK-NEXT: func.return %y, %copy
