// RUN: %make_weights %t.safetensors w:int8:64x64:2:4 b:int32:64 m:int32:64 s:int8:64
// RUN: sta opt %s --weights %t.safetensors -p nm-fuse-epilogues,convert-nm-to-sta | filecheck %s

// 16-bit activations: a pass over their high bytes and one over their low, with the same weights, and one drain of both.
func.func @main(%x: tensor<32x64xsi16> {sta.port = #sta.port<"x", quantized float32 as int16>}) -> (tensor<32x64xsi16> {sta.port = #sta.port<"y", quantized float32 as int16>}) {
  %w = nm.weight @w : tensor<64x64xsi8, #nm.pattern<2:4, bitmap>>
  %b = nm.weight @b : tensor<64xsi32>
  %m = nm.weight @m : tensor<64xsi32>
  %s = nm.weight @s : tensor<64xsi8>
  %acc = nm.product %x, %w : tensor<32x64xsi16>, tensor<64x64xsi8, #nm.pattern<2:4, bitmap>> -> tensor<32x64xsi64>
  %scaled = nm.rescale_channels %acc, %b, %m, %s : tensor<32x64xsi64>, tensor<64xsi32>, tensor<64xsi32>, tensor<64xsi8> -> tensor<32x64xsi32>
  %y = nm.clamp %scaled : tensor<32x64xsi32> -> tensor<32x64xsi16>
  func.return %y : tensor<32x64xsi16>
}

// CHECK:      %[[HIGH:.*]] = sta.view %[[ACC:.*]][0] sizes [16, 64] strides [128, 1] : acc<16x128xsi32>
// CHECK-NEXT: %[[LOW:.*]] = sta.view %[[ACC]][64] sizes [16, 64] strides [128, 1] : acc<16x128xsi32>
// CHECK-NEXT: sta.mm %[[X:.*]], %[[W:.*]] to %[[HIGH]] pattern <2:4, bitmap> plane high :
// CHECK-NEXT: sta.mm %[[X]], %[[W]] to %[[LOW]] pattern <2:4, bitmap> plane low :
// CHECK:      sta.map %[[ACC]] to %{{.*}} parameters %{{.*}} per_channel wide
