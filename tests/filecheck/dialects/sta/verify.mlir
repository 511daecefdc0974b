// RUN: sta opt %s --split-input-file --verify-diagnostics --parsing-diagnostics | filecheck %s

// CHECK: 'sta.l1' is not registered
%x = sta.alloc "x" : memref<128x8xsi8, #sta.l1>

// -----

// CHECK: names no memory (dram, spad, wbuf or acc)
%x = sta.alloc "x" : memref<128x8xsi8>

// -----

// CHECK: element type f32 is none of si8, ui8, si16, si32
%x = sta.alloc "x" : memref<128x8xf32, #sta.spad>

// -----

// CHECK: memref<?x8xsi8, #sta.spad> has a dynamic shape
%x = sta.alloc "x" : memref<?x8xsi8, #sta.spad>

// -----

// CHECK: a constant lives in dram
%w = sta.constant @w weights : wbuf<20xui8>

// -----

// CHECK: class 'weight' is none of
%w = sta.constant @w weight : dram<20xui8>

// -----

// CHECK: a view stays in its memory
%x = sta.alloc "x" : spad<128x8xsi8>
%y = "sta.view"(%x) <{offset = 0 : i64, coefficients = array<i64>}> : (memref<128x8xsi8, #sta.spad>) -> memref<32x8xsi8, strided<[8, 1], offset: ?>, #sta.acc>

// -----

// CHECK: a view has strides, and an offset that is not part of its type
%x = sta.alloc "x" : spad<128x8xsi8>
%y = "sta.view"(%x) <{offset = 0 : i64, coefficients = array<i64>}> : (memref<128x8xsi8, #sta.spad>) -> memref<32x8xsi8, #sta.spad>

// -----

// CHECK: a view cannot start before its buffer
%x = sta.alloc "x" : spad<128x8xsi8>
%y = sta.view %x[-8] sizes [32, 8] strides [8, 1] : spad<128x8xsi8>

// -----

// CHECK: every counter needs a coefficient
%x, %i = "test.op"() : () -> (memref<128x8xsi8, #sta.spad>, index)
%y = "sta.view"(%x, %i) <{offset = 0 : i64, coefficients = array<i64>}> : (memref<128x8xsi8, #sta.spad>, index) -> memref<32x8xsi8, strided<[8, 1], offset: ?>, #sta.spad>

// -----

// CHECK: the body takes the counter, an index, and nothing else
"sta.loop"() <{count = 4 : i64}> ({
^bb0(%i: index, %j: index):
}) : () -> ()

// -----

// CHECK: the body takes the counter, an index, and nothing else
"sta.loop"() <{count = 4 : i64}> ({
^bb0:
}) : () -> ()

// -----

// CHECK: a loop counts from 0
sta.loop %i = 1 to 4 {
}

// -----

// CHECK: a loop cannot run a negative number of times
sta.loop %i = 0 to -1 {
}

// -----

// CHECK: a load reads dram
%x, %y = "test.op"() : () -> (memref<6x8xsi8, #sta.spad>, memref<6x8xsi8, #sta.spad>)
sta.load %x to %y : spad<6x8xsi8>, spad<6x8xsi8>

// -----

// CHECK: a load writes spad or wbuf
%x, %y = "test.op"() : () -> (memref<6x8xsi8, #sta.dram>, memref<6x8xsi8, #sta.acc>)
sta.load %x to %y : dram<6x8xsi8>, acc<6x8xsi8>

// -----

// CHECK: a store writes dram
%x, %y = "test.op"() : () -> (memref<6x8xsi8, #sta.spad>, memref<6x8xsi8, #sta.spad>)
sta.store %x to %y : spad<6x8xsi8>, spad<6x8xsi8>

// -----

// CHECK: a transfer keeps the element type
%x, %y = "test.op"() : () -> (memref<6x8xsi8, #sta.dram>, memref<6x8xui8, #sta.spad>)
sta.load %x to %y : dram<6x8xsi8>, spad<6x8xui8>

// -----

// CHECK: rows must be contiguous
%x, %y = "test.op"() : () -> (memref<6x8xsi8, strided<[16, 2], offset: ?>, #sta.dram>, memref<6x8xsi8, #sta.spad>)
sta.load %x to %y : dram<6x8xsi8, [16, 2]>, spad<6x8xsi8>

// -----

// CHECK: the indices must be in spad, got dram
%table, %ids, %rows = "test.op"() : () -> (memref<30x8xsi16, #sta.dram>, memref<6xsi32, #sta.dram>, memref<6x8xsi16, #sta.spad>)
sta.gather %table[%ids] to %rows : dram<30x8xsi16>, dram<6xsi32>, spad<6x8xsi16>

// -----

// CHECK: the packed operand must have shape (20,), got (21,)
%acc, %a, %b = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x8xsi8, #sta.spad>, memref<21xui8, #sta.wbuf>)
sta.mm %a, %b to %acc pattern <2:4, bitmap> : spad<6x8xsi8>, wbuf<21xui8>, acc<6x4xsi32>

// -----

// CHECK: an operand in spad is dense
%acc, %a, %b = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x8xsi8, #sta.spad>, memref<4x8xsi8, #sta.spad>)
sta.mm %a, %b to %acc pattern <2:4, bitmap> : spad<6x8xsi8>, spad<4x8xsi8>, acc<6x4xsi32>

// -----

// CHECK: a packed operand is not transposed
%acc, %a, %b = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x8xsi8, #sta.spad>, memref<20xui8, #sta.wbuf>)
sta.mm %a, %b to %acc pattern <2:4, bitmap> transposed : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>

// -----

// CHECK: acc must be in acc, got spad
%acc, %a, %b = "test.op"() : () -> (memref<6x4xsi32, #sta.spad>, memref<6x8xsi8, #sta.spad>, memref<20xui8, #sta.wbuf>)
sta.mm %a, %b to %acc pattern <2:4, bitmap> : spad<6x8xsi8>, wbuf<20xui8>, spad<6x4xsi32>

// -----

// CHECK: the sums must have shape (6,), got (5,)
%acc, %p, %sums, %parameters = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x4xui8, #sta.spad>, memref<5xsi32, #sta.spad>, memref<16xui8, #sta.wbuf>)
sta.softmax row %acc to %p sums %sums parameters %parameters : acc<6x4xsi32>, spad<6x4xui8>, spad<5xsi32>, wbuf<16xui8>

// -----

// CHECK: normalize needs sums and scalar scales
%acc, %y, %parameters = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>)
sta.map %acc to %y parameters %parameters normalize : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>

// -----

// CHECK: a norm that writes nothing
%x, %parameters = "test.op"() : () -> (memref<6x8xsi16, #sta.spad>, memref<96xui8, #sta.wbuf>)
sta.norm layer %x parameters %parameters : spad<6x8xsi16>, wbuf<96xui8>

// -----

// CHECK: only rows of si16 have statistics
%acc, %y, %parameters = "test.op"() : () -> (memref<6x4xsi32, #sta.acc>, memref<6x4xsi8, #sta.spad>, memref<64xui8, #sta.wbuf>)
sta.map %acc to %y parameters %parameters statistics : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<64xui8>

// -----

// CHECK: unit 'alu' is not one of ld, st, mm, sm, vp
sta.sync alu

// -----

// CHECK: type expected
%x = sta.alloc "x" : l1<128x8xsi8>
