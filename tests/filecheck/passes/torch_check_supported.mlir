// RUN: not sta opt %s -p torch-check-supported 2>&1 | filecheck %s

// Everything that cannot be compiled is reported at once, with the module it is in.
func.func @main(%x: !torch.vtensor<[1,6,8],f32> {sta.name = "x"}) -> (!torch.vtensor<[1,6,8],f32> {sta.name = "output"}) {
  %last = torch.constant.int -1
  %none = torch.constant.none
  %p = torch.aten.softmax.int %x, %last, %none : !torch.vtensor<[1,6,8],f32>, !torch.int, !torch.none -> !torch.vtensor<[1,6,8],f32> loc("head.softmax")
  %g = torch.aten.relu %p : !torch.vtensor<[1,6,8],f32> -> !torch.vtensor<[1,6,8],f32> loc("head.relu")
  %y = torch.aten.div.Tensor %g, %x : !torch.vtensor<[1,6,8],f32>, !torch.vtensor<[1,6,8],f32> -> !torch.vtensor<[1,6,8],f32> loc("head.gate")
  func.return %y : !torch.vtensor<[1,6,8],f32>
}

// CHECK:      sta: error: the model uses 2 operations that cannot be compiled:
// CHECK-NEXT:   aten.softmax.int in head.softmax: softmax is supported inside attention
// CHECK-NEXT:   aten.div.Tensor in head.gate
// CHECK-NEXT: Supported are
