// RUN: sta opt %s -p torch-calibrate | filecheck %s

// A quantized model: what it leaves in float cannot leave the range that follows from what it rounds.
func.func @main(%x: !torch.vtensor<[6,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[6,4],f32> {sta.name = "output"}) {
  %one = torch.constant.int 1
  %a = torch.fake_quantize %x to si8 scale 2.500000e-01 zero_point -28 : !torch.vtensor<[6,4],f32>
  %b = torch.aten.relu %a : !torch.vtensor<[6,4],f32> -> !torch.vtensor<[6,4],f32>
  %c = torch.fake_quantize %b to si8 scale 2.500000e-01 zero_point -128 : !torch.vtensor<[6,4],f32>
  %y = torch.aten.add.Tensor %a, %c, %one : !torch.vtensor<[6,4],f32>, !torch.vtensor<[6,4],f32>, !torch.int -> !torch.vtensor<[6,4],f32>
  func.return %y : !torch.vtensor<[6,4],f32>
}

// The value of %a is -25 to 38.75, that of %c 0 to 63.75.
// CHECK-NOT:  sta.range
// CHECK:      %b = torch.aten.relu %a :
// CHECK:      %y = torch.aten.add.Tensor %a, %c, %one {sta.bound = #torch.range<-25.0, 102.5>}
