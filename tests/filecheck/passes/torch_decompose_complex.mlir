// RUN: sta opt %s -p torch-decompose-complex | filecheck %s

// The square of complex numbers: real and imaginary parts are put together at the end.
// CHECK:      %[[REAL:.*]] = torch.aten.view {{.*}} -> !torch.vtensor<[3],f32>
// CHECK:      %[[IMAGINARY:.*]] = torch.aten.view {{.*}} -> !torch.vtensor<[3],f32>
// CHECK:      torch.aten.sub.Tensor {{.*}} -> !torch.vtensor<[3],f32>
// CHECK:      torch.aten.mul.Tensor %[[REAL]], %[[IMAGINARY]] :
// CHECK:      torch.aten.mul.Tensor %[[IMAGINARY]], %[[REAL]] :
// CHECK:      torch.aten.cat {{.*}} -> !torch.vtensor<[3,2],f32>
// CHECK-NOT:  complex
func.func @main(%x: !torch.vtensor<[3,2],f32> {sta.name = "x"}) -> (!torch.vtensor<[3,2],f32> {sta.name = "y"}) {
  %numbers = torch.aten.view_as_complex %x : !torch.vtensor<[3,2],f32> -> !torch.vtensor<[3],complex<f32>>
  %squares = torch.aten.mul.Tensor %numbers, %numbers : !torch.vtensor<[3],complex<f32>>, !torch.vtensor<[3],complex<f32>> -> !torch.vtensor<[3],complex<f32>>
  %y = torch.aten.view_as_real %squares : !torch.vtensor<[3],complex<f32>> -> !torch.vtensor<[3,2],f32>
  func.return %y : !torch.vtensor<[3,2],f32>
}
