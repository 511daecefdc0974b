// RUN: sta opt %s -p torch-decompose-movement --split-input-file | filecheck %s

// A list of tensors becomes the operands of one operation; the axis counts from the front.
func.func @main(%x: !torch.vtensor<[2,6],f32> {sta.name = "x"}, %y: !torch.vtensor<[2,3],f32> {sta.name = "y"}) -> (!torch.vtensor<[2,9],f32> {sta.name = "output"}) {
  %last = torch.constant.int -1
  %list = torch.prim.ListConstruct %x, %y : (!torch.vtensor<[2,6],f32>, !torch.vtensor<[2,3],f32>) -> !torch.list<vtensor>
  %z = torch.aten.cat %list, %last : !torch.list<vtensor>, !torch.int -> !torch.vtensor<[2,9],f32>
  func.return %z : !torch.vtensor<[2,9],f32>
}

// CHECK:      func.func @main
// CHECK-NEXT:   %z = torch.concatenate %x, %y axis 1
// CHECK-NEXT:   func.return %z

// -----

// Integers stay as they are.
func.func @main(%x: !torch.vtensor<[2],si64> {sta.name = "x"}) -> (!torch.vtensor<[4],si64> {sta.name = "output"}) {
  %first = torch.constant.int 0
  %list = torch.prim.ListConstruct %x, %x : (!torch.vtensor<[2],si64>, !torch.vtensor<[2],si64>) -> !torch.list<vtensor>
  %z = torch.aten.cat %list, %first : !torch.list<vtensor>, !torch.int -> !torch.vtensor<[4],si64>
  func.return %z : !torch.vtensor<[4],si64>
}

// CHECK: torch.aten.cat
