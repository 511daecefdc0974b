// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @values(%x: tensor<1x6x8xsi8>, %acc: tensor<1x6x4xsi32>) {
  // CHECK-NEXT: func.func @values(%x: tensor<1x6x8xsi8>, %acc: tensor<1x6x4xsi32>) {
    %w = nm.weight @encoder.layer.0.dense.weight : tensor<4x8xsi8, #nm.pattern<2:4, bitmap>>
    // CHECK-NEXT: %w = nm.weight @encoder.layer.0.dense.weight : tensor<4x8xsi8, #nm.pattern<2:4, bitmap>>
    %w1 = nm.weight @index : tensor<4x8xsi8, #nm.pattern<1:8, index>>
    // CHECK-NEXT: %w1 = nm.weight @index : tensor<4x8xsi8, #nm.pattern<1:8, index>>
    %w2 = nm.weight @dense : tensor<4x8xsi8, #nm.pattern<1:1, dense>>
    // CHECK-NEXT: %w2 = nm.weight @dense : tensor<4x8xsi8, #nm.pattern<1:1, dense>>
    %w3 = nm.weight @plain : tensor<4x8xsi8>
    // CHECK-NEXT: %w3 = nm.weight @plain : tensor<4x8xsi8>
    %bias = nm.weight @bias : tensor<4xsi32>
    // CHECK-NEXT: %bias = nm.weight @bias : tensor<4xsi32>
    %multiplier = nm.weight @multiplier : tensor<4xsi32>
    // CHECK-NEXT: %multiplier = nm.weight @multiplier : tensor<4xsi32>
    %shift = nm.weight @shift : tensor<4xsi8>
    // CHECK-NEXT: %shift = nm.weight @shift : tensor<4xsi8>
    %table = nm.weight @gelu : tensor<513xsi16>
    // CHECK-NEXT: %table = nm.weight @gelu : tensor<513xsi16>
    %product = nm.product %x, %w : tensor<1x6x8xsi8>, tensor<4x8xsi8, #nm.pattern<2:4, bitmap>> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %product = nm.product %x, %w : tensor<1x6x8xsi8>, tensor<4x8xsi8, #nm.pattern<2:4, bitmap>> -> tensor<1x6x4xsi32>
    %y = "test.op"() : () -> tensor<1x6x8xsi16>
    // CHECK-NEXT: %y = "test.op"() : () -> tensor<1x6x8xsi16>
    %wide = nm.product %y, %w : tensor<1x6x8xsi16>, tensor<4x8xsi8, #nm.pattern<2:4, bitmap>> -> tensor<1x6x4xsi64>
    // CHECK-NEXT: %wide = nm.product %y, %w : tensor<1x6x8xsi16>, tensor<4x8xsi8, #nm.pattern<2:4, bitmap>> -> tensor<1x6x4xsi64>
    %wide_channels = nm.rescale_channels %wide, %bias, %multiplier, %shift : tensor<1x6x4xsi64>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %wide_channels = nm.rescale_channels %wide, %bias, %multiplier, %shift : tensor<1x6x4xsi64>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<1x6x4xsi32>
    %rescaled = nm.rescale %acc bias -3 scale <1073741824, 31> : tensor<1x6x4xsi32> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %rescaled = nm.rescale %acc bias -3 scale <1073741824, 31> : tensor<1x6x4xsi32> -> tensor<1x6x4xsi32>
    %channels = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<1x6x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %channels = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<1x6x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<1x6x4xsi32>
    %looked_up = nm.table %acc, %table : tensor<1x6x4xsi32>, tensor<513xsi16> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %looked_up = nm.table %acc, %table : tensor<1x6x4xsi32>, tensor<513xsi16> -> tensor<1x6x4xsi32>
    %sum = nm.add %acc, %bias : tensor<1x6x4xsi32>, tensor<4xsi32> -> tensor<1x6x4xsi32>
    // CHECK-NEXT: %sum = nm.add %acc, %bias : tensor<1x6x4xsi32>, tensor<4xsi32> -> tensor<1x6x4xsi32>
    %clamped = nm.clamp %sum zero_point -3 : tensor<1x6x4xsi32> -> tensor<1x6x4xui8>
    // CHECK-NEXT: %clamped = nm.clamp %sum zero_point -3 : tensor<1x6x4xsi32> -> tensor<1x6x4xui8>
    %multiplied = nm.multiply %x, %x bias -5 scale <1073741824, 45> : tensor<1x6x8xsi8>, tensor<1x6x8xsi8> -> tensor<1x6x8xsi32>
    // CHECK-NEXT: %multiplied = nm.multiply %x, %x bias -5 scale <1073741824, 45> : tensor<1x6x8xsi8>, tensor<1x6x8xsi8> -> tensor<1x6x8xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }

  func.func @rearrangements(%x: tensor<1x6x8xsi8>, %ids: tensor<1x6xsi32>) {
  // CHECK-NEXT: func.func @rearrangements(%x: tensor<1x6x8xsi8>, %ids: tensor<1x6xsi32>) {
    %rows = nm.weight @embedding : tensor<30x8xsi16>
    // CHECK-NEXT: %rows = nm.weight @embedding : tensor<30x8xsi16>
    %gathered = nm.gather %rows, %ids : tensor<30x8xsi16>, tensor<1x6xsi32> -> tensor<1x6x8xsi16>
    // CHECK-NEXT: %gathered = nm.gather %rows, %ids : tensor<30x8xsi16>, tensor<1x6xsi32> -> tensor<1x6x8xsi16>
    %viewed = nm.view %x : tensor<1x6x8xsi8> -> tensor<1x6x2x4xsi8>
    // CHECK-NEXT: %viewed = nm.view %x : tensor<1x6x8xsi8> -> tensor<1x6x2x4xsi8>
    %permuted = nm.permute %viewed by [0, 2, 1, 3] : tensor<1x6x2x4xsi8> -> tensor<1x2x6x4xsi8>
    // CHECK-NEXT: %permuted = nm.permute %viewed by [0, 2, 1, 3] : tensor<1x6x2x4xsi8> -> tensor<1x2x6x4xsi8>
    %sliced = nm.slice %x axis 1 from 0 to 1 : tensor<1x6x8xsi8> -> tensor<1x1x8xsi8>
    // CHECK-NEXT: %sliced = nm.slice %x axis 1 from 0 to 1 : tensor<1x6x8xsi8> -> tensor<1x1x8xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }

  func.func @fused(%x: tensor<1x6x8xsi8>, %stream: tensor<1x6x4xsi16>, %heads: tensor<1x2x6x4xsi8>, %mask: tensor<1x1x1x6xui8>, %added: tensor<1x1x6x6xsi16>) {
  // CHECK-NEXT: func.func @fused(%x: tensor<1x6x8xsi8>, %stream: tensor<1x6x4xsi16>, %heads: tensor<1x2x6x4xsi8>, %mask: tensor<1x1x1x6xui8>, %added: tensor<1x1x6x6xsi16>) {
    %w = nm.weight @w : tensor<4x8xsi8>
    // CHECK-NEXT: %w = nm.weight @w : tensor<4x8xsi8>
    %bias = nm.weight @bias : tensor<4xsi32>
    // CHECK-NEXT: %bias = nm.weight @bias : tensor<4xsi32>
    %multiplier = nm.weight @multiplier : tensor<4xsi32>
    // CHECK-NEXT: %multiplier = nm.weight @multiplier : tensor<4xsi32>
    %shift = nm.weight @shift : tensor<4xsi8>
    // CHECK-NEXT: %shift = nm.weight @shift : tensor<4xsi8>
    %table = nm.weight @gelu : tensor<513xsi16>
    // CHECK-NEXT: %table = nm.weight @gelu : tensor<513xsi16>
    %linear = nm.linear %x, %w, %bias, %multiplier, %shift residual %stream : tensor<1x6x8xsi8>, tensor<4x8xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>, tensor<1x6x4xsi16> -> tensor<1x6x4xsi16>
    // CHECK-NEXT: %linear = nm.linear %x, %w, %bias, %multiplier, %shift residual %stream : tensor<1x6x8xsi8>, tensor<4x8xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>, tensor<1x6x4xsi16> -> tensor<1x6x4xsi16>
    %mapped = nm.map %stream scale <1073741824, 34> table %table table_scale <1073741824, 37> zero_point -5 : tensor<1x6x4xsi16>, tensor<513xsi16> -> tensor<1x6x4xsi8>
    // CHECK-NEXT: %mapped = nm.map %stream scale <1073741824, 34> table %table table_scale <1073741824, 37> zero_point -5 : tensor<1x6x4xsi16>, tensor<513xsi16> -> tensor<1x6x4xsi8>
    %norm, %copy = nm.norm layer %stream, %bias, %bias epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<1x6x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<1x6x4xsi16> copy tensor<1x6x4xsi8>
    // CHECK-NEXT: %norm, %copy = nm.norm layer %stream, %bias, %bias epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<1x6x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<1x6x4xsi16> copy tensor<1x6x4xsi8>
    %attention = nm.attention %heads, %heads, %heads mask %mask causal score_scale <1073741824, 34> output_scale <1073741824, 38> permutation [0, 2, 1, 3] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x6xui8> -> tensor<1x6x2x4xsi8>
    // CHECK-NEXT: %attention = nm.attention %heads, %heads, %heads mask %mask causal score_scale <1073741824, 34> output_scale <1073741824, 38> permutation [0, 2, 1, 3] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x6xui8> -> tensor<1x6x2x4xsi8>
    %long = nm.attention %heads, %heads, %heads score_scale <1073741824, 34> output_scale <1073741824, 38> probability_bits 16 chunk 4 : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8> -> tensor<1x2x6x4xsi8>
    // CHECK-NEXT: %long = nm.attention %heads, %heads, %heads score_scale <1073741824, 34> output_scale <1073741824, 38> probability_bits 16 chunk 4 : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8> -> tensor<1x2x6x4xsi8>
    %biased = nm.attention %heads, %heads, %heads bias %added score_scale <1073741824, 34> bias_scale <1073741824, 33> output_scale <1073741824, 38> : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x6x6xsi16> -> tensor<1x2x6x4xsi8>
    // CHECK-NEXT: %biased = nm.attention %heads, %heads, %heads bias %added score_scale <1073741824, 34> bias_scale <1073741824, 33> output_scale <1073741824, 38> : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x6x6xsi16> -> tensor<1x2x6x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
