// RUN: sta opt %s -p dce | filecheck %s

// What nobody uses goes; what runs on a unit stays, even where nobody reads its result.
builtin.module {
  func.func @main(%x: memref<64xsi8, #sta.dram>) {
    %unused = sta.constant @w weights : dram<64xui8>
    %a = sta.alloc "a" : spad<64xsi8>
    %b = sta.alloc "b" : spad<64xsi8>
    sta.loop %i = 0 to 4 {
      %view = sta.view %b[%i * 8] sizes [8] strides [1] : spad<64xsi8>
      sta.sync mm post [0]
    }
    sta.loop %j = 0 to 4 {
      %view = sta.view %b[%j * 8] sizes [8] strides [1] : spad<64xsi8>
    }
    sta.load %x to %a : dram<64xsi8>, spad<64xsi8>
    sta.fence
    func.return
  }
}

// CHECK:      func.func
// CHECK-NEXT:   %a = sta.alloc "a" : spad<64xsi8>
// CHECK-NEXT:   sta.loop %i = 0 to 4 {
// CHECK-NEXT:     sta.sync mm post [0]
// CHECK-NEXT:   }
// CHECK-NEXT:   sta.load %x to %a : dram<64xsi8>, spad<64xsi8>
// CHECK-NEXT:   sta.fence
// CHECK-NEXT:   func.return
