// RUN: sta opt %s --split-input-file --verify-diagnostics --parsing-diagnostics | filecheck %s

// CHECK: pattern 5:4 is not 1 <= N <= M <= 32
%w = nm.weight @w : tensor<4x8xsi8, #nm.pattern<5:4, bitmap>>

// -----

// CHECK: encoding 'bitmaps' is not one of dense, bitmap, index
%w = nm.weight @w : tensor<4x8xsi8, #nm.pattern<2:4, bitmaps>>

// -----

// CHECK: a 2:4 weight cannot be stored as 'dense'
%w = nm.weight @w : tensor<4x8xsi8, #nm.pattern<2:4, dense>>

// -----

// CHECK: a pattern needs a weight of two axes [N, K]
%w = nm.weight @w : tensor<8xsi8, #nm.pattern<2:4, bitmap>>

// -----

// CHECK: a pattern needs a weight of si8
%w = nm.weight @w : tensor<4x8xsi16, #nm.pattern<2:4, bitmap>>

// -----

// CHECK: element type f32 is none of si8, ui8, si16, si32
%w = nm.weight @w : tensor<4x8xf32>

// -----

// CHECK: tensor<?x8xsi8> has a dynamic shape
%w = nm.weight @w : tensor<?x8xsi8>

// -----

// CHECK: K is 8 in the activations and 12 in the weight
%x, %w = "test.op"() : () -> (tensor<6x8xsi8>, tensor<4x12xsi8>)
%acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x12xsi8> -> tensor<6x4xsi32>

// -----

// CHECK: the activations must be si8 or ui8 or si16, got si32
%x, %w = "test.op"() : () -> (tensor<6x8xsi32>, tensor<4x8xsi8>)
%acc = nm.product %x, %w : tensor<6x8xsi32>, tensor<4x8xsi8> -> tensor<6x4xsi32>

// -----

// CHECK: the result must have shape (6, 4), got (4, 6)
%x, %w = "test.op"() : () -> (tensor<6x8xsi8>, tensor<4x8xsi8>)
%acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<4x6xsi32>

// -----

// CHECK: the result must be si64, got si32
%x, %w = "test.op"() : () -> (tensor<6x8xsi16>, tensor<4x8xsi8>)
%acc = nm.product %x, %w : tensor<6x8xsi16>, tensor<4x8xsi8> -> tensor<6x4xsi32>

// -----

// CHECK: the result must be si32, got si64
%x, %w = "test.op"() : () -> (tensor<6x8xsi8>, tensor<4x8xsi8>)
%acc = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<6x4xsi64>

// -----

// CHECK: the operand must be si8 or ui8 or si16 or si32, got si64
%acc = "test.op"() : () -> tensor<6x4xsi64>
%y = nm.rescale %acc scale <1073741824, 31> : tensor<6x4xsi64> -> tensor<6x4xsi32>

// -----

// CHECK: K is 8 in the first factor and 9 in the second
%a, %b = "test.op"() : () -> (tensor<2x6x8xsi16>, tensor<4x9xsi8>)
%acc = nm.dynamic_product %a, %b : tensor<2x6x8xsi16>, tensor<4x9xsi8> -> tensor<2x6x4xsi64>

// -----

// CHECK: the leading axes of (2, 6, 8) and (3, 4, 8) do not broadcast
%a, %b = "test.op"() : () -> (tensor<2x6x8xsi8>, tensor<3x4x8xsi8>)
%acc = nm.dynamic_product %a, %b : tensor<2x6x8xsi8>, tensor<3x4x8xsi8> -> tensor<2x6x4xsi32>

// -----

// CHECK: sums over 65794 elements could leave int32: at most 65793 cannot
%a, %b = "test.op"() : () -> (tensor<6x65794xsi8>, tensor<4x65794xsi8>)
%acc = nm.dynamic_product %a, %b : tensor<6x65794xsi8>, tensor<4x65794xsi8> -> tensor<6x4xsi32>

// -----

// CHECK: the second factor must be si8, got si16
%a, %b = "test.op"() : () -> (tensor<6x8xsi16>, tensor<4x8xsi16>)
%y = nm.matmul %a, %b scale <1073741824, 31> : tensor<6x8xsi16>, tensor<4x8xsi16> -> tensor<6x4xsi16>

// -----

// CHECK: shift 63 is outside [2, 62]
%acc = "test.op"() : () -> tensor<6x4xsi32>
%y = nm.rescale %acc scale <1073741824, 63> : tensor<6x4xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: multiplier -1 is outside [0, 2^31)
%acc = "test.op"() : () -> tensor<6x4xsi32>
%y = nm.rescale %acc scale <-1, 31> : tensor<6x4xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: the bias must have shape (4,), got (5,)
%acc, %bias, %multiplier, %shift = "test.op"() : () -> (tensor<6x4xsi32>, tensor<5xsi32>, tensor<4xsi32>, tensor<4xsi8>)
%y = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<6x4xsi32>, tensor<5xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<6x4xsi32>

// -----

// CHECK: the table must have 513 entries, got shape (512,)
%acc, %table = "test.op"() : () -> (tensor<6x4xsi32>, tensor<512xsi16>)
%y = nm.table %acc, %table : tensor<6x4xsi32>, tensor<512xsi16> -> tensor<6x4xsi32>

// -----

// CHECK: the second operand of shape (3,) does not broadcast to (6, 4)
%a, %b = "test.op"() : () -> (tensor<6x4xsi32>, tensor<3xsi32>)
%y = nm.add %a, %b : tensor<6x4xsi32>, tensor<3xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: neither operand has the result's shape (6, 4): [(6, 1), (1, 4)]
%a, %b = "test.op"() : () -> (tensor<6x1xsi32>, tensor<1x4xsi32>)
%y = nm.subtract %a, %b : tensor<6x1xsi32>, tensor<1x4xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: a factor must be si8 or si16, got si32
%a, %b = "test.op"() : () -> (tensor<6x4xsi32>, tensor<6x4xsi32>)
%y = nm.multiply %a, %b scale <1073741824, 45> : tensor<6x4xsi32>, tensor<6x4xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: the second factor of shape (1, 2) does not broadcast to (6, 4)
%a, %b = "test.op"() : () -> (tensor<6x4xsi32>, tensor<1x2xsi16>)
%y = nm.multiply %a, %b scale <1073741824, 45> : tensor<6x4xsi32>, tensor<1x2xsi16> -> tensor<6x4xsi32>

// -----

// CHECK: the result must be si8 or ui8 or si16, got si32
%x = "test.op"() : () -> tensor<6x4xsi32>
%y = nm.clamp %x : tensor<6x4xsi32> -> tensor<6x4xsi32>

// -----

// CHECK: kind 'batch' is not one of layer, rms
%x, %gamma = "test.op"() : () -> (tensor<6x4xsi16>, tensor<4xsi32>)
%norm = nm.norm batch %x, %gamma, %gamma epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<6x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<6x4xsi16>

// -----

// CHECK: epsilon must be at least 1
%x, %gamma = "test.op"() : () -> (tensor<6x4xsi16>, tensor<4xsi32>)
%norm = nm.norm rms %x, %gamma, %gamma epsilon 0 shift 30 copy_scale <1073741824, 38> : tensor<6x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<6x4xsi16>

// -----

// CHECK: a norm without result
%x, %gamma = "test.op"() : () -> (tensor<6x4xsi16>, tensor<4xsi32>)
nm.norm rms %x, %gamma, %gamma epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<6x4xsi16>, tensor<4xsi32>, tensor<4xsi32>

// -----

// CHECK: the indices must be si32, got si8
%table, %ids = "test.op"() : () -> (tensor<30x8xsi16>, tensor<6xsi8>)
%rows = nm.gather %table, %ids : tensor<30x8xsi16>, tensor<6xsi8> -> tensor<6x8xsi16>

// -----

// CHECK: the result's element type is not the table's
%table, %ids = "test.op"() : () -> (tensor<30x8xsi16>, tensor<6xsi32>)
%rows = nm.gather %table, %ids : tensor<30x8xsi16>, tensor<6xsi32> -> tensor<6x8xsi8>

// -----

// CHECK: a mask of shape (1, 1, 1, 5) does not broadcast to (1, 2, 6, 6)
%q, %m = "test.op"() : () -> (tensor<1x2x6x4xsi8>, tensor<1x1x1x5xui8>)
%y = nm.attention %q, %q, %q mask %m score_scale <1073741824, 34> output_scale <1073741824, 38> : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x5xui8> -> tensor<1x2x6x4xsi8>

// -----

// CHECK: (0, 1, 2, 2) is not a permutation of 0, 1, 2, 3
%q = "test.op"() : () -> tensor<1x2x6x4xsi8>
%y = nm.attention %q, %q, %q score_scale <1073741824, 34> output_scale <1073741824, 38> permutation [0, 1, 2, 2] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8> -> tensor<1x2x6x4xsi8>

// -----

// CHECK: a view keeps the element count
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.view %x : tensor<6x8xsi8> -> tensor<6x9xsi8>

// -----

// CHECK: (0, 0) is not a permutation of the axes
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.permute %x by [0, 0] : tensor<6x8xsi8> -> tensor<6x6xsi8>

// -----

// CHECK: [3, 9) is outside axis 0
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.slice %x axis 0 from 3 to 9 : tensor<6x8xsi8> -> tensor<6x8xsi8>

// -----

// CHECK: a step of 0, which must be at least 1
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.slice %x axis 0 from 3 to 6 step 0 : tensor<6x8xsi8> -> tensor<3x8xsi8>

// -----

// CHECK: (6, 8) does not broadcast to (6, 9)
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.broadcast %x : tensor<6x8xsi8> -> tensor<6x9xsi8>

// -----

// CHECK: a part of shape [6, 8] does not fit [2, 9] along axis 0
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.concatenate %x axis 0 : (tensor<6x8xsi8>) -> tensor<2x9xsi8>

// -----

// CHECK: the parts have 6 positions along axis 0
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.concatenate %x axis 0 : (tensor<6x8xsi8>) -> tensor<7x8xsi8>

// -----

// CHECK: the parts and the result have one element type
%x = "test.op"() : () -> tensor<6x8xsi8>
%y = nm.concatenate %x axis 0 : (tensor<6x8xsi8>) -> tensor<6x8xsi16>
