// RUN: %make_weights %t.safetensors w:int8:256x64:2:4 b:int32:256 m:int32:256 s:int8:256
// RUN: sta opt %s --weights %t.safetensors -p nm-plan-tiles | filecheck %s
// RUN: sta opt %s --weights %t.safetensors -p nm-plan-tiles | sta opt --weights %t.safetensors -p convert-nm-to-sta | filecheck %s --check-prefix=LOWERED

// The plan of a layer is an attribute of it, and why it was chosen one of the function.
func.func @main(%x: tensor<512x64xsi8> {sta.port = #sta.port<"x", quantized float32 as int8>}) -> (tensor<512x256xsi8> {sta.port = #sta.port<"y", quantized float32 as int8>}) {
  %w = nm.weight @w : tensor<256x64xsi8, #nm.pattern<2:4, bitmap>>
  %b = nm.weight @b : tensor<256xsi32>
  %m = nm.weight @m : tensor<256xsi32>
  %s = nm.weight @s : tensor<256xsi8>
  %y = nm.linear %x, %w, %b, %m, %s : tensor<512x64xsi8>, tensor<256x64xsi8, #nm.pattern<2:4, bitmap>>, tensor<256xsi32>, tensor<256xsi32>, tensor<256xsi8> -> tensor<512x256xsi8>
  func.return %y : tensor<512x256xsi8>
}

// CHECK:     func.func @main
// CHECK-SAME:  nm.planned_for = "sta-base", sta.tiling = [#sta.tiling<"", linear, {rows = 128, columns = 64, depth = 32, order = "columns"}, buffers
// CHECK:     nm.linear
// CHECK-SAME:  nm.tiling = #nm.linear_tiling<128 x 64 x 32, columns>

// LOWERED:   sta.tiling = [#sta.tiling<"", linear
// LOWERED:   sta.mm {{.*}}acc<128x64xsi32
// LOWERED-NOT: nm.tiling
