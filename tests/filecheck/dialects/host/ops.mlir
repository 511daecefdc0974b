// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {
  func.func @prologue(%ids: tensor<2x4xsi64> {sta.name = "ids"}, %x: tensor<3xf32> {sta.name = "x"}) -> (tensor<2x1xi1> {sta.name = "mask"}) {
    %one = host.number value 1 : () -> tensor<si64>
    // CHECK: %one = host.number value 1 : () -> tensor<si64>
    %is_one = host.equal %ids, %one of "aten.ne.Scalar" : (tensor<2x4xsi64>, tensor<si64>) -> tensor<2x4xi1>
    // CHECK-NEXT: %is_one = host.equal %ids, %one of "aten.ne.Scalar" : (tensor<2x4xsi64>, tensor<si64>) -> tensor<2x4xi1>
    %number = host.convert %is_one : (tensor<2x4xi1>) -> tensor<2x4xsi64>
    // CHECK-NEXT: %number = host.convert %is_one : (tensor<2x4xi1>) -> tensor<2x4xsi64>
    %counted = host.cumsum %number axis 1 : (tensor<2x4xsi64>) -> tensor<2x4xsi64>
    // CHECK-NEXT: %counted = host.cumsum %number axis 1 : (tensor<2x4xsi64>) -> tensor<2x4xsi64>
    %part = host.slice %counted axis 1 start 0 stop 4 step 2 : (tensor<2x4xsi64>) -> tensor<2x2xsi64>
    // CHECK-NEXT: %part = host.slice %counted axis 1 start 0 stop 4 step 2 : (tensor<2x4xsi64>) -> tensor<2x2xsi64>
    %turned = host.permute %part axes [1, 0] : (tensor<2x2xsi64>) -> tensor<2x2xsi64>
    // CHECK-NEXT: %turned = host.permute %part axes [1, 0] : (tensor<2x2xsi64>) -> tensor<2x2xsi64>
    %both = host.concatenate %part, %turned axis 0 : (tensor<2x2xsi64>, tensor<2x2xsi64>) -> tensor<4x2xsi64>
    // CHECK-NEXT: %both = host.concatenate %part, %turned axis 0 : (tensor<2x2xsi64>, tensor<2x2xsi64>) -> tensor<4x2xsi64>
    %large = host.amax %is_one axes [1] : (tensor<2x4xi1>) -> tensor<2x1xi1>
    // CHECK-NEXT: %large = host.amax %is_one axes [1] : (tensor<2x4xi1>) -> tensor<2x1xi1>
    func.return %large : tensor<2x1xi1>
  }
  func.func @main(%mask: tensor<2x1xui8>) {
    func.return
  }
}
