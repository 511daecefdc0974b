// Generated from the docstrings of dialect/nm.py by `python -m tests.support.docstring_examples`; do not edit.
// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
// CHECK: builtin.module {
  func.func @nm.weight() {
  // CHECK-NEXT: func.func @nm.weight() {
    %w = nm.weight @encoder.layer.0.output.dense.weight : tensor<384x1536xsi8, #nm.pattern<2:4, bitmap>>
    // CHECK-NEXT: %w = nm.weight @encoder.layer.0.output.dense.weight : tensor<384x1536xsi8, #nm.pattern<2:4, bitmap>>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.product(%x: tensor<1x128x384xsi8>, %w: tensor<384x384xsi8>, %y: tensor<1x128x384xsi16>) {
  // CHECK-NEXT: func.func @nm.product(%x: tensor<1x128x384xsi8>, %w: tensor<384x384xsi8>, %y: tensor<1x128x384xsi16>) {
    %acc = nm.product %x, %w : tensor<1x128x384xsi8>, tensor<384x384xsi8> -> tensor<1x128x384xsi32>
    // CHECK-NEXT: %acc = nm.product %x, %w : tensor<1x128x384xsi8>, tensor<384x384xsi8> -> tensor<1x128x384xsi32>
    %wide = nm.product %y, %w : tensor<1x128x384xsi16>, tensor<384x384xsi8> -> tensor<1x128x384xsi64>
    // CHECK-NEXT: %wide = nm.product %y, %w : tensor<1x128x384xsi16>, tensor<384x384xsi8> -> tensor<1x128x384xsi64>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.dynamic_product(%a: tensor<2x8x6xsi8>, %b: tensor<1x4x6xsi8>) {
  // CHECK-NEXT: func.func @nm.dynamic_product(%a: tensor<2x8x6xsi8>, %b: tensor<1x4x6xsi8>) {
    %acc = nm.dynamic_product %a, %b : tensor<2x8x6xsi8>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi32>
    // CHECK-NEXT: %acc = nm.dynamic_product %a, %b : tensor<2x8x6xsi8>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.rescale(%x: tensor<8x4xsi16>) {
  // CHECK-NEXT: func.func @nm.rescale(%x: tensor<8x4xsi16>) {
    %y = nm.rescale %x bias -3 scale <1073741824, 31> : tensor<8x4xsi16> -> tensor<8x4xsi32>
    // CHECK-NEXT: %y = nm.rescale %x bias -3 scale <1073741824, 31> : tensor<8x4xsi16> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.rescale_channels(%acc: tensor<8x4xsi32>, %bias: tensor<4xsi32>, %multiplier: tensor<4xsi32>, %shift: tensor<4xsi8>) {
  // CHECK-NEXT: func.func @nm.rescale_channels(%acc: tensor<8x4xsi32>, %bias: tensor<4xsi32>, %multiplier: tensor<4xsi32>, %shift: tensor<4xsi8>) {
    %y = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<8x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<8x4xsi32>
    // CHECK-NEXT: %y = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<8x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.table(%x: tensor<8x4xsi32>, %table: tensor<513xsi16>) {
  // CHECK-NEXT: func.func @nm.table(%x: tensor<8x4xsi32>, %table: tensor<513xsi16>) {
    %y = nm.table %x, %table : tensor<8x4xsi32>, tensor<513xsi16> -> tensor<8x4xsi32>
    // CHECK-NEXT: %y = nm.table %x, %table : tensor<8x4xsi32>, tensor<513xsi16> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.add(%a: tensor<8x4xsi32>, %b: tensor<4xsi32>) {
  // CHECK-NEXT: func.func @nm.add(%a: tensor<8x4xsi32>, %b: tensor<4xsi32>) {
    %c = nm.add %a, %b : tensor<8x4xsi32>, tensor<4xsi32> -> tensor<8x4xsi32>
    // CHECK-NEXT: %c = nm.add %a, %b : tensor<8x4xsi32>, tensor<4xsi32> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.subtract(%a: tensor<8x4xsi32>, %b: tensor<8x1xsi32>) {
  // CHECK-NEXT: func.func @nm.subtract(%a: tensor<8x4xsi32>, %b: tensor<8x1xsi32>) {
    %c = nm.subtract %a, %b : tensor<8x4xsi32>, tensor<8x1xsi32> -> tensor<8x4xsi32>
    // CHECK-NEXT: %c = nm.subtract %a, %b : tensor<8x4xsi32>, tensor<8x1xsi32> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.maximum(%a: tensor<8x4xsi32>, %b: tensor<1x4xsi32>) {
  // CHECK-NEXT: func.func @nm.maximum(%a: tensor<8x4xsi32>, %b: tensor<1x4xsi32>) {
    %c = nm.maximum %a, %b : tensor<8x4xsi32>, tensor<1x4xsi32> -> tensor<8x4xsi32>
    // CHECK-NEXT: %c = nm.maximum %a, %b : tensor<8x4xsi32>, tensor<1x4xsi32> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.minimum(%a: tensor<8x4xsi32>, %b: tensor<1xsi32>) {
  // CHECK-NEXT: func.func @nm.minimum(%a: tensor<8x4xsi32>, %b: tensor<1xsi32>) {
    %c = nm.minimum %a, %b : tensor<8x4xsi32>, tensor<1xsi32> -> tensor<8x4xsi32>
    // CHECK-NEXT: %c = nm.minimum %a, %b : tensor<8x4xsi32>, tensor<1xsi32> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.multiply(%a: tensor<8x4xsi32>, %b: tensor<8x4xsi16>) {
  // CHECK-NEXT: func.func @nm.multiply(%a: tensor<8x4xsi32>, %b: tensor<8x4xsi16>) {
    %y = nm.multiply %a, %b bias -3 scale <1073741824, 45> : tensor<8x4xsi32>, tensor<8x4xsi16> -> tensor<8x4xsi32>
    // CHECK-NEXT: %y = nm.multiply %a, %b bias -3 scale <1073741824, 45> : tensor<8x4xsi32>, tensor<8x4xsi16> -> tensor<8x4xsi32>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.clamp(%x: tensor<8x4xsi32>) {
  // CHECK-NEXT: func.func @nm.clamp(%x: tensor<8x4xsi32>) {
    %y = nm.clamp %x zero_point -3 : tensor<8x4xsi32> -> tensor<8x4xsi8>
    // CHECK-NEXT: %y = nm.clamp %x zero_point -3 : tensor<8x4xsi32> -> tensor<8x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.linear(%x: tensor<8x6xsi8>, %w: tensor<4x6xsi8>, %bias: tensor<4xsi32>, %multiplier: tensor<4xsi32>, %shift: tensor<4xsi8>, %r: tensor<8x4xsi16>) {
  // CHECK-NEXT: func.func @nm.linear(%x: tensor<8x6xsi8>, %w: tensor<4x6xsi8>, %bias: tensor<4xsi32>, %multiplier: tensor<4xsi32>, %shift: tensor<4xsi8>, %r: tensor<8x4xsi16>) {
    %y = nm.linear %x, %w, %bias, %multiplier, %shift residual %r residual_scale <1073741824, 31> : tensor<8x6xsi8>, tensor<4x6xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>, tensor<8x4xsi16> -> tensor<8x4xsi16>
    // CHECK-NEXT: %y = nm.linear %x, %w, %bias, %multiplier, %shift residual %r residual_scale <1073741824, 31> : tensor<8x6xsi8>, tensor<4x6xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>, tensor<8x4xsi16> -> tensor<8x4xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.matmul(%a: tensor<2x8x6xsi16>, %b: tensor<1x4x6xsi8>) {
  // CHECK-NEXT: func.func @nm.matmul(%a: tensor<2x8x6xsi16>, %b: tensor<1x4x6xsi8>) {
    %y = nm.matmul %a, %b scale <1073741824, 38> : tensor<2x8x6xsi16>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi16>
    // CHECK-NEXT: %y = nm.matmul %a, %b scale <1073741824, 38> : tensor<2x8x6xsi16>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.map(%x: tensor<8x4xsi16>, %t: tensor<513xsi16>) {
  // CHECK-NEXT: func.func @nm.map(%x: tensor<8x4xsi16>, %t: tensor<513xsi16>) {
    %y = nm.map %x scale <1073741824, 34> table %t zero_point -3 : tensor<8x4xsi16>, tensor<513xsi16> -> tensor<8x4xsi8>
    // CHECK-NEXT: %y = nm.map %x scale <1073741824, 34> table %t zero_point -3 : tensor<8x4xsi16>, tensor<513xsi16> -> tensor<8x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.norm(%x: tensor<8x4xsi16>, %gamma: tensor<4xsi32>, %beta: tensor<4xsi32>) {
  // CHECK-NEXT: func.func @nm.norm(%x: tensor<8x4xsi16>, %gamma: tensor<4xsi32>, %beta: tensor<4xsi32>) {
    %y, %copy = nm.norm layer %x, %gamma, %beta epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<8x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<8x4xsi16> copy tensor<8x4xsi8>
    // CHECK-NEXT: %y, %copy = nm.norm layer %x, %gamma, %beta epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<8x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<8x4xsi16> copy tensor<8x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.rotate(%x: tensor<1x2x6x4xsi16>, %cosines: tensor<6x4xsi16>, %sines: tensor<6x4xsi16>) {
  // CHECK-NEXT: func.func @nm.rotate(%x: tensor<1x2x6x4xsi16>, %cosines: tensor<6x4xsi16>, %sines: tensor<6x4xsi16>) {
    %y = nm.rotate half 4 of %x by %cosines, %sines scale <1073741824, 45> : tensor<1x2x6x4xsi16>, tensor<6x4xsi16>, tensor<6x4xsi16> -> tensor<1x2x6x4xsi8>
    // CHECK-NEXT: %y = nm.rotate half 4 of %x by %cosines, %sines scale <1073741824, 45> : tensor<1x2x6x4xsi16>, tensor<6x4xsi16>, tensor<6x4xsi16> -> tensor<1x2x6x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.gather(%table: tensor<30522x384xsi16>, %ids: tensor<1x128xsi32>) {
  // CHECK-NEXT: func.func @nm.gather(%table: tensor<30522x384xsi16>, %ids: tensor<1x128xsi32>) {
    %rows = nm.gather %table, %ids : tensor<30522x384xsi16>, tensor<1x128xsi32> -> tensor<1x128x384xsi16>
    // CHECK-NEXT: %rows = nm.gather %table, %ids : tensor<30522x384xsi16>, tensor<1x128xsi32> -> tensor<1x128x384xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.attention(%q: tensor<1x2x6x4xsi8>, %k: tensor<1x2x6x4xsi8>, %v: tensor<1x2x6x4xsi8>, %m: tensor<1x1x1x6xui8>) {
  // CHECK-NEXT: func.func @nm.attention(%q: tensor<1x2x6x4xsi8>, %k: tensor<1x2x6x4xsi8>, %v: tensor<1x2x6x4xsi8>, %m: tensor<1x1x1x6xui8>) {
    %y = nm.attention %q, %k, %v mask %m score_scale <1880514136, 35> output_scale <1646651973, 30> permutation [0, 2, 1, 3] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x6xui8> -> tensor<1x6x2x4xsi8>
    // CHECK-NEXT: %y = nm.attention %q, %k, %v mask %m score_scale <1880514136, 35> output_scale <1646651973, 30> permutation [0, 2, 1, 3] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x6xui8> -> tensor<1x6x2x4xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.view(%x: tensor<1x128x384xsi8>) {
  // CHECK-NEXT: func.func @nm.view(%x: tensor<1x128x384xsi8>) {
    %y = nm.view %x : tensor<1x128x384xsi8> -> tensor<1x128x12x32xsi8>
    // CHECK-NEXT: %y = nm.view %x : tensor<1x128x384xsi8> -> tensor<1x128x12x32xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.permute(%x: tensor<1x128x12x32xsi8>) {
  // CHECK-NEXT: func.func @nm.permute(%x: tensor<1x128x12x32xsi8>) {
    %y = nm.permute %x by [0, 2, 1, 3] : tensor<1x128x12x32xsi8> -> tensor<1x12x128x32xsi8>
    // CHECK-NEXT: %y = nm.permute %x by [0, 2, 1, 3] : tensor<1x128x12x32xsi8> -> tensor<1x12x128x32xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.slice(%x: tensor<1x128x384xsi8>) {
  // CHECK-NEXT: func.func @nm.slice(%x: tensor<1x128x384xsi8>) {
    %y = nm.slice %x axis 1 from 0 to 1 : tensor<1x128x384xsi8> -> tensor<1x1x384xsi8>
    // CHECK-NEXT: %y = nm.slice %x axis 1 from 0 to 1 : tensor<1x128x384xsi8> -> tensor<1x1x384xsi8>
    %z = nm.slice %x axis 1 from 1 to 128 step 2 : tensor<1x128x384xsi8> -> tensor<1x64x384xsi8>
    // CHECK-NEXT: %z = nm.slice %x axis 1 from 1 to 128 step 2 : tensor<1x128x384xsi8> -> tensor<1x64x384xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.broadcast(%x: tensor<1x384xsi8>) {
  // CHECK-NEXT: func.func @nm.broadcast(%x: tensor<1x384xsi8>) {
    %y = nm.broadcast %x : tensor<1x384xsi8> -> tensor<2x128x384xsi8>
    // CHECK-NEXT: %y = nm.broadcast %x : tensor<1x384xsi8> -> tensor<2x128x384xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.concatenate(%a: tensor<1x1x384xsi16>, %b: tensor<1x64x384xsi16>) {
  // CHECK-NEXT: func.func @nm.concatenate(%a: tensor<1x1x384xsi16>, %b: tensor<1x64x384xsi16>) {
    %y = nm.concatenate %a, %b axis 1 : (tensor<1x1x384xsi16>, tensor<1x64x384xsi16>) -> tensor<1x65x384xsi16>
    // CHECK-NEXT: %y = nm.concatenate %a, %b axis 1 : (tensor<1x1x384xsi16>, tensor<1x64x384xsi16>) -> tensor<1x65x384xsi16>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
  func.func @nm.windows(%x: tensor<1x9x384xsi8>) {
  // CHECK-NEXT: func.func @nm.windows(%x: tensor<1x9x384xsi8>) {
    %y = nm.windows %x axis 1 size 3 step 2 : tensor<1x9x384xsi8> -> tensor<1x4x384x3xsi8>
    // CHECK-NEXT: %y = nm.windows %x axis 1 size 3 step 2 : tensor<1x9x384xsi8> -> tensor<1x4x384x3xsi8>
    func.return
    // CHECK-NEXT: func.return
  }
  // CHECK-NEXT: }
}
// CHECK-NEXT: }
