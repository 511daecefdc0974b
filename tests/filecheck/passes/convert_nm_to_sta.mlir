// RUN: %make_weights %t.safetensors w:int8:256x64:2:4 b:int32:256 m:int32:256 s:int8:256
// RUN: sta opt %s --weights %t.safetensors -p convert-nm-to-sta | filecheck %s

// 512 rows are four tiles of 128, 256 columns four of 64. Loops stay loops.
func.func @main(%x: tensor<512x64xsi8> {sta.port = #sta.port<"x", quantized float32 as int8>}) -> (tensor<512x256xsi8> {sta.port = #sta.port<"y", quantized float32 as int8>}) {
  %w = nm.weight @w : tensor<256x64xsi8, #nm.pattern<2:4, bitmap>>
  %b = nm.weight @b : tensor<256xsi32>
  %m = nm.weight @m : tensor<256xsi32>
  %s = nm.weight @s : tensor<256xsi8>
  %y = nm.linear %x, %w, %b, %m, %s : tensor<512x64xsi8>, tensor<256x64xsi8, #nm.pattern<2:4, bitmap>>, tensor<256xsi32>, tensor<256xsi32>, tensor<256xsi8> -> tensor<512x256xsi8>
  func.return %y : tensor<512x256xsi8>
}

// CHECK:     func.func @main(%[[X:.*]]: memref<512x64xsi8, #sta.dram> {sta.port = #sta.port<input "x", quantized float32 as int8>}, %[[Y:.*]]: memref<512x256xsi8, #sta.dram> {sta.port = #sta.port<output "y", quantized float32 as int8>})
// CHECK:     sta.load %[[X]] to %{{.*}} :
// CHECK:     %[[PACKED:.*]] = sta.constant @"w@packed" weights {{.*}} : dram<{{[0-9]+}}xui8>
// CHECK:     sta.loop %{{.*}} = 0 to {{[0-9]+}} {
// CHECK:       sta.view %[[PACKED]][%{{.*}}]
// CHECK:       sta.loop %{{.*}} = 0 to {{[0-9]+}} {
// CHECK:         sta.mm %{{.*}}, %{{.*}} to %[[ACC:.*]] pattern <2:4, bitmap> : {{.*}}, acc<128x64xsi32>
// CHECK:         sta.map %[[ACC]] to %{{.*}} parameters %{{.*}} per_channel
// CHECK:     sta.store
// CHECK-NOT: nm.linear
// CHECK-NOT: tensor<
