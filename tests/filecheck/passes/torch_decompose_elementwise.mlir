// RUN: sta opt %s -p torch-decompose-elementwise | filecheck %s

// A comparison is a function of the difference, a selection a sum of products with zeros and ones, and a quotient a
// product with a reciprocal.
func.func @main(%x: !torch.vtensor<[2,4],f32> {sta.name = "x"}, %y: !torch.vtensor<[2,4],f32> {sta.name = "y"}) -> (!torch.vtensor<[2,4],f32> {sta.name = "larger"}, !torch.vtensor<[2,4],f32> {sta.name = "quotient"}) {
  %above = torch.aten.gt.Tensor %x, %y : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],i1>
  %larger = torch.aten.where.self %above, %x, %y : !torch.vtensor<[2,4],i1>, !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  %quotient = torch.aten.div.Tensor %x, %y : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32> -> !torch.vtensor<[2,4],f32>
  func.return %larger, %quotient : !torch.vtensor<[2,4],f32>, !torch.vtensor<[2,4],f32>
}

// CHECK:      %[[DIFFERENCE:.*]] = torch.aten.sub.Tensor %x, %y,
// CHECK:      %above = torch.aten.gt.Scalar %[[DIFFERENCE]],
// CHECK:      %[[CHOSEN:.*]] = torch.aten.to.dtype %above,
// CHECK:      %[[FIRST:.*]] = torch.aten.mul.Tensor %[[CHOSEN]], %x :
// CHECK:      %[[AGAIN:.*]] = torch.aten.to.dtype %above,
// CHECK:      %[[OTHER:.*]] = torch.aten.rsub.Scalar %[[AGAIN]],
// CHECK:      %[[SECOND:.*]] = torch.aten.mul.Tensor %[[OTHER]], %y :
// CHECK:      %larger = torch.aten.add.Tensor %[[FIRST]], %[[SECOND]],
// CHECK:      %[[INVERSE:.*]] = torch.aten.reciprocal %y :
// CHECK:      %quotient = torch.aten.mul.Tensor %x, %[[INVERSE]] :
// CHECK:      func.return %larger, %quotient
