// RUN: %make_weights %t.safetensors dense:int8:4x32 half:int8:4x32:2:4 eighth:int8:4x32:1:8 thirds:int8:4x33:2:3
// RUN: sta opt %s --weights %t.safetensors -p nm-choose-encoding | filecheck %s

// The pattern is found in the weight's zeros; nobody asked for it.
func.func @main(%x: tensor<6x32xsi8>, %z: tensor<6x33xsi8>) {
  %dense = nm.weight @dense : tensor<4x32xsi8>
  %half = nm.weight @half : tensor<4x32xsi8>
  %eighth = nm.weight @eighth : tensor<4x32xsi8>
  %thirds = nm.weight @thirds : tensor<4x33xsi8>
  %0 = nm.product %x, %dense : tensor<6x32xsi8>, tensor<4x32xsi8> -> tensor<6x4xsi32>
  %1 = nm.product %x, %half : tensor<6x32xsi8>, tensor<4x32xsi8> -> tensor<6x4xsi32>
  %2 = nm.product %x, %eighth : tensor<6x32xsi8>, tensor<4x32xsi8> -> tensor<6x4xsi32>
  %3 = nm.product %z, %thirds : tensor<6x33xsi8>, tensor<4x33xsi8> -> tensor<6x4xsi32>
  func.return
}

// CHECK: %dense = nm.weight @dense : tensor<4x32xsi8>
// CHECK-DAG: nm.weight @half : tensor<4x32xsi8, #nm.pattern<2:4, bitmap>>
// CHECK-DAG: nm.weight @eighth : tensor<4x32xsi8, #nm.pattern<1:8, index>>
// CHECK-DAG: nm.weight @thirds : tensor<4x33xsi8, #nm.pattern<2:3, bitmap>>
// CHECK:     nm.product %x, %{{.*}} : tensor<6x32xsi8>, tensor<4x32xsi8, #nm.pattern<2:4, bitmap>>
