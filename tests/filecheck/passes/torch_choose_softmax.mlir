// RUN: sta opt %s -p torch-choose-softmax | filecheck %s --check-prefix=AUTO
// RUN: sta opt %s -p 'torch-choose-softmax{mode=online bits="8"}' | filecheck %s --check-prefix=ONLINE

// Six keys fit: whole rows. Calibration has seen that exponentials of 8 bits lose too much here.
func.func @main(%q: !torch.vtensor<[1,2,6,4],f32> {sta.name = "q"}) -> (!torch.vtensor<[1,2,6,4],f32> {sta.name = "output"}) {
  %none = torch.constant.none
  %zero = torch.constant.float 0.000000e+00
  %false = torch.constant.bool false
  %scale = torch.constant.float 5.000000e-01
  %y = torch.aten.scaled_dot_product_attention %q, %q, %q, %none, %zero, %false, %scale, %false {sta.narrow_fidelity = #torch.decibels<10.0>} : !torch.vtensor<[1,2,6,4],f32>, !torch.vtensor<[1,2,6,4],f32>, !torch.vtensor<[1,2,6,4],f32>, !torch.none, !torch.float, !torch.bool, !torch.float, !torch.bool -> !torch.vtensor<[1,2,6,4],f32>
  func.return %y : !torch.vtensor<[1,2,6,4],f32>
}

// AUTO:      torch.aten.scaled_dot_product_attention
// AUTO-SAME: sta.softmax = #torch.softmax<16 bits>

// ONLINE:      torch.aten.scaled_dot_product_attention
// ONLINE-SAME: sta.softmax = #torch.softmax<8 bits, 6 keys>
