// RUN: sta opt %s -p nm-map-into-rows | filecheck %s

// Two patches of 2x2: the map visits the image patch by patch.
// CHECK:      %[[SPLIT:.*]] = nm.view %x : tensor<1x2x4xsi16> -> tensor<2x2x2xsi16>
// CHECK:      %[[PATCHES:.*]] = nm.permute %[[SPLIT]] by [1, 0, 2] :
// CHECK:      %[[MAPPED:.*]] = nm.map %[[PATCHES]] {{.*}} : tensor<2x2x2xsi16> -> tensor<2x2x2xsi8>
// CHECK:      %[[ROWS:.*]] = nm.view %[[MAPPED]] : tensor<2x2x2xsi8> -> tensor<2x4xsi8>
// CHECK:      func.return %[[ROWS]]
func.func @main(%x: tensor<1x2x4xsi16>) -> tensor<2x4xsi8> {
  %narrow = nm.map %x scale <1073741824, 38> : tensor<1x2x4xsi16> -> tensor<1x2x4xsi8>
  %split = nm.view %narrow : tensor<1x2x4xsi8> -> tensor<2x2x2xsi8>
  %patches = nm.permute %split by [1, 0, 2] : tensor<2x2x2xsi8> -> tensor<2x2x2xsi8>
  %rows = nm.view %patches : tensor<2x2x2xsi8> -> tensor<2x4xsi8>
  func.return %rows : tensor<2x4xsi8>
}
